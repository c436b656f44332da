"""A sweep as its journal tells it: reading the record, and replaying it.

    journal.jsonl --read_sweep--> Sweep (jobs, attempts) <--Replay.advance-- a journal that grows

Nothing here writes, and nothing unpickles. A torn last line is ignored. A damaged one is named in
`Sweep.problems`, and the others are used: what the lost line told is made up for where another one
tells it too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hsm.core.errors import HsmError
from hsm.core.job import Ending, IllegalTransition, Job, JobState
from hsm.core.lock import is_locked
from hsm.core.paths import SweepPaths

#: Of the format: what this hsm writes, and the latest that it reads.
VERSION = 1

_NUMBER = (int, float)
#: What an ending may have, and of what type it is.
ENDING_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "exit_code": int,
    "signal": str,
    "reason": str,
    "error_type": str,
    "error_message": str,
    "cpu_seconds": _NUMBER,
    "max_memory": int,
    "value": object,
    "job_dir": str,
}
#: What else a record may have that is looked at.
_RECORD_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "time": _NUMBER,
    "pid": int,
    "job": int,
    "attempt": int,
    "jobs": list,
}


class JournalError(HsmError):
    """A journal that cannot be read or written; says which file and why."""


@dataclass
class Sweep:
    """A sweep as its journal tells it.

    Attributes:
        sweep_id: its id.
        paths: where everything of it lies.
        header: the journal's first line.
        jobs: by number.
        closed: why its launcher closed it ("finished", "interrupted by SIGINT"); None while that
            runs, or if it died.
        alive: whether a launcher works on it now.
        last_time: when the last record was written, in Unix seconds.
        problems: lines of the journal that could not be used, as ``"line 7: …"``.
        latest: what the latest launcher recorded of itself, as `header` of the first: command line,
            versions, settings, program.
    """

    sweep_id: str
    paths: SweepPaths
    header: dict[str, Any]
    jobs: dict[int, Job] = field(default_factory=dict)
    closed: str | None = None
    alive: bool = False
    last_time: float = 0.0
    problems: list[str] = field(default_factory=list)
    latest: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.latest = self.header

    def apply(self, record: Mapping[str, Any]) -> None:
        """Replay one record.

        Raises:
            KeyError, ValueError, IllegalTransition: it does not fit.
        """
        _check_types(record, _RECORD_FIELDS)
        event = record["event"]
        if event == "submit":
            self._continue()
            for entry in record["jobs"]:
                num = int(entry["job"])
                job_id, label = str(entry["id"]), str(entry["label"])
                self.jobs[num] = Job(num, job_id, label, dict(entry["params"]))
        elif event == "start":
            job = self.jobs[record["job"]]
            _make_up_for_lost_end(job, record)
            job.start(record["time"], record["pid"])
        elif event in ("end", "retry"):
            job = self.jobs[record["job"]]
            _make_up_for_lost_start(job, record)
            (job.end if event == "end" else job.retry)(record["time"], _ending(record))
        elif event in ("resume", "requeue"):
            self._continue(is_new_launcher=event == "resume")
            if event == "resume":
                self.latest = {**self.latest, **record}
            for num in record["jobs"]:
                self.jobs[num].requeue()
        elif event == "close":
            self.closed = str(record["reason"])
        elif event != "sweep":
            raise ValueError(f"unknown event {event!r}")
        self.last_time = record.get("time", self.last_time)

    def _continue(self, *, is_new_launcher: bool = False) -> None:
        """More is to come after what looked like the end."""
        if self.closed is not None or is_new_launcher:
            self._settle()
        self.closed = None

    def settle(self) -> None:
        """Give the jobs that a closed or dead launcher left behind the end that they had."""
        if self.closed is not None or not self.alive:
            self._settle()

    def _settle(self) -> None:
        for job in self.jobs.values():
            if job.state.is_final:
                continue
            if self.closed is None:
                reason = "launcher died"
            elif job.state is JobState.PENDING:
                reason = f"{job.what_it_misses}: {self.closed}"
            else:
                reason = self.closed
            job.end(self.last_time, Ending(JobState.CANCELLED, reason=reason))


def read_sweep(sweep_dir: str | Path, *, alive: bool | None = None) -> Sweep:
    """Replay the journal of the sweep in `sweep_dir`; never writes, and never unpickles anything.

    Args:
        alive: whether a launcher works on it; looked up by default.

    Raises:
        JournalError: there is no journal, its first line is damaged, or a newer hsm wrote it.
    """
    paths = SweepPaths(sweep_dir)
    # The launcher first: one that ends between the two looks has written its last line by then.
    alive = is_locked(paths.lock) if alive is None else alive
    try:
        lines = paths.journal.read_bytes().split(b"\n")
    except OSError as error:
        raise JournalError(f"no sweep in {paths.sweep_dir}: {error.strerror}") from error
    lines.pop()  # What follows the last newline: nothing, or a torn line.
    if not lines:
        raise JournalError(f"no sweep in {paths.sweep_dir}: its record has not begun")
    header = read_header(paths.journal, lines[0])
    sweep = Sweep(header["sweep_id"], paths, header, alive=alive)
    for number, line in enumerate(lines[1:], start=2):
        try:
            sweep.apply(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, IllegalTransition) as error:
            sweep.problems.append(f"line {number}: {error}")
    sweep.settle()
    return sweep


def _make_up_for_lost_start(job: Job, record: Mapping[str, Any]) -> None:
    """The line that told of an attempt's start was damaged: that of its end tells enough."""
    _make_up_for_lost_end(job, record)
    if job.state is JobState.PENDING and record["attempt"] > len(job.attempts):
        job.start(None, None)


def _make_up_for_lost_end(job: Job, record: Mapping[str, Any]) -> None:
    """A further attempt shows that the one before has ended, though its line was damaged."""
    if record["attempt"] <= len(job.attempts):
        return
    if job.state is JobState.RUNNING:
        job.retry(record["time"], Ending(JobState.FAILED, reason="the record of its end is lost"))
    elif job.state.is_final:
        job.requeue()


def _ending(record: Mapping[str, Any]) -> Ending:
    _check_types(record, ENDING_FIELDS)
    details = {name: record.get(name) for name in ENDING_FIELDS}
    return Ending(JobState(record["state"]), **details)


def _check_types(record: Mapping[str, Any], types: Mapping[str, type | tuple[type, ...]]) -> None:
    for name, kind in types.items():
        value = record.get(name)
        if value is not None and not isinstance(value, kind):
            raise ValueError(f"{name} is {value!r}")


def has_begun(path: Path) -> bool:
    """Whether the journal at `path` has a first line.

    One without, whose launcher was killed as it began, records nothing: there is no sweep yet.
    """
    try:
        with path.open("rb") as file:
            return file.readline().endswith(b"\n")
    except OSError:
        return False


def read_header(path: Path, line: bytes) -> dict[str, Any]:
    """What the first line of the journal at `path` says. Raises JournalError."""
    try:
        header = json.loads(line)
        version, _ = header["v"], header["sweep_id"]
    except (ValueError, KeyError, TypeError) as error:
        raise JournalError(f"{path}: the first line does not describe a sweep") from error
    if not isinstance(version, int) or version > VERSION:
        raise JournalError(
            f"{path}: written in format {version} by hsm {header.get('hsm', '?')}; "
            f"this hsm reads up to {VERSION}"
        )
    return dict(header)
