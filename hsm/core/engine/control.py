"""Carries out what other processes ask of a running sweep.

    Listener --Request--> Controller --calls--> the source's methods: pause, change, cancel_job, …
                              |--record--> journal
                              |--one line--> observers
                              `--answer--> whoever asked

What makes no sense (a job that is not there, or has ended) is answered where somebody waits for an
answer, and otherwise does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from hsm.core.engine.compute_source import ComputeSource, SweepObserver
from hsm.core.engine.interrupts import Interruption
from hsm.core.errors import HsmError, shown
from hsm.core.logger import get_logger
from hsm.core.record import own_requests
from hsm.core.record.controls import (
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
from hsm.core.record.journal import Journal, JournalLost
from hsm.core.record.own_requests import Answer
from hsm.core.record.paths import SweepPaths
from hsm.core.record.requests import Request
from hsm.core.settings.resolve import SETTINGS, SweepConf

_log = get_logger(__name__)


class Controller:
    """Carries out the requests to one source's sweeps. Called by one thread at a time.

    A pause, changed settings and the end of everything pending apply to the source, and so are
    recorded for each of its sweeps.

    Args:
        source: what is asked.
        journals: the journals of its sweeps.
        interrupt: ends everything.
        observers: are told of each request that was carried out.
    """

    def __init__(
        self,
        source: ComputeSource,
        journals: Callable[[], Iterable[Journal]],
        interrupt: Callable[[Interruption], None],
        observers: SweepObserver,
    ) -> None:
        self._source = source
        self._journals = journals
        self._interrupt = interrupt
        self._observers = observers

    def take(self, paths: SweepPaths, request: Request) -> None:
        """Carry out a request to the sweep at `paths`, and answer it. Never raises."""
        try:
            answer = Answer(self._carry_out(self._journal(paths), request.control))
        except HsmError as error:
            answer = Answer([], str(error))
        except (
            Exception
        ) as error:  # of a source that is not hsm's; the next request may fare better
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
        if values:
            try:
                self._change_all(Change(values))
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
                self._prioritize(journal, control)
                self._observers.message(told(control))
                return [told(control)]
            case _:
                return [self._change_all(control)]

    def _change_all(self, control: Pause | Continue | Change | CancelPending) -> str:
        """Do what applies to the whole source; returns a line about it. Raises HsmError."""
        line = told(control)
        match control:
            case Pause(running=running):
                self._source.pause(running=running)
            case Continue():
                self._source.unpause()
            case Change(values=values, now=now):
                checked = {
                    name: SETTINGS[name].check(value, "a request") for name, value in values.items()
                }
                self._source.change(**checked, now=now)
            case CancelPending():
                line = f"{self._source.cancel_pending()} {line}"
        self._record_everywhere(control)
        if isinstance(control, (Pause, Continue)):
            self._observers.sweep_paused(isinstance(control, Pause))
        self._observers.message(line)
        return line

    def _cancel_job(self, journal: Journal, control: Cancel, job_id: str) -> None:
        with suppress(KeyError):  # There is no such job.
            if not self._source.get_job_status(job_id).is_final:
                _record(journal, control)
                self._source.cancel_job(job_id)

    def _prioritize(self, journal: Journal, asked: Prioritize) -> None:
        ids = [f"{journal.sweep_id}_{num}" for num in asked.jobs]
        try:
            self._source.set_priority(ids, asked.priority)
        except KeyError as error:
            raise HsmError(f"no such job: {error.args[0] if error.args else '?'}") from error
        for begin in range(0, len(asked.jobs), MAX_NUMBERS):
            nums = asked.jobs[begin : begin + MAX_NUMBERS]
            _record(journal, Prioritize(nums, asked.priority))

    def _explain(self, journal: Journal, num: int | None) -> list[str]:
        try:
            return self._source.explain(None if num is None else f"{journal.sweep_id}_{num}")
        except KeyError as error:
            raise HsmError(f"no job {num} in {journal.sweep_id}") from error

    def _record_everywhere(self, control: Control) -> None:
        for journal in self._journals():
            _record(journal, control)


def _record(journal: Journal, control: Control) -> None:
    # Without room on the disk, the record waits; what was asked for is done all the same.
    with suppress(OSError, JournalLost):
        journal.append("control", keep=True, **record_of(control))
