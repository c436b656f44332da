"""Carries out what other processes ask of a running sweep.

    Listener --Request--> Controller --calls--> pause, change, cancel_job, … of `Steering`
    source.pause(), … --------^  |--record--> journal
                                 |--one line--> observers
                                 `--answer--> whoever asked

What makes no sense (a job that is not there, or has ended) is answered where somebody waits for an
answer, and otherwise does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from hsm.core.engine.compute_source import SweepObserver
from hsm.core.engine.interrupts import Interruption
from hsm.core.errors import HsmError, shown
from hsm.core.logger import get_logger
from hsm.core.record import own_requests
from hsm.core.record.controls import (
    Add,
    Cancel,
    CancelPending,
    Change,
    Continue,
    Control,
    Explain,
    Pause,
    Prioritize,
    record_of,
    told,
)
from hsm.core.record.fitting import MAX_NUMBERS
from hsm.core.record.job import JobState
from hsm.core.record.journal import Journal, JournalLost
from hsm.core.record.own_requests import Answer
from hsm.core.record.paths import SweepPaths
from hsm.core.record.requests import Request
from hsm.core.settings.resolve import SETTINGS, UNSET, SweepConf

_log = get_logger(__name__)


class Steered(Protocol):
    """What a request may call: see the methods of `ComputeSource` of these names."""

    def get_job_status(self, job_id: str) -> JobState: ...
    def cancel_job(self, job_id: str) -> bool: ...
    def pause(self, *, running: bool = False) -> None: ...
    def unpause(self) -> None: ...
    def change(
        self,
        *,
        max_parallel_jobs: int | str | None = None,
        timeout: float | None = UNSET,
        max_retries: int | None = None,
        gpu_ids: tuple[int | str, ...] | None = UNSET,
        now: bool = False,
    ) -> None: ...
    def set_priority(self, job_ids: Sequence[str], priority: int) -> None: ...
    def cancel_pending(self) -> int: ...
    def explain(self, job_id: str | None = None) -> list[str]: ...


class Controller:
    """Carries out the requests to one source's sweeps, and what the app itself asks. Thread-safe.

    A pause, changed settings and the end of everything pending apply to the source, and so are
    recorded for each of its sweeps.

    Args:
        steered: what is asked.
        journals: the journals of its sweeps.
        interrupt: ends everything.
        observers: are told of each request that was carried out.
        add: adds jobs to a sweep, given its paths, what was asked for, and what records that;
            returns lines for people. Raises HsmError.
    """

    def __init__(
        self,
        steered: Steered,
        journals: Callable[[], Iterable[Journal]],
        interrupt: Callable[[Interruption], None],
        observers: SweepObserver,
        add: Callable[[SweepPaths, Add, Callable[[Add], None]], list[str]],
    ) -> None:
        self._steered = steered
        self._journals = journals
        self._interrupt = interrupt
        self._observers = observers
        self._add = add
        self._pause: Pause | None = None

    def begins(self, journal: Journal) -> None:
        """Another sweep of the source begins: record in its journal that it is paused, if it is."""
        if self._pause is not None:
            _record(journal, self._pause)

    def take(self, paths: SweepPaths, request: Request) -> None:
        """Carry out a request to the sweep at `paths`, and answer it. Never raises."""
        try:
            answer = Answer(self._carry_out(self._journal(paths), request.control))
        except HsmError as error:
            answer = Answer([], str(error))
        except Exception as error:  # a bug; the next request may fare better
            _log.exception("a request to the sweep in %s failed", paths.sweep_dir)
            answer = Answer([], f"it failed: {type(error).__name__}: {shown(str(error))}")
        if request.name:
            own_requests.answer(paths, request.name, answer)

    def take_over(
        self, changes: Mapping[str, Any], conf: SweepConf, named: Collection[str]
    ) -> None:
        """Keep settings that were changed before the sweep was resumed.

        Args:
            changes: the settings and their values.
            conf: the settings that the source has.
            named: those that whoever resumed the sweep has named, and wants so.
        """
        values = {
            name: value
            for name, value in changes.items()
            if name not in named and getattr(conf, name) != value
        }
        if not values:
            return
        try:
            self.do(Change(values))
        except HsmError:  # Nothing was changed: the others are to hold all the same.
            for name, value in values.items():
                try:
                    self.do(Change({name: value}))
                except HsmError as error:
                    self._observers.message(f"not as it was changed before: {error}")

    def _journal(self, paths: SweepPaths) -> Journal:
        for journal in self._journals():
            if journal.paths.sweep_dir == paths.sweep_dir:
                return journal
        raise HsmError(f"the sweep in {paths.sweep_dir} is not running")

    def _carry_out(self, journal: Journal, control: Control) -> list[str]:
        """Do what was asked for; returns lines for who asked. Raises HsmError."""
        match control:
            case Cancel(job=None):
                self._record_everywhere(control)
                self._interrupt(Interruption())
                return []
            case Cancel(job=num):
                self._cancel_job(journal, control, f"{journal.sweep_id}_{num}")
                return []
            case Explain(job=num):
                return self._explain(journal, num)
            case Prioritize():
                return [self.prioritize(journal, control)]
            case CancelPending():
                return [f"{self.cancel_pending()} {told(control)}"]
            case Add():
                lines = self._add(journal.paths, control, partial(_record, journal))
                self._observers.message("; ".join(lines))
                return lines
            case _:
                return [self.do(control)]

    def do(self, control: Pause | Continue | Change) -> str:
        """Do what applies to the whole source; returns a line about it. Raises HsmError."""
        line = told(control)
        match control:
            case Pause(running=running):
                self._steered.pause(running=running)
            case Continue():
                self._steered.unpause()
            case Change(values=values, now=now):
                checked = {
                    name: SETTINGS[name].check(value, "a request") for name, value in values.items()
                }
                self._steered.change(**checked, now=now)
        self._record_everywhere(control)
        if isinstance(control, (Pause, Continue)):
            self._pause = control if isinstance(control, Pause) else None
            self._observers.sweep_paused(self._pause is not None)
        self._observers.message(line)
        return line

    def _cancel_job(self, journal: Journal, control: Cancel, job_id: str) -> None:
        with suppress(KeyError):  # There is no such job.
            if not self._steered.get_job_status(job_id).is_final:
                _record(journal, control)
                self._steered.cancel_job(job_id)

    def cancel_pending(self) -> int:
        """Cancel all jobs that wait; returns how many these were."""
        count = self._steered.cancel_pending()
        self._record_everywhere(CancelPending())
        self._observers.message(f"{count} {told(CancelPending())}")
        return count

    def prioritize(self, journal: Journal, asked: Prioritize) -> str:
        """Give jobs of a sweep another priority; returns a line about it. Raises HsmError."""
        ids = [f"{journal.sweep_id}_{num}" for num in asked.jobs]
        try:
            self._steered.set_priority(ids, asked.priority)
        except KeyError as error:
            raise HsmError(f"no such job: {error.args[0] if error.args else '?'}") from error
        for begin in range(0, len(asked.jobs), MAX_NUMBERS):
            nums = asked.jobs[begin : begin + MAX_NUMBERS]
            _record(journal, Prioritize(nums, asked.priority))
        self._observers.message(told(asked))
        return told(asked)

    def _explain(self, journal: Journal, num: int | None) -> list[str]:
        try:
            return self._steered.explain(None if num is None else f"{journal.sweep_id}_{num}")
        except KeyError as error:
            raise HsmError(f"no job {num} in {journal.sweep_id}") from error

    def _record_everywhere(self, control: Control) -> None:
        for journal in self._journals():
            _record(journal, control)


def _record(journal: Journal, control: Control) -> None:
    # Without room on the disk, the record waits; what was asked for is done all the same.
    with suppress(OSError, JournalLost):
        journal.append("control", keep=True, **record_of(control))
