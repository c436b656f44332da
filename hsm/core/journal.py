"""A sweep's append-only record on disk, and its replay into a `Sweep`.

    LocalComputeSource --Journal.append--> journal.jsonl --read_sweep--> Sweep (jobs, attempts)

One JSON object a line. One process writes, each record with a single `write`; anybody may read at
any time. The first line describes the sweep; then come `submit`, `start` and `end` of jobs and,
when the launcher is done, `close`. A resumed sweep has `resume` and `requeue`, too.

    {"v": 1, "event": "sweep", "sweep_id": …, "time": …, "pid": …, "host": …, "settings": {…}}
    {"event": "submit", "jobs": [{"job": 0, "id": …, "label": …, "params": {…}}, …], "time": …}
    {"event": "start", "job": 0, "attempt": 1, "pid": …, "time": …}
    {"event": "end", "job": 0, "attempt": 1, "state": "FAILED", "exit_code": 3, …, "time": …}
    {"event": "close", "reason": "finished", "time": …}

A crash or a full disk can tear the last line: readers ignore it and the next writer cuts it off, so
that its own first record does not weld onto it. While a launcher lives it holds a lock on
``.hsm/lock``; where nobody does, what the journal shows as running or waiting has lost its launcher
and reads as CANCELLED.
"""

from __future__ import annotations

import errno
import json
import math
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hsm.core import provenance
from hsm.core.errors import HsmError
from hsm.core.job import Ending, IllegalTransition, Job, JobState
from hsm.core.lock import Locked, LockFile, is_locked
from hsm.core.paths import SweepPaths

VERSION = 1

_ENDING_FIELDS = (
    "exit_code",
    "signal",
    "reason",
    "error_type",
    "error_message",
    "cpu_seconds",
    "max_memory",
    "value",
    "job_dir",
)


class JournalError(HsmError):
    """A journal that cannot be read or written; says which file and why."""


