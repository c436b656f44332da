"""Follows what running jobs print, by reading their log files.

    job --writes--> <n>.out, <n>.err <--reads-- OutputFollower's thread --lines--> sink

Jobs write straight to their files, so nothing here can hold up a job or lose output.
"""

from __future__ import annotations

import codecs
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from hsm.core.engine.line_splitter import LineSplitter
from hsm.core.engine.obstacles import start_thread
from hsm.core.files import file_key, open_log, read_end
from hsm.core.logger import get_logger
from hsm.core.record.cut_logs import continue_in
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths

_CHUNK = 1 << 20  # bytes read from one file before it is the next one's turn
_TAIL = 4096  # bytes at the end of a file that are searched for the last line
_POLL_INTERVAL = 0.05  # seconds between two checks of the files
_LINE_ENDS = re.compile(r"[\r\n]")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_log = get_logger(__name__)

Sink = Callable[[Job, str, str], None]
"""Takes a job, ``"stdout"`` or ``"stderr"``, and a line without its newline."""


class _Stream:
    """A log file being followed. Only the follower's thread calls its methods."""

    def __init__(self, name: str, path: Path, start: int) -> None:
        self.name = name
        self.path = path
        self.start = start
        self._offset = start
        self._target: os.stat_result | None = None
        self._fd: int | None = None
        self._splitter = LineSplitter()
        self._shown = ""  # the state of the current line that was last returned as a line
        self._shown_at: float | None = None  # when; at first, when the line was first redrawn
        self._has_warned = False

    def read(self) -> tuple[list[str], bool]:
        """The next lines, and whether anything was read."""
        try:
            data, was_truncated = self._read()
        except FileNotFoundError:
            return [], False  # The job has not created it yet.
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                _log.warning("cannot read %s: %s", self.path, error.strerror)
            return [], False
        lines = self._splitter.close() if was_truncated else []
        if data:
            lines += self._splitter.feed(data)
        return self._without_shown(lines), bool(data)

    def _read(self) -> tuple[bytes, bool]:
        if self._fd is None:
            self._fd = open_log(self.path)
        notice = b""
        status = os.fstat(self._fd)
        if status.st_nlink == 0 and status.st_size == self._offset:
            notice = self._continue(self._fd)
            status = os.fstat(self._fd)
        was_truncated = status.st_size < self._offset
        if was_truncated:
            self._offset = 0
        if status.st_size == self._offset:
            return notice, was_truncated
        data = os.pread(self._fd, _CHUNK, self._offset)
        self._offset += len(data)
        return notice + data, was_truncated

    def _continue(self, old: int) -> bytes:
        """Go on in the file that has replaced the log; returns a line about what is missing."""
        try:
            self._fd = open_log(self.path)
        except FileNotFoundError:
            return b""  # The job has removed it; its keeper makes another one if it prints again.
        self._offset, missing = continue_in(self._fd, old, self._offset)
        os.close(old)
        return missing

    def _without_shown(self, lines: list[str]) -> list[str]:
        if lines and self._shown:
            if lines[0] == self._shown:
                lines = lines[1:]
            self._shown = ""
        return lines

    def redraw(self, now: float, interval: float) -> list[str]:
        """The state of a line being redrawn, if it is due at `now` (monotonic)."""
        if not self._splitter.is_redrawn:
            self._shown_at = None
        elif self._shown_at is None:
            self._shown_at = now
        elif now - self._shown_at >= interval:
            self._shown_at = now
            state = self._splitter.redraw()
            if state != self._shown and state.strip():
                self._shown = state
                return [state]
        return []

    def set_target(self) -> None:
        """Stop reading at the file's current end."""
        if self._target is None:
            with suppress(OSError):
                self._target = self.path.lstat()

    def is_at_target(self) -> bool:
        if self._target is None or self._fd is None:
            return False
        is_same = file_key(os.fstat(self._fd)) == file_key(self._target)
        return is_same and self._offset >= self._target.st_size

    def finish(self) -> list[str]:
        """Close the file; returns the last line if it had no newline."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        return self._without_shown(self._splitter.close())


class _Followed:
    def __init__(self, job: Job, paths: SweepPaths, starts: tuple[int, int]) -> None:
        self.job = job
        self._paths = paths
        self._starts = starts
        self.is_ending = False
        self.is_over = threading.Event()

    @cached_property  # of most jobs nobody asks for a line
    def streams(self) -> tuple[_Stream, _Stream]:
        num, paths = self.job.num, self._paths
        stdout, stderr = self._starts
        return (
            _Stream("stdout", paths.stdout(num), stdout),
            _Stream("stderr", paths.stderr(num), stderr),
        )


class OutputFollower:
    """Follows the log files of all running jobs, of any number of sweeps.

    With `every_line` a thread, started for the first job, polls the files and passes their lines to
    `sink`. Only that thread calls `sink`, so `sink` gets whole lines, one at a time, in order per
    stream; after each MiB of one job it is the other jobs' turn. A line that is being redrawn (a
    progress bar) is passed on when its newline comes and, until then, every `redraw_interval`
    seconds if it has changed. A truncated file is read from the start again.

    If `sink` raises, the exception is logged and `sink` gets no more lines. `sink` must not call
    `remove` or `stop`.

    Args:
        sink: gets the lines.
        every_line: if False, there is no thread and no call of `sink`; only `last_line` works.
        redraw_interval: seconds between two states of a redrawn line.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        every_line: bool = True,
        redraw_interval: float = 2.0,
    ) -> None:
        self._sink: Sink | None = sink if every_line else None
        self._redraw_interval = redraw_interval
        # Guards the attributes below. Never held while reading a file or calling the sink.
        self._changed = threading.Condition()
        self._followed: dict[str, _Followed] = {}
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    def get_ready(self) -> None:
        """Start the thread, if lines need one: better before a job runs. Raises NoRoom."""
        with self._changed:
            needs_thread = self._sink is not None and not self._is_stopped
            if needs_thread and self._thread is None:
                self._thread = start_thread(self._follow, "output")

    def add(
        self, job: Job, paths: SweepPaths, *, stdout_start: int = 0, stderr_start: int = 0
    ) -> None:
        """Follow `job`; its files need not exist yet. Does nothing after `stop`.

        Args:
            job: a job that is not being followed.
            paths: its sweep's.
            stdout_start, stderr_start: bytes to skip, written by earlier attempts.
        """
        self.get_ready()
        with self._changed:
            if self._is_stopped:
                return
            if job.job_id in self._followed:
                raise ValueError(f"job {job.job_id} is followed already")
            self._followed[job.job_id] = _Followed(job, paths, (stdout_start, stderr_start))
            self._changed.notify()

    def remove(self, job: Job) -> None:
        """Stop following `job`, once `sink` has got everything it has written so far.

        Does nothing if the job is not being followed.
        """
        with self._changed:
            followed = self._followed.get(job.job_id)
            if followed is None:
                return
            if self._thread is None:
                del self._followed[job.job_id]
                return
            followed.is_ending = True
            self._changed.notify()
        followed.is_over.wait()

    def last_line(self, job: Job) -> str:
        """The last line that a followed job printed and that has visible text; "" if none.

        Prefers the stream that was written to last. Reads at most the last 4 KiB of a file, so a
        longer line loses its beginning.
        """
        with self._changed:
            followed = self._followed.get(job.job_id)
        if followed is None:
            return ""
        written: list[tuple[int, _Stream]] = []
        for stream in followed.streams:
            with suppress(OSError):
                written.append((stream.path.lstat().st_mtime_ns, stream))
        written.sort(key=lambda entry: entry[0], reverse=True)
        return next((line for _, stream in written if (line := _last_line(stream))), "")

    def stop(self) -> None:
        """End the thread and close all files; unread output is dropped. Idempotent."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
            if self._thread is None:
                self._followed.clear()
        if self._thread is not None:
            self._thread.join()

    def _follow(self) -> None:
        """The thread."""
        try:
            is_busy = False
            while followed := self._wait(is_busy):
                is_busy = False
                for each in followed:
                    is_busy |= self._take_turn(each)
        finally:
            with self._changed:
                self._is_stopped = True
                left = list(self._followed.values())
                self._followed.clear()
            for each in left:
                self._forget(each)

    def _wait(self, is_busy: bool) -> list[_Followed]:
        """Wait until there is something to look at and return it; empty means stop."""
        with self._changed:
            if not is_busy and not self._is_stopped and not self._is_any_ending():
                self._changed.wait(_POLL_INTERVAL if self._followed else None)
            while not self._followed and not self._is_stopped:
                self._changed.wait()
            return [] if self._is_stopped else list(self._followed.values())

    def _is_any_ending(self) -> bool:
        return any(each.is_ending for each in self._followed.values())

    def _take_turn(self, followed: _Followed) -> bool:
        """Read the next part of a job's files; returns whether there was anything."""
        is_ending = followed.is_ending
        has_read, is_over = False, is_ending
        for stream in followed.streams:
            if is_ending:
                stream.set_target()
            lines, was_read = stream.read()
            if not is_ending:
                lines += stream.redraw(time.monotonic(), self._redraw_interval)
            self._tell(followed.job, stream, lines)
            has_read |= was_read
            is_over &= stream.is_at_target() or not was_read
        if is_over:
            with self._changed:
                del self._followed[followed.job.job_id]
            self._forget(followed)
        return has_read

    def _forget(self, followed: _Followed) -> None:
        for stream in followed.streams:
            self._tell(followed.job, stream, stream.finish())
        followed.is_over.set()

    def _tell(self, job: Job, stream: _Stream, lines: list[str]) -> None:
        for line in lines:
            if self._sink is None:
                return
            try:
                self._sink(job, stream.name, line)
            except Exception:
                self._sink = None
                _log.exception("job output is no longer shown")


def _last_line(stream: _Stream) -> str:
    """The last line with visible text in the file's last 4 KiB."""
    try:
        with open(open_log(stream.path), "rb", buffering=0) as file:
            data, is_cut = read_end(file, _TAIL, stream.start)
    except OSError:
        return ""
    if is_cut:
        data = data.lstrip(bytes(range(0x80, 0xC0)))  # the rest of a character that was cut in two
    text = codecs.utf_8_decode(data, "replace", False)[0]
    for line in reversed(_LINE_ENDS.split(text)):
        if _ESCAPES.sub("", line).strip():
            return line.rstrip()
    return ""
