"""A few bytes of memory shared between a process and its forks."""

from __future__ import annotations

import mmap
import struct

_LENGTH = struct.Struct("!I")


class Note:
    """Holds one text at a time. One process writes it; the others read it after that has ended.

    Args:
        size: the maximum in bytes; memory is used only for what was ever written.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._memory = mmap.mmap(-1, _LENGTH.size + size)

    def write(self, data: bytes) -> bool:
        """Replace the text; if `data` is too long, clear the note and return False."""
        self.clear()  # a half-written text must not be read
        if len(data) > self._size:
            return False
        self._memory[_LENGTH.size : _LENGTH.size + len(data)] = data
        self._memory[: _LENGTH.size] = _LENGTH.pack(len(data))
        return True

    def read(self) -> bytes | None:
        """Return the text; None if there is none."""
        (length,) = _LENGTH.unpack_from(self._memory)
        return self._memory[_LENGTH.size : _LENGTH.size + length] if length else None

    def clear(self) -> None:
        """Remove the text."""
        self._memory[: _LENGTH.size] = _LENGTH.pack(0)

    def close(self) -> None:
        """Unmap the memory in this process."""
        self._memory.close()
