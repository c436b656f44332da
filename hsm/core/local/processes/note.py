"""A few bytes in memory that a process shares with those that it forks."""

from __future__ import annotations

import mmap
import struct

_LENGTH = struct.Struct("!I")


class Note:
    """Holds one text at a time. One process writes it; the others read it once that is over.

    Args:
        size: bytes that it takes at most; memory only for as many as were ever written.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._memory = mmap.mmap(-1, _LENGTH.size + size)

    def write(self, data: bytes) -> bool:
        """Put `data` in the place of what is there; False if it is too long: nothing is there."""
        self.clear()  # Not to be read while it is half written.
        if len(data) > self._size:
            return False
        self._memory[_LENGTH.size : _LENGTH.size + len(data)] = data
        self._memory[: _LENGTH.size] = _LENGTH.pack(len(data))
        return True

    def read(self) -> bytes | None:
        """What is there; None for nothing."""
        (length,) = _LENGTH.unpack_from(self._memory)
        return self._memory[_LENGTH.size : _LENGTH.size + length] if length else None

    def clear(self) -> None:
        """Leave nothing there."""
        self._memory[: _LENGTH.size] = _LENGTH.pack(0)

    def close(self) -> None:
        """Free this process's share."""
        self._memory.close()
