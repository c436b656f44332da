"""A pipe that jobs print into, and the log file that gets what comes through it."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress

from hsm.core.own_process import above_streams

#: Bytes that a pipe holds as the system makes it, and as it is made for a job that prints much.
#: More would count against what a user's pipes may hold together, the jobs' own among them.
_CAPACITY, _LARGE_CAPACITY = 1 << 16, 1 << 18
#: Seconds that output waits for room on a full disk, and its job in a write; and between two tries.
_TIMEOUT, ROOM_INTERVAL = 10.0, 0.25
#: What another process may put right: no room, no quota.
_PASSING = (errno.ENOSPC, errno.EDQUOT)
#: The file system does not do it: read and write.
_NO_SPLICE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
#: Linux alone has these.
_SET_SIZE, _GET_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None), getattr(fcntl, "F_GETPIPE_SZ", None)


class LogPipe:
    """The pipe of one stream, and the file that gets what comes through it.

    Attributes:
        read_end, write_end: the pipe's descriptors.
        lost: bytes of this log that could not be written, and why; None if all could.
    """

    def __init__(self) -> None:
        self.read_end, self.write_end = map(above_streams, os.pipe())
        os.set_blocking(self.read_end, False)
        self.lost: tuple[int, str] | None = None
        self._file: int | None = None
        self._open_again: Callable[[], int] | None = None
        self._splices = hasattr(os, "splice")
        self._held = b""  # was read and is not written yet, where nothing is spliced
        self._refused_at: float | None = None  # monotonic: since when the file takes nothing
        self._missing = 0  # bytes that were dropped and of which the log does not tell yet

    def open(
        self, file: int, header: str | None, open_again: Callable[[], int] | None = None
    ) -> int:
        """Begin with `file`, after a header on a line of its own; returns the size before that.

        Args:
            open_again: opens another one in its place, if somebody removes it.
        """
        self._file, self.lost, self._open_again = file, None, open_again
        self._held, self._refused_at, self._missing = b"", None, 0
        if self._capacity() != _CAPACITY:  # The job before has printed much, or changed it itself.
            self._resize(_CAPACITY)
        size = os.lseek(file, 0, os.SEEK_END)
        if header is not None:
            with suppress(OSError):  # A full disk: the job may run without.
                size += _end_line(file, size)
                os.write(file, f"{header}\n".encode())
        return size

    def leave(self) -> None:
        """In a job: close all, and change nothing, as each page that it writes is copied first."""
        os.close(self.read_end)
        os.close(self.write_end)
        if self._file is not None:
            os.close(self._file)

    @property
    def is_behind(self) -> bool:
        """Whether something of what came out of the pipe is not in the file."""
        return bool(self._held or self._missing)

    def move(self, until: float | None = None) -> float | None:
        """Move what has come so far; which share of the pipe that was, 0 if there was nothing.

        None if there is no room for it now: it stays in the pipe, so that its writers wait, and is
        dropped if that lasts for ten seconds, or `until` then (monotonic).
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
        """Move what is there; what finds no room until `until` (monotonic) is dropped.

        The job is over. If somebody else got hold of the pipe and goes on printing, nobody waits.
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
        """The log is whole."""
        if self._file is not None:
            if self._missing:
                with suppress(OSError):  # There is still no room: the launcher tells it.
                    self._tell_missing()
            os.close(self._file)
            self._file = None

    def close_write_end(self) -> None:
        """Let somebody else be the one who hands it to jobs."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def close(self) -> None:
        """Free everything."""
        self.close_file()
        self.close_write_end()
        if self.read_end >= 0:
            os.close(self.read_end)
            self.read_end = -1

    def _transfer(self) -> int:
        """Bytes that went from the pipe to the file. Raises OSError if the file takes nothing."""
        assert self._file is not None
        if self._open_again is not None and not os.fstat(self._file).st_nlink:
            self._replace_removed(self._file, self._open_again)
        # Always to the end, wherever that is: somebody may have emptied the file meanwhile.
        os.lseek(self._file, 0, os.SEEK_END)
        if self._missing and self._has_some():
            self._tell_missing()
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
        """Go on in a new file, as the one so far has been removed."""
        with suppress(OSError):  # Else in that one: no job waits for it.
            new = open_again()
            os.dup2(new, file, inheritable=False)  # The number is known elsewhere.
            os.close(new)

    def _read(self) -> bytes:
        try:
            return os.read(self.read_end, _LARGE_CAPACITY)
        except BlockingIOError:
            return b""

    def _has_some(self) -> bool:
        poll = select.poll()
        poll.register(self.read_end, select.POLLIN)
        return bool(self._held or poll.poll(0))

    def _tell_missing(self) -> None:
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
        if error.errno in _PASSING and now < last:
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
            with suppress(OSError):  # The user's pipes hold as much as they may: it stays as it is.
                fcntl.fcntl(self.read_end, _SET_SIZE, capacity)


def describe_lost(size: int, why: str) -> str:
    """What is said of output that could not be written."""
    return f"{size} bytes of output are lost: {why}"


def _end_line(file: int, size: int) -> int:
    """End the last line of a file of `size` bytes, at its end; how many bytes that took."""
    if size == 0 or os.pread(file, 1, size - 1) == b"\n":
        return 0
    return os.write(file, b"\n")
