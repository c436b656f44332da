"""Keeps a job's log within `log_limit` while the job prints, by cutting out its middle.

    |-- first half --|-- … growing … --|            at the limit and half as much again:
    |-- first half --|mark|-- last half --|         a new file takes the log's place, and grows

What is in the log is in order at any time, so it does not matter when a keeper is killed. Memory
is bounded by a chunk; the disk holds up to two and a half times the limit during a cut.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from hsm.core.files import open_in, renamed
from hsm.core.record.cut_logs import MARK_LENGTH, first_part, mark

#: Bytes by which a log outgrows its limit at least before it is cut, so that cuts are rare.
_MIN_SLACK = 1 << 20
_CHUNK = 1 << 20


class LogBound:
    """The bound of what one attempt prints to one log.

    Args:
        limit: how many bytes of it to keep.
        start: where in the log its output begins.
        open_folder: opens the log's directory.
        name: the log's name there.
    """

    def __init__(self, limit: int, start: int, open_folder: Callable[[], int], name: str) -> None:
        self._limit = limit
        self._open_folder = open_folder
        self._name = name
        self._middle = start + first_part(limit)
        self._last = limit - first_part(limit)
        self._left_out = 0
        self._is_cut = False

    @property
    def _most(self) -> int:
        """The size of a log that holds what is to be kept."""
        return self._middle + self._last + (MARK_LENGTH if self._is_cut else 0)

    @property
    def size(self) -> int:
        """The size of the log at which to call `cut`."""
        return self._most + max(self._last, _MIN_SLACK)

    def cut(self, file: int) -> None:
        """Leave out what is too much in the middle of the log with the descriptor `file`.

        The descriptor leads to the new file then. Does nothing if the log is short enough.

        Raises:
            OSError: there is no room for the new file; the log is as it was.
        """
        size = os.fstat(file).st_size
        behind = self._middle + (MARK_LENGTH if self._is_cut else 0)
        dropped = size - self._last - behind
        if dropped <= (0 if self._is_cut else MARK_LENGTH):
            return
        folder = self._open_folder()
        try:
            temporary = f".{self._name}"
            with suppress(FileNotFoundError):  # left by a killed keeper
                os.unlink(temporary, dir_fd=folder)
            new = open_in(folder, temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            try:
                with renamed(temporary, self._name, folder):
                    _copy(file, 0, self._middle, new)
                    os.write(new, mark(self._left_out + dropped, self._limit))
                    _copy(file, size - self._last, self._last, new)
                os.dup2(new, file, inheritable=False)
            finally:
                os.close(new)
        finally:
            os.close(folder)
        self._left_out += dropped
        self._is_cut = True


def _copy(source: int, offset: int, size: int, target: int) -> None:
    """Append bytes of one file to another."""
    end = offset + size
    while offset < end:
        chunk = os.pread(source, min(_CHUNK, end - offset), offset)
        if not chunk:
            return  # somebody has truncated it
        offset += len(chunk)
        while chunk:
            chunk = chunk[os.write(target, chunk) :]
