"""A sweep's append-only record on disk: its writing end.

    LocalComputeSource --Journal.append--> journal.jsonl --hsm.core.record.sweep.read_sweep--> Sweep

One JSON object a line. One process writes; anybody may read at any time. The first line describes
the sweep; then come `submit`, `start` and `end` of jobs and, when the launcher is done, `close`. A
resumed sweep has `resume` and `requeue`, too.

    {"v": 2, "event": "sweep", "sweep_id": …, "time": …, "pid": …, "host": …, "settings": {…}}
    {"event": "submit", "jobs": [{"job": 0, "id": …, "label": …, "params": {…}}, …], "time": …}
    {"event": "start", "job": 0, "attempt": 1, "pid": …, "time": …}
    {"event": "end", "job": 0, "attempt": 1, "state": "FAILED", "exit_code": 3, …, "time": …}
    {"event": "close", "reason": "finished", "time": …}

This is version 2 of the format. Version 1 is read, too; who goes on with such a sweep writes 2, and
says so in the `resume` record. What version 2 has more:

- A line has 64 KiB at most. Submissions of many jobs are split into records (`more` counts the jobs
  that are still to come in the next ones), resumes into a `resume` and `requeue`s. A field of more
  than 16 KiB lies beside the journal, and is there before the record is. The record's `large`, or
  the job's, names it by the hash and size of its JSON, see `hsm.core.record.large`:
  ``"large": {"value": {"sha256": …, "size": …}}``, or ``{"lost": …}``: why it was not kept.
- The state PRUNED, and `control` records: what was asked of the launcher.
- `slot`, `gpus` and `waited` of a start, `planned` of a sweep, `objective` of an end.

A crash or a full disk can tear the last line: readers ignore it and the next writer cuts it off, so
that its own first record does not weld onto it. While a launcher lives it holds a lock on
``.hsm/lock``; where nobody does, what the journal shows as running or waiting has lost its launcher
and reads as CANCELLED.

The file is put onto the disk as it grows, every ten seconds at most: a power cut costs no more than
the last records, whose jobs then run again in a resume.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from hsm.core.at_fork import in_child
from hsm.core.files import open_below
from hsm.core.logger import get_logger
from hsm.core.record import fitting, provenance
from hsm.core.record.job import Ending, Job
from hsm.core.record.journal_file import JournalFile, Overtaken
from hsm.core.record.large import Large, Shelf
from hsm.core.record.lock import Locked, LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.schema import ENDING_FIELDS
from hsm.core.record.sweep import VERSION, JournalError

#: Seconds between two times that the journal is put onto the disk. Where thousands of short jobs
#: have made their directories, the file system takes a while for it.
_SYNC_INTERVAL = 10.0
#: Records that wait for room on the disk with their values; what comes then waits without.
_MAX_WAITING = 100

log = get_logger(__name__)


class SweepInUse(JournalError):
    """Another launcher works in this sweep directory."""


def cannot_write(error: OSError) -> JournalError:
    """What to raise where the record of a sweep cannot be written."""
    return JournalError(f"cannot write {error.filename}: {error.strerror}")


class JournalLost(JournalError):
    """The launcher cannot write this journal any more: another one does, or it cannot be mended."""


@dataclass
class _Waiting:
    """Lines that are to be written: all of them or, if they may wait for it, at another time."""

    lines: bytes
    may_wait: bool = False


class Journal:
    """The writing end of a sweep's journal; a sweep directory has one at most. Thread-safe.

    Args:
        paths: the sweep's paths; its directories are made.
        sweep_id: the sweep's id.
        settings: JSON-able settings for the first line.
        program: what the jobs run, so that the sweep can be resumed from its record alone.
        lock: the lock on ``paths.lock``, if the caller holds it already; released by `close`.
        file: the journal's, if the caller has it open already; closed by `close`.

    Raises:
        SweepInUse: another live launcher writes this journal.
        JournalError: the record cannot be written there.
    """

    def __init__(
        self,
        paths: SweepPaths,
        sweep_id: str,
        settings: Mapping[str, Any],
        *,
        program: Mapping[str, Any] | None = None,
        lock: LockFile | None = None,
        file: JournalFile | None = None,
    ) -> None:
        self.paths = paths
        self.sweep_id = sweep_id
        self._mutex = threading.Lock()
        # Before there is a file, as it takes a while: a journal without its first line is none.
        self._launch = provenance.describe(program)
        try:
            paths.create()
            paths.check_logs()
        except OSError as error:
            raise cannot_write(error) from error
        try:
            self._lock = LockFile(paths.lock) if lock is None else lock
        except Locked as error:
            raise SweepInUse(f"{paths.sweep_dir} is in use by {error.owner}") from error
        try:
            self._file = file or JournalFile(paths, self._lock)
        except BaseException:
            self._lock.release()
            raise
        self.tell_to()
        #: Why it cannot be written any more; "" while it can.
        self.lost = ""
        self._said_lost = False
        self._closed = False
        self._has_resumed = False
        self._waiting: list[_Waiting] = []  # records that there was no room for
        self.shelf = Shelf(paths)
        self._synced = time.monotonic()  # when the journal was put onto the disk
        self._settings, self._program = settings, program
        in_child(self, Journal._forget)
        try:
            if self._file.size == 0:
                self._append_launch("sweep", v=VERSION, sweep_id=sweep_id)
        except BaseException:
            self._free()
            raise

    def _append_launch(self, event: str, **details: Any) -> None:
        """Write what this launcher is and runs, and beside the journal what was not committed."""
        if self._launch.get("git", {}).get("dirty"):
            diff = provenance.uncommitted_changes(self._program)
            if diff is not None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                path = self.paths.new_git_diff()
                with open(open_below(self.paths.sweep_dir, path, flags), "wb") as file:
                    file.write(diff)
        facts = {**self._launch, "settings": self._settings, "program": self._program}
        self.append(event, **details, **facts)

    def tell_to(
        self,
        notice: Callable[[str], None] = log.warning,
        on_lost: Callable[[str], None] = log.error,
    ) -> None:
        """Who is told what happens to the journal; by default the log.

        Args:
            notice: is told a line of what somebody has done to it or its lock.
            on_lost: is told once why it cannot be written any more. The sweep should end then.
        """
        self._notice, self._on_lost = notice, on_lost

    @property
    def is_behind(self) -> bool:
        """Whether records wait for room on the disk."""
        return bool(self._waiting)

    def append(self, event: str, *, keep: bool = False, **details: Any) -> list[str]:
        """Write one record, after those that had to wait.

        Args:
            keep: if the disk does not take it now, write it before the next one; if it would take
                it without the job's return value, write it so.

        Returns:
            What was lost so of this record, or of those that had to wait, in words.

        Raises:
            OSError: the disk does not take it; what was written of it is cut off again.
            JournalLost: it cannot be written any more.
        """
        if self._closed:
            return []
        first = {"v": details.pop("v")} if "v" in details else {}
        record = {**first, "event": event, **details}
        record.setdefault("time", time.time())
        lost: list[str] = []
        line = fitting.line_of(record, partial(self._put, record, lost if keep else None))
        return lost + self._append(_Waiting(line, keep))

    def _put(
        self, record: Mapping[str, Any], lost: list[str] | None, name: str, text: str
    ) -> Large:
        """Keep the field `name` of `record` beside the journal.

        What there is no room for is told in `lost`, if that is given; else it raises OSError.
        """
        try:
            return self.shelf.put(text)
        except OSError as error:
            if lost is None:
                raise
            lost.append(fitting.loss(record, name, error))
            return Large(self.paths, lost=fitting.reason_of(error))

    def _append(self, item: _Waiting) -> list[str]:
        """Write what waits, and then `item`.

        Returns what was lost. Raises OSError, JournalLost.
        """
        lost: list[str] = []
        try:
            with self._mutex:
                if self._closed:
                    return []
                self._waiting.append(item)
                try:
                    self._check_file(partial(self._write_all, lost))
                except OSError as error:
                    if not item.may_wait:
                        self._waiting.pop()
                    elif len(self._waiting) > _MAX_WAITING:
                        item.lines = fitting.without_values(item.lines, error) or item.lines
                    raise
                if time.monotonic() >= self._synced + _SYNC_INTERVAL:
                    self.shelf.sync()
                    self._file.sync()
                    self._synced = time.monotonic()
        finally:
            self._tell()
        return lost

    def _write_all(self, lost: list[str]) -> None:
        """Write what waits; what was lost of it is told in `lost`."""
        while self._waiting:
            lost += self._write(self._waiting[0])
            del self._waiting[0]

    def _write(self, item: _Waiting) -> list[str]:
        """Write a record, without its value if there is no room for that; returns what was lost."""
        try:
            self._file.append(item.lines)
        except OSError as error:
            has_less = item.may_wait and error.errno in fitting.NO_ROOM
            less = fitting.without_values(item.lines, error) if has_less else None
            if less is None:
                raise
            self._file.append(less)
            return [fitting.loss_of(less, error)]
        return []

    def look(self) -> None:
        """See to it that journal and lock on disk are this launcher's.

        Raises:
            JournalLost: it cannot be written any more.
        """
        try:
            with self._mutex:
                if not self._closed:
                    with suppress(OSError):  # The next record tells.
                        self._check_file(self._file.look)
        finally:
            self._tell()

    def _check_file(self, use: Callable[[], None]) -> None:
        """Call `use`, which finds out whether the file is still this launcher's."""
        if not self.lost:
            try:
                use()
            except Overtaken as error:
                self.lost = str(error)
        if self.lost:
            self._waiting.clear()
            raise JournalLost(self.lost)

    def _tell(self) -> None:
        """Tell what has happened to the journal; without the mutex, as who is told may ask it."""
        notices, self._file.notices = self._file.notices, []
        for text in notices:
            self._notice(text)
        if self.lost and not self._said_lost:
            self._said_lost = True
            self._on_lost(self.lost)

    def submit(self, jobs: Iterable[Job]) -> None:
        """`jobs` were queued: either all of them are recorded, or none. Raises OSError."""
        if not self._closed:
            self._append(_Waiting(fitting.submit_lines(list(jobs), time.time(), self.shelf)))

    def resume(self, jobs: Iterable[Job]) -> None:
        """This launcher goes on with the sweep; `jobs`, which had ended, were queued again."""
        nums = [job.num for job in jobs]
        if not self._has_resumed:
            self._append_launch("resume", v=VERSION, jobs=nums[: fitting.MAX_NUMBERS])
            self._has_resumed = True
            nums = nums[fitting.MAX_NUMBERS :]
            if not nums:
                return
        for begin in range(0, max(1, len(nums)), fitting.MAX_NUMBERS):
            self.append("requeue", jobs=nums[begin : begin + fitting.MAX_NUMBERS])

    def start(self, job: Job) -> list[str]:
        """The latest attempt of `job` has started. Returns what was lost, see `append`."""
        attempt = job.attempts[-1]
        details = {
            name: value
            for name in ("slot", "gpus", "waited")
            if (value := getattr(attempt, name)) is not None
        }
        return self.append(
            "start",
            keep=True,
            job=job.num,
            attempt=attempt.number,
            pid=attempt.pid,
            **details,
            time=attempt.started,
        )

    def end(self, job: Job) -> list[str]:
        """`job` has ended. Returns what was lost, see `append`."""
        assert job.outcome is not None
        return self._append_ending("end", job, job.outcome)

    def retry(self, job: Job) -> list[str]:
        """The latest attempt of `job` has ended, and there will be another one.

        Returns what was lost, see `append`.
        """
        ending = job.attempts[-1].ending
        assert ending is not None
        return self._append_ending("retry", job, ending)

    def _append_ending(self, event: str, job: Job, ending: Ending) -> list[str]:
        details = {
            name: value for name in ENDING_FIELDS if (value := getattr(ending, name)) is not None
        }
        if ending.large:
            details["large"] = {name: it.reference() for name, it in ending.large.items()}
        if job.attempts and job.attempts[-1].ended is not None:
            details["time"] = job.attempts[-1].ended
        return self.append(
            event,
            keep=True,
            job=job.num,
            attempt=len(job.attempts),
            state=ending.state.value,
            **details,
        )

    def close(self, reason: str) -> None:
        """Write the last record and give the sweep directory free. Idempotent."""
        # A missing last line reads as a launcher that died.
        with suppress(OSError, JournalLost):
            self.append("close", reason=reason)
        with self._mutex:
            if not self._closed:
                self._free()

    def _forget(self) -> None:
        """In a forked child, which has no business with its parent's journals."""
        self._closed = True  # So is its file.

    def _free(self) -> None:
        self._closed = True
        self._file.close()
        self._lock.release()
