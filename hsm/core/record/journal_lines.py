"""Reads the lines of a journal in chunks, with bounded memory and time whatever the file holds.

journal.jsonl --chunks--> JournalLines.read --(number, line)--> hsm.core.record.schema.parse
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from hsm.core.files import open_below

#: Bytes; longer lines are skipped. Version 1 put return values of any size and up to 100,000 jobs
#: in one line: the longest were about 30 MiB.
MAX_LINE = 64 << 20
#: Bytes: the lines of one chunk stay in the processor's cache until they have been looked at.
_CHUNK = 1 << 16


class JournalLines:
    """Reads a journal as it grows, each byte once.

    Args:
        sweep_dir, path: the sweep's directory, and the journal below it.

    Attributes:
        number: the number of the line returned last.

    Raises:
        OSError: the journal is missing, cannot be read, or is not a regular file (`NotRegular`).
    """

    def __init__(self, sweep_dir: Path, path: Path) -> None:
        self._path = path
        self._fd = open_below(sweep_dir, path)
        self._offset = 0
        self.number = 0
        self._pieces: list[bytes] = []  # of the unfinished line
        self._size = 0  # bytes of the unfinished line
        self._waiting: list[bytes | None] = []  # lines of the chunk, if it was not read to its end

    @property
    def is_replaced(self) -> bool:
        """Whether the path now leads to another file, or this one is shorter than what was read."""
        own = os.fstat(self._fd)
        try:
            there = os.lstat(self._path)
        except OSError:
            return False  # There is no other file to read.
        return not os.path.samestat(there, own) or own.st_size < self._offset

    def read(self) -> Iterator[tuple[int, bytes | None]]:
        """The complete lines not returned before, with their numbers, from 1.

        None stands for a line longer than `MAX_LINE`. An unfinished last line is left for later.
        """
        end = os.fstat(self._fd).st_size  # Stop here, or a fast writer would keep us forever.
        while self._waiting or self._offset < end:
            if not self._waiting:
                self._split(self._next_chunk(end))
            while self._waiting:
                self.number += 1
                yield self.number, self._waiting.pop()

    def read_blocks(self) -> Iterator[tuple[int, list[bytes | None]]]:
        """The lines that `read` would return, many at a time: the number of the first, and them."""
        end = os.fstat(self._fd).st_size
        while self._waiting or self._offset < end:
            if not self._waiting:
                self._split(self._next_chunk(end))
            lines, self._waiting = self._waiting[::-1], []
            first, self.number = self.number + 1, self.number + len(lines)
            yield first, lines

    def _split(self, chunk: bytes) -> None:
        """Put the lines that end in a chunk into `_waiting`, the last one first."""
        first, *others = chunk.split(b"\n")
        self._extend(first)
        if others:
            ended: list[bytes | None] = [*others[:-1]]
            ended.reverse()
            self._waiting = [*ended, None if self._is_too_long else b"".join(self._pieces)]
            self._pieces, self._size = [], 0
            self._extend(others[-1])

    @property
    def _is_too_long(self) -> bool:
        return self._size > MAX_LINE

    def _next_chunk(self, end: int) -> bytes:
        if self._is_too_long:
            self._skip_hole(end)
        chunk = os.pread(self._fd, min(_CHUNK, max(0, end - self._offset)), self._offset)
        # An empty chunk: the file has been truncated meanwhile, so we have reached its end.
        self._offset = self._offset + len(chunk) if chunk else end
        return chunk

    def _skip_hole(self, end: int) -> None:
        """Skip to where the file has data again: a hole is all zeros, so it has no newline."""
        if not hasattr(os, "SEEK_DATA"):
            return
        try:
            self._offset = min(end, os.lseek(self._fd, self._offset, os.SEEK_DATA))
        except OSError as error:
            if error.errno == errno.ENXIO:  # There is no more data.
                self._offset = end

    def _extend(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._is_too_long:
            self._pieces.clear()
        elif piece:
            self._pieces.append(piece)

    def close(self) -> None:
        """Free the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> JournalLines:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
