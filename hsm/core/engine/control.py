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

from hsm.core.engine.compute_source import ComputeSource
from hsm.core.engine.interrupts import Interruption
from hsm.core.errors import HsmError, shown
from hsm.core.job_numbers import show_numbers
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
)
from hsm.core.record.fitting import MAX_NUMBERS
from hsm.core.record.journal import Journal, JournalLost
from hsm.core.record.own_requests import Answer
from hsm.core.record.paths import SweepPaths
from hsm.core.record.requests import Request
from hsm.core.settings.resolve import SETTINGS, SweepConf
from hsm.core.units import format_duration

_log = get_logger(__name__)


class Controller:
    """Carries out the requests to one source's sweeps. Called by one thread at a time.

    A pause, changed settings and the end of everything pending apply to the source, and so are
    recorded for each of its sweeps.

    Args:
        source: what is asked.
        journals: the journals of its sweeps.
        interrupt: ends everything.
        tell: gets one line for people about each request that was carried out.
    """

    def __init__(
        self,
        source: ComputeSource,
        journals: Callable[[], Iterable[Journal]],
        interrupt: Callable[[Interruption], None],
        tell: Callable[[str], None],
    ) -> None:
        self._source = source
        self._journals = journals
        self._interrupt = interrupt
        self._tell = tell

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
                self._do(Change(values))
            except HsmError as error:
                self._tell(f"not as it was changed before: {error}")

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
                line = self._prioritize(journal, control)
            case _:
                return [self._do(control)]
        self._tell(line)
        return [line]

    def _do(self, control: Pause | Continue | Change | CancelPending) -> str:
        """Do and record what applies to the whole source; returns a line. Raises HsmError."""
        line = self._change_all(control)
        self._record_everywhere(control)
        self._tell(line)
        return line

    def _change_all(self, control: Pause | Continue | Change | CancelPending) -> str:
        match control:
            case Pause(running=running):
                self._source.pause(running=running)
                jobs = "no job starts or goes on" if running else "no job starts"
                return f"paused by a request: {jobs} until hsm continue"
            case Continue():
                self._source.unpause()
                return "continued by a request"
            case Change(values=values, now=now):
                checked = {
                    name: SETTINGS[name].check(value, "a request") for name, value in values.items()
                }
                self._source.change(**checked, now=now)
                return f"{', '.join(_said(*item) for item in checked.items())} from now on"
            case CancelPending():
                count = self._source.cancel_pending()
                return f"{count} pending job{'' if count == 1 else 's'} cancelled by a request"

    def _cancel_job(self, journal: Journal, control: Cancel, job_id: str) -> None:
        with suppress(KeyError):  # There is no such job.
            if not self._source.get_job_status(job_id).is_final:
                _record(journal, control)
                self._source.cancel_job(job_id)

    def _prioritize(self, journal: Journal, asked: Prioritize) -> str:
        ids = [f"{journal.sweep_id}_{num}" for num in asked.jobs]
        try:
            self._source.set_priority(ids, asked.priority)
        except KeyError as error:
            raise HsmError(f"no such job: {error.args[0] if error.args else '?'}") from error
        for begin in range(0, len(asked.jobs), MAX_NUMBERS):
            nums = asked.jobs[begin : begin + MAX_NUMBERS]
            _record(journal, Prioritize(nums, asked.priority))
        return f"priority {asked.priority} for job {show_numbers(asked.jobs)}"

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


def _said(name: str, value: float | None) -> str:
    """What a changed setting means, as part of a line."""
    if name == "max_parallel_jobs":
        return f"at most {value} job{'' if value == 1 else 's'} at once"
    if name == "timeout":
        limit = "no time limit" if value is None else f"a time limit of {format_duration(value)}"
        return f"{limit} per job"
    return f"{value} {'retry' if value == 1 else 'retries'} per job"
