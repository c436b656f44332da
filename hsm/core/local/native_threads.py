"""The threads that C libraries have started in this process, and whose each one is.

    /proc/self/task, less Python's own --stack: return addresses--> dladdr --> the library

A thread that waits tells where its stack is (/proc/self/task/<tid>/syscall), and the innermost
frame that is not libc's lies in the library that the thread belongs to. One that runs just now, as
OpenBLAS's do for a moment after their work, is found by the top of its stack, where the outermost
frames are: libc keeps the thread's id beside them.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_WORD = struct.calcsize("P")
#: Bytes of a stack that are looked at: the frames of a wait are small.
_SPAN = 8192
#: Nothing is mapped below.
_LOWEST = 0x10000
#: Where every thread passes through, so that it tells nothing.
_EVERYBODYS = re.compile(r"(libc|ld-linux[\w-]*|ld-musl[\w-]*|libpthread|libstdc\+\+|libgcc_s)[-.]")
#: A stack that libc has made: its guard pages, and then itself.
_STACK = re.compile(
    rb"^[0-9a-f]+-([0-9a-f]+) ---p 0+ 00:00 0[^\n]*\n\1-([0-9a-f]+) rw-p 0+ 00:00 0", re.MULTILINE
)


@dataclass(frozen=True)
class NativeThread:
    """A thread that Python has not started.

    Attributes:
        tid: its id.
        name: what `ps -L` shows; "" if it is gone.
        library: the file that its code is in; None if that cannot be told.
    """

    tid: int
    name: str
    library: str | None

    @property
    def owner(self) -> str:
        """Whose it is, for messages: the library's name, or else its own."""
        return os.path.basename(self.library) if self.library else self.name or "?"


def native_threads(python: Collection[int]) -> list[NativeThread]:
    """Every thread of this process, other than those with these ids."""
    others = [tid for tid in map(int, os.listdir("/proc/self/task")) if tid not in python]
    if not others:
        return []
    with suppress(OSError), _Stacks() as stacks:
        return [NativeThread(tid, _name(tid), stacks.library(tid)) for tid in others]
    return [NativeThread(tid, _name(tid), None) for tid in others]


def _name(tid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/self/task/{tid}/comm").read_text(errors="replace").strip()
    return ""


class _DlInfo(ctypes.Structure):
    _fields_ = (
        ("fname", ctypes.c_char_p),
        ("fbase", ctypes.c_void_p),
        ("sname", ctypes.c_char_p),
        ("saddr", ctypes.c_void_p),
    )


@dataclass
class _Stacks:
    """Reads the stacks of this process's threads. Threads of one pool look alike: it remembers."""

    _memory: int = field(default_factory=lambda: os.open("/proc/self/mem", os.O_RDONLY))
    _known: dict[int, str | None] = field(default_factory=dict)
    _tops: list[bytes] | None = None

    def __enter__(self) -> _Stacks:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._memory)

    def library(self, tid: int) -> str | None:
        """The library that a thread belongs to."""
        try:
            state = Path(f"/proc/self/task/{tid}/syscall").read_bytes().split()
        except OSError:
            return None
        if len(state) > 2:  # number, arguments, stack pointer, program counter
            pointer = int(state[-2], 16)
            stack = self._read(pointer)
            words = struct.unpack(f"{len(stack) // _WORD}P", stack)
            # Most words point into the stack itself.
            return self._first(word for word in words if not pointer <= word < pointer + len(stack))
        for top in self._all_tops():
            if tid in memoryview(top).cast("i"):
                words = struct.unpack(f"{len(top) // _WORD}P", top)
                return self._first(reversed(words))
        return None

    def _first(self, words: Iterable[int]) -> str | None:
        """The first library that one of these addresses lies in."""
        found = (self._library_at(word) for word in words if word >= _LOWEST)
        return next((library for library in found if library is not None), None)

    def _library_at(self, address: int) -> str | None:
        if address not in self._known:
            info = _DlInfo()
            found = _dladdr(ctypes.c_void_p(address), ctypes.byref(info)) and info.fname
            name = os.fsdecode(info.fname) if found else None
            if name is not None and _EVERYBODYS.match(os.path.basename(name)):
                name = None
            self._known[address] = name
        return self._known[address]

    def _all_tops(self) -> list[bytes]:
        if self._tops is None:
            maps = Path("/proc/self/maps").read_bytes()
            ends = [int(match[2], 16) for match in _STACK.finditer(maps)]
            self._tops = [self._read(end - _SPAN) for end in ends]
        return self._tops

    def _read(self, address: int) -> bytes:
        """What lies there, up to the end of the mapping; whole words."""
        data = b""
        with suppress(OSError, OverflowError):
            data = os.pread(self._memory, _SPAN, address)
        return data[: len(data) // _WORD * _WORD]


def _dladdr(address: ctypes.c_void_p, info: object) -> int:
    return int(ctypes.pythonapi.dladdr(address, info))
