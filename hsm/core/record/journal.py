"""Writes a sweep's journal, its append-only record on disk.

    LocalComputeSource --Journal.append--> journal.jsonl --hsm.core.record.sweep.read_sweep--> Sweep

One JSON object per line. One process writes; anyone may read at any time. The first line describes
the sweep. Then follow `submit`, `start` and `end` of jobs and, when the launcher is done, `close`.
A resumed sweep also has `resume` and `requeue`.

    {"v": 2, "event": "sweep", "sweep_id": …, "time": …, "pid": …, "host": …, "settings": {…}}
    {"event": "submit", "jobs": [{"job": 0, "id": …, "label": …, "params": {…}}, …], "time": …}
    {"event": "start", "job": 0, "attempt": 1, "pid": …, "time": …}
    {"event": "end", "job": 0, "attempt": 1, "state": "FAILED", "exit_code": 3, …, "time": …}
    {"event": "close", "reason": "finished", "time": …}

This is version 2 of the format. hsm also reads version 1; a launcher that resumes such a sweep
writes version 2 and says so in the `resume` record. New in version 2:

- A line has at most 64 KiB. Large submissions are split into several records (`more` is the number
  of jobs still to come in the following ones), resumes into a `resume` and `requeue`s. A field of
  more than 16 KiB lies in a file beside the journal, written before its record. The record's (or
  job's) `large` names that file by the hash and size of its JSON, see `hsm.core.record.large`:
  ``"large": {"value": {"sha256": …, "size": …}}``; ``{"lost": …}`` says why it was not kept.
- The state PRUNED, and `control` records: requests to the launcher.
- `slot`, `gpus`, `waited` and `metrics` of a start, `planned` of a sweep, `gpu_memory`, `gpu_load`
  and `objective` of an end, in which numbers that are not finite are texts: "nan", "inf", "-inf".

A crash or a full disk can tear the last line. Readers ignore a torn line; the next writer cuts it
off, so that its own first record starts on a new line. A live launcher holds a lock on
``.hsm/lock``. If nobody holds it, the launcher is dead, and jobs that the journal shows as running
or waiting are read as CANCELLED.

The journal is synced to disk at most every ten seconds as it grows. A power cut therefore loses
only the last records, and a resume runs their jobs again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from hsm.core.at_fork import in_child
from hsm.core.files import open_below
from hsm.core.logger import get_logger
from hsm.core.masked import masked_data
from hsm.core.record import fitting, provenance
from hsm.core.record.attempt_records import ending_fields, start_fields
from hsm.core.record.job import Ending, Job
from hsm.core.record.journal_file import JournalFile, Overtaken
from hsm.core.record.journal_header import VERSION, JournalError
from hsm.core.record.large import Large, Shelf
from hsm.core.record.lock import Locked, LockFile
from hsm.core.record.paths import SweepPaths

#: Minimum seconds between two syncs of the journal to disk, as a sync can be slow: thousands of
#: short jobs may just have made their directories.
_SYNC_INTERVAL = 10.0
#: How many records wait for disk space with their values; any more wait without.
_MAX_WAITING = 100

log = get_logger(__name__)


class SweepInUse(JournalError):
    """Another launcher is using this sweep directory."""


def cannot_write(error: OSError) -> JournalError:
    """The error to raise if a sweep's files cannot be written."""
    return JournalError(f"cannot write {error.filename}: {error.strerror}")


class JournalLost(JournalError):
    """The launcher can no longer write this journal: another one does, or it is beyond repair."""


@dataclass
class _Waiting:
    """Lines to be written, now or not at all; with `may_wait`, they may also be written later."""

    lines: bytes
    may_wait: bool = False


