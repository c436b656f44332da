"""A pipe that jobs print into, and the log file that it is emptied into."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress

from hsm.core.local.processes.log_bound import LogBound
from hsm.core.own_process import above_streams

#: Bytes that a pipe holds by default, and for a job that prints a lot. More would use up too much
#: of the limit on all of a user's pipes, which jobs need as well.
_CAPACITY, _LARGE_CAPACITY = 1 << 16, 1 << 18
#: Seconds that output waits for room on a full disk, while its job blocks in a write; and seconds
#: between two tries.
_TIMEOUT, ROOM_INTERVAL = 10.0, 0.25
#: Errors that another process may resolve: no space, no quota.
_TEMPORARY_ERRORS = (errno.ENOSPC, errno.EDQUOT)
#: Errors of a file system that cannot splice; then read and write.
_NO_SPLICE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
#: Only on Linux.
_SET_SIZE, _GET_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None), getattr(fcntl, "F_GETPIPE_SZ", None)


class LogPipe:
    """The pipe of one stream, and the log file that it is emptied into.

    Attributes:
        read_end: the descriptor that output is read from.
        write_end: the descriptor that jobs print into; -1 once closed.
        lost: the number of bytes that could not be written to this log, and why; None if all were.
    """

    def __init__(self) -> None:
        self.read_end, self.write_end = map(above_streams, os.pipe())
        os.set_blocking(self.read_end, False)
        self.lost: tuple[int, str] | None = None
        self._file: int | None = None
        self._open_again: Callable[[], int] | None = None
        self._splices = hasattr(os, "splice")
        self._held = b""  # read but not written yet; always empty with splice
        self._refused_at: float | None = None  # monotonic; since when writes have failed
        self._bound: LogBound | None = None
        self._missing = 0  # bytes that were dropped, and not yet mentioned in the log

    def open(
        self,
        file: int,
        header: str | None,
        open_again: Callable[[], int] | None = None,
        bound_from: Callable[[int], LogBound] | None = None,
    ) -> int:
        """Start a new log after what `file` holds; return the size of the file before new output.

        Args:
            file: the log's descriptor.
            header: a line to write first, if any.
            open_again: opens a new file in case this one is removed.
            bound_from: makes the bound of the new output, given where that begins, if it has one.
        """
        self._file, self.lost, self._open_again = file, None, open_again
        self._held, self._refused_at, self._missing = b"", None, 0
        if self._capacity() != _CAPACITY:  # the previous job printed a lot, or changed it itself
            self._resize(_CAPACITY)
        size = os.lseek(file, 0, os.SEEK_END)
        if header is not None:
            with suppress(OSError):  # the disk is full; the job can run without a header
                size += _end_line(file, size)
                os.write(file, f"{header}\n".encode())
        self._bound = None if bound_from is None else bound_from(size)
        return size

    def leave(self) -> None:
        """In a job: close all descriptors, and no more, since each page it modifies is copied."""
        os.close(self.read_end)
        os.close(self.write_end)
        if self._file is not None:
            os.close(self._file)

    @property
    def is_behind(self) -> bool:
        """Whether output was taken from the pipe that is not in the file yet."""
        return bool(self._held or self._missing)

    def move(self, until: float | None = None) -> float | None:
        """Move output to the file; return the share of the pipe that it filled, 0 for no output.

        Returns None if the disk has no room now. The output then stays in the pipe, so that its
        writers block, and is dropped after ten seconds, or at `until` (monotonic) if given.
        """
        try:
            moved = self._transfer()
        except OSError as error:
            return self._refused(error, until)
        if not moved:
            return 0.0
        self._refused_at = None
        capacity = self._capacity()
        share = moved / capacity
        if share >= 0.5 and capacity < _LARGE_CAPACITY:
            self._resize(_LARGE_CAPACITY)
        return share

    def empty(self, until: float) -> None:
        """Move the output of an ended job; drop what finds no room until `until` (monotonic).

        Moves no more than the pipe holds, in case some other process keeps printing into it.
        """
        emptied = 0.0
        while emptied <= 1.0:
            share = self.move(until)
            if share is None:
                time.sleep(ROOM_INTERVAL)
            elif share:
                emptied += share
            else:
                return

    def close_file(self) -> None:
        """Close the log file, once its job's output is complete."""
        if self._file is not None:
            if self._missing:
                with suppress(OSError):  # still no room; the launcher reports the loss
                    self._write_missing()
            if self._bound is not None:
                with suppress(OSError):  # no room: the log stays a little longer
                    self._bound.cut(self._file)
            os.close(self._file)
            self._file = None

    def close_write_end(self) -> None:
        """Close this process's write end; the keeper has its own, for jobs."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def close(self) -> None:
        """Close all descriptors."""
        self.close_file()
        self.close_write_end()
        if self.read_end >= 0:
            os.close(self.read_end)
            self.read_end = -1

    def _transfer(self) -> int:
        """Move bytes from the pipe to the file; return how many. Raises OSError."""
        assert self._file is not None
        if self._open_again is not None and not os.fstat(self._file).st_nlink:
            self._replace_removed(self._file, self._open_again)
        # Seek to the end every time, since the file may have been truncated by somebody.
        size = os.lseek(self._file, 0, os.SEEK_END)
        if self._bound is not None and size >= self._bound.size:
            self._bound.cut(self._file)
            os.lseek(self._file, 0, os.SEEK_END)
        if self._missing and self._has_output():
            self._write_missing()
        if self._splices:
            try:
                return os.splice(
                    self.read_end, self._file, _LARGE_CAPACITY, flags=os.SPLICE_F_NONBLOCK
                )
            except BlockingIOError:
                return 0
            except OSError as error:
                if error.errno not in _NO_SPLICE:
                    raise
                self._splices = False
        if not self._held:
            self._held = self._read()
        written = os.write(self._file, self._held) if self._held else 0
        self._held = self._held[written:]
        return written

    def _replace_removed(self, file: int, open_again: Callable[[], int]) -> None:
        """Continue in a new file, because the current one was removed."""
        with suppress(OSError):  # on failure stay with the removed file, so that no job blocks
            new = open_again()
            os.dup2(new, file, inheritable=False)  # keep the descriptor's number
            os.close(new)

    def _read(self) -> bytes:
        try:
            return os.read(self.read_end, _LARGE_CAPACITY)
        except BlockingIOError:
            return b""

    def _has_output(self) -> bool:
        poll = select.poll()
        poll.register(self.read_end, select.POLLIN)
        return bool(self._held or poll.poll(0))

    def _write_missing(self) -> None:
        """Write a line to the log that says how many bytes are missing there."""
        assert self._file is not None
        assert self.lost is not None
        _end_line(self._file, os.lseek(self._file, 0, os.SEEK_END))
        os.write(self._file, f"---- {describe_lost(self._missing, self.lost[1])} ----\n".encode())
        self._missing = 0

    def _refused(self, error: OSError, until: float | None) -> float | None:
        now = time.monotonic()
        if self._refused_at is None:
            self._refused_at = now
        last = self._refused_at + _TIMEOUT if until is None else until
        if error.errno in _TEMPORARY_ERRORS and now < last:
            return None
        dropped = len(self._held or self._read())
        self._held = b""
        self._missing += dropped
        self.lost = (dropped + (self.lost[0] if self.lost else 0), os.strerror(error.errno or 0))
        return dropped / self._capacity()

    def _capacity(self) -> int:
        return _CAPACITY if _GET_SIZE is None else fcntl.fcntl(self.read_end, _GET_SIZE)

    def _resize(self, capacity: int) -> None:
        if _SET_SIZE is not None:
            with suppress(OSError):  # the user's limit on pipes is reached; the size stays
                fcntl.fcntl(self.read_end, _SET_SIZE, capacity)


def describe_lost(size: int, why: str) -> str:
    """Describe output that could not be written."""
    return f"{size} bytes of output are lost: {why}"


def _end_line(file: int, size: int) -> int:
    """End an unfinished last line in a file of `size` bytes; return the bytes written for that."""
    if size == 0 or os.pread(file, 1, size - 1) == b"\n":
        return 0
    return os.write(file, b"\n")