class SweepInUse(JournalError):
    """Another launcher works in this sweep directory."""


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
    """

    sweep_id: str
    paths: SweepPaths
    header: dict[str, Any]
    jobs: dict[int, Job] = field(default_factory=dict)
    closed: str | None = None
    alive: bool = False
    last_time: float = 0.0
    problems: list[str] = field(default_factory=list)

    def apply(self, record: Mapping[str, Any]) -> None:
        """Replay one record.

        Raises:
            KeyError, ValueError, IllegalTransition: it does not fit.
        """
        event = record["event"]
        if event == "submit":
            self._continue()
            for entry in record["jobs"]:
                num = int(entry["job"])
                self.jobs[num] = Job(num, entry["id"], entry["label"], dict(entry["params"]))
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
    header = read_header(paths.journal, lines[0] if lines else b"")
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
    details = {name: record.get(name) for name in _ENDING_FIELDS}
    return Ending(JobState(record["state"]), **details)


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


class Journal:
    """The writing end of a sweep's journal; a sweep directory has one at most. Thread-safe.

    Args:
        paths: the sweep's paths; its directories are made.
        sweep_id: the sweep's id.
        settings: JSON-able settings for the first line.
        program: what the jobs run, so that the sweep can be resumed from its record alone.
        lock: the lock on ``paths.lock``, if the caller holds it already; released by `close`.

    Raises:
        SweepInUse: another live launcher writes this journal.
    """

    def __init__(
        self,
        paths: SweepPaths,
        sweep_id: str,
        settings: Mapping[str, Any],
        *,
        program: Mapping[str, Any] | None = None,
        lock: LockFile | None = None,
    ) -> None:
        self.paths = paths
        self.sweep_id = sweep_id
        self._mutex = threading.Lock()
        paths.create()
        try:
            self._lock = LockFile(paths.lock) if lock is None else lock
        except Locked as error:
            raise SweepInUse(f"{paths.sweep_dir} is in use by {error.owner}") from error
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(paths.journal, flags, 0o666)
            _cut_torn_line(self._fd)
        except BaseException:
            self._lock.release()
            raise
        self._closed = False
        self._said_closed = False
        self._has_resumed = False
        self._unwritten: list[bytes] = []  # records that there was no room for
        _open_journals.add(self)
        if os.fstat(self._fd).st_size == 0:
            self._begin(settings, program)

    def _begin(self, settings: Mapping[str, Any], program: Mapping[str, Any] | None) -> None:
        """Write the first line, and beside the journal what had not been committed."""
        facts = provenance.describe()
        if facts.get("git", {}).get("dirty"):
            diff = provenance.uncommitted_changes()
            if diff is not None:
                self.paths.git_diff.write_bytes(diff)
        self.append(
            "sweep",
            v=VERSION,
            sweep_id=self.sweep_id,
            **facts,
            settings=settings,
            program=program,
        )

    @property
    def is_behind(self) -> bool:
        """Whether records wait for room on the disk."""
        return bool(self._unwritten)

    def append(self, event: str, *, keep: bool = False, **details: Any) -> None:
        """Write one record, after those that had to wait.

        Args:
            keep: if the disk does not take it now, write it before the next one.

        Raises:
            OSError: the disk does not take it; what was written of it is cut off again.
        """
        first = {"v": details.pop("v")} if "v" in details else {}
        record = {**first, "event": event, **details}
        record.setdefault("time", time.time())
        line = json.dumps(record, separators=(",", ":"), default=str).encode() + b"\n"
        with self._mutex:
            if self._closed:
                return
            self._said_closed = event == "close"
            self._unwritten.append(line)
            try:
                while self._unwritten:
                    self._write(self._unwritten[0])
                    del self._unwritten[0]
            except OSError:
                if not keep:
                    self._unwritten.pop()
                raise

    def _write(self, line: bytes) -> None:
        if os.write(self._fd, line) < len(line):
            _cut_torn_line(self._fd)
            raise OSError(errno.ENOSPC, f"no room for a record in {self.paths.journal}")

    def submit(self, jobs: Iterable[Job]) -> None:
        """`jobs` were queued."""
        entries = [
            {"job": job.num, "id": job.job_id, "label": job.label, "params": job.params}
            for job in jobs
        ]
        self.append("submit", jobs=entries)

    def resume(self, jobs: Iterable[Job]) -> None:
        """This launcher goes on with the sweep; `jobs`, which had ended, were queued again."""
        nums = [job.num for job in jobs]
        if self._has_resumed:
            self.append("requeue", jobs=nums)
        else:
            self.append("resume", jobs=nums, pid=os.getpid(), host=socket.gethostname())
            self._has_resumed = True

    def start(self, job: Job) -> None:
        """The latest attempt of `job` has started."""
        attempt = job.attempts[-1]
        self.append(
            "start",
            keep=True,
            job=job.num,
            attempt=attempt.number,
            pid=attempt.pid,
            time=attempt.started,
        )

    def end(self, job: Job) -> None:
        """`job` has ended."""
        assert job.outcome is not None
        self._append_ending("end", job, job.outcome)

    def retry(self, job: Job) -> None:
        """The latest attempt of `job` has ended, and there will be another one."""
        ending = job.attempts[-1].ending
        assert ending is not None
        self._append_ending("retry", job, ending)

    def _append_ending(self, event: str, job: Job, ending: Ending) -> None:
        details = {
            name: value for name in _ENDING_FIELDS if (value := getattr(ending, name)) is not None
        }
        if job.attempts and job.attempts[-1].ended is not None:
            details["time"] = job.attempts[-1].ended
        self.append(
            event,
            keep=True,
            job=job.num,
            attempt=len(job.attempts),
            state=ending.state.value,
            **details,
        )

    def say_closed(self, reason: str) -> None:
        """Write that this was the end of the sweep, unless that was the last thing written.

        More may follow nevertheless, if somebody submits more jobs.
        """
        if not self._said_closed:
            with suppress(OSError):  # A missing last line reads as a launcher that died.
                self.append("close", reason=reason)

    def close(self, reason: str) -> None:
        """Write the last record and give the sweep directory free. Idempotent."""
        self.say_closed(reason)
        with self._mutex:
            if not self._closed:
                self._closed = True
                os.close(self._fd)
                self._lock.release()


# A forked child has no business with its parent's journals.
_open_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _after_fork() -> None:
    for journal in list(_open_journals):
        if not journal._closed:
            journal._closed = True
            os.close(journal._fd)


os.register_at_fork(after_in_child=_after_fork)


def json_value(value: Any) -> Any:
    """`value` if JSON gives it back as it is (a scalar of NumPy or torch: its item), else None."""
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "ndim", None) == 0:
        value = item()
    try:
        return value if _same(json.loads(json.dumps(value)), value) else None
    except (TypeError, ValueError, RecursionError):
        return None


def _same(first: Any, second: Any) -> bool:
    """Equality that lets NaN equal itself and, unlike ``==``, tells 1 from 1.0 and True."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(
            _same(first[key], second[key]) for key in first
        )
    if isinstance(first, list) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, float) and isinstance(second, float) and math.isnan(first):
        return math.isnan(second)
    return type(first) is type(second) and bool(first == second)


def _cut_torn_line(fd: int) -> None:
    """Truncate the file after its last newline."""
    end = os.fstat(fd).st_size
    position = end
    while position > 0:
        start = max(0, position - 65536)
        newline = os.pread(fd, position - start, start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position < end:
        os.ftruncate(fd, position)