class Journal:
    """Writes a sweep's journal; at most one exists per sweep directory. Thread-safe.

    Args:
        paths: the sweep's paths; makes its directories.
        sweep_id: the sweep's id.
        settings: JSON-able settings for the first line.
        program: what the jobs run, so that the sweep can be resumed from its journal alone.
        facts: what the launch record has besides; an empty one only if a sweep is resumed.
        lock: the lock on ``paths.lock``, if the caller already holds it; released by `close`.
        file: the journal's file, if the caller already has it open; closed by `close`.
        variables: the variables of jobs, whose values no record of the source code may have.

    Raises:
        SweepInUse: another live launcher writes this journal.
        JournalError: the journal cannot be written.
    """

    def __init__(
        self,
        paths: SweepPaths,
        sweep_id: str,
        settings: Mapping[str, Any],
        *,
        program: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] = MappingProxyType({}),
        lock: LockFile | None = None,
        file: JournalFile | None = None,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.paths, self.sweep_id = paths, sweep_id
        self._mutex = threading.Lock()
        # Before the file exists, since this is slow and a journal without a first line is invalid.
        self._launch = {**provenance.describe(program), **facts}
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
        #: Why the journal can no longer be written; "" while it can.
        self.lost = ""
        self._reported_lost = False
        #: What of the source code that runs is not on record, and why; "" if all of it is.
        self.unknown_source = ""
        self._closed = False
        self.has_resumed = False
        self._waiting: list[_Waiting] = []  # records waiting for disk space
        self.shelf = Shelf(paths)
        self._began = time.monotonic()
        self._synced = self._began  # when the journal was last synced to disk
        self._settings, self._program, self._variables = settings, program, variables
        in_child(self, Journal._forget)
        try:
            if self._file.size == 0:
                self._append_launch("sweep", v=VERSION, sweep_id=sweep_id)
        except BaseException:
            self._free()
            raise

    def _append_launch(self, event: str, **details: Any) -> None:
        """Record this launcher and its program; save uncommitted changes beside the journal."""
        git = self._launch.get("git", {})
        if git.get("dirty"):
            changes = provenance.uncommitted_changes(git["commit"], self._program)
            if changes is not None and changes.diff:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                path = self.paths.new_git_diff()
                with open(open_below(self.paths.sweep_dir, path, flags), "wb") as file:
                    file.write(masked_data(changes.diff, self._variables))
            if changes is not None and changes.missing:
                known = git.get("incomplete")
                git["incomplete"] = f"{known}; {changes.missing}" if known else changes.missing
        self.unknown_source = git.get("incomplete", "")
        kept = {name: fact for name, fact in self._launch.items() if fact != {} or event != "sweep"}
        facts = {**kept, "settings": self._settings, "program": self._program}
        self.append(event, **details, **facts)

    def tell_to(
        self,
        notice: Callable[[str], None] = log.warning,
        on_lost: Callable[[str], None] = log.error,
    ) -> None:
        """Set who hears about problems with the journal; default: the log.

        Args:
            notice: gets a line whenever somebody else changed the journal or its lock.
            on_lost: gets the reason, once, if the journal can no longer be written. The sweep
                should end then.
        """
        self._notice, self._on_lost = notice, on_lost

    @property
    def is_behind(self) -> bool:
        """Whether records are waiting for disk space."""
        return bool(self._waiting)

    def append(self, event: str, *, keep: bool = False, **details: Any) -> list[str]:
        """Write one record, after any that are waiting.

        Args:
            event: the record's event.
            keep: if the write fails, write the record before the next one; if it fits only without
                the job's return value, write it without.
            details: the record's other fields.

        Returns:
            Messages: what was lost of this or of waiting records because of `keep`.

        Raises:
            OSError: the write failed; a partial line was cut off again.
            JournalLost: the journal can no longer be written.
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
        """Store the field `name` of `record` beside the journal.

        If there is no room, adds a message to `lost` or, without `lost`, raises OSError.
        """
        try:
            return self.shelf.put(text)
        except OSError as error:
            if lost is None:
                raise
            lost.append(fitting.loss(record, name, error))
            return Large(self.paths, lost=fitting.reason_of(error))

    def _append(self, item: _Waiting) -> list[str]:
        """Write the waiting records, and then `item`.

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
        """Write the waiting records; adds what was lost of them to `lost`."""
        while self._waiting:
            lost += self._write(self._waiting[0])
            del self._waiting[0]

    def _write(self, item: _Waiting) -> list[str]:
        """Write a record, without its value if there is no room for that; returns what was lost."""
        try:
            self._file.append(item.lines)
        except OSError as error:
            may_shorten = item.may_wait and error.errno in fitting.NO_ROOM
            short = fitting.without_values(item.lines, error) if may_shorten else None
            if short is None:
                raise
            self._file.append(short)
            return [fitting.loss_of(short, error)]
        return []

    def look(self) -> None:
        """Check that the journal and lock on disk are still this launcher's; repair them if not.

        Raises:
            JournalLost: the journal can no longer be written.
        """
        try:
            with self._mutex:
                if not self._closed:
                    with suppress(OSError):  # Writing the next record will report it.
                        self._check_file(self._file.look)
        finally:
            self._tell()

    def _check_file(self, use: Callable[[], None]) -> None:
        """Call `use`, and note if it finds that the file is no longer this launcher's."""
        if not self.lost:
            try:
                use()
            except Overtaken as error:
                self.lost = str(error)
        if self.lost:
            self._waiting.clear()
            raise JournalLost(self.lost)

    def _tell(self) -> None:
        """Send the notices. Called without the mutex, since the callbacks may use this journal."""
        notices, self._file.notices = self._file.notices, []
        for text in notices:
            self._notice(text)
        if self.lost and not self._reported_lost:
            self._reported_lost = True
            self._on_lost(self.lost)

    def submit(self, jobs: Iterable[Job]) -> None:
        """`jobs` were queued; records all of them or none. Raises OSError, JournalLost."""
        if not self._closed:
            self._append(_Waiting(fitting.submit_lines(list(jobs), time.time(), self.shelf)))

    def resume(self, jobs: Iterable[Job]) -> None:
        """This launcher has resumed the sweep and requeued `jobs`, which had ended."""
        nums = [job.num for job in jobs]
        if not self.has_resumed:
            self._append_launch("resume", v=VERSION, jobs=nums[: fitting.MAX_NUMBERS])
            self.has_resumed = True
            nums = nums[fitting.MAX_NUMBERS :]
            if not nums:
                return
        for begin in range(0, max(1, len(nums)), fitting.MAX_NUMBERS):
            self.append("requeue", jobs=nums[begin : begin + fitting.MAX_NUMBERS])

    def start(self, job: Job) -> list[str]:
        """The latest attempt of `job` has started. Returns what was lost, see `append`."""
        attempt = job.attempts[-1]
        return self.append(
            "start",
            keep=True,
            job=job.num,
            attempt=attempt.number,
            pid=attempt.pid,
            **start_fields(attempt),
            time=attempt.started,
        )

    def end(self, job: Job) -> list[str]:
        """`job` has ended. Returns what was lost, see `append`."""
        assert job.outcome is not None
        return self._append_ending("end", job, job.outcome)

    def retry(self, job: Job) -> list[str]:
        """The latest attempt of `job` has ended, and another one will follow.

        Returns what was lost, see `append`.
        """
        ending = job.attempts[-1].ending
        assert ending is not None
        return self._append_ending("retry", job, ending)

    def _append_ending(self, event: str, job: Job, ending: Ending) -> list[str]:
        details = ending_fields(ending)
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
        """Write the last record and release the sweep directory. Idempotent."""
        # If it cannot be written, the journal reads as if the launcher had died.
        with suppress(OSError, JournalLost):
            self.look()  # as none follows, the last record must not go where nobody reads it
            seconds = round(time.monotonic() - self._began, 6)
            self.append("close", reason=reason, seconds=seconds)
        with self._mutex:
            if not self._closed:
                self._free()

    def _forget(self) -> None:
        """In a forked child: the journal belongs to the parent."""
        self._closed = True  # The file closes itself in the child.

    def _free(self) -> None:
        self._closed = True
        self._file.close()
        self._lock.release()
