"""Finding the threads that C libraries have started in this process, and the library of each.

    /proc/self/task, less Python's own --stack: return addresses--> /proc/self/maps --> the library

For a blocked thread, /proc/self/task/<tid>/syscall has the stack pointer, and the innermost frame
outside of libc is in the library that owns the thread. For a running thread, such as OpenBLAS's for
a moment after their work, the outermost frames are read from the top of its stack, which is
recognized by the thread id that libc keeps there. If that is not found, as with the stacks of newer
glibcs, which no guard page separates, hsm waits a little for the thread to block.
"""

from __future__ import annotations

import os
import re
import struct
import time
from bisect import bisect
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_WORD = struct.calcsize("P")
#: Bytes of a stack to read; the frames of a blocking call are small.
_SPAN = 8192
#: Seconds to wait for running threads to block: OpenBLAS's do so after a tenth of a second.
_PATIENCE = 0.3
#: Nothing is mapped below this address.
_MIN_ADDRESS = 0x10000
#: Libraries with frames in every thread, which therefore say nothing about its owner.
_SHARED_LIBRARIES = re.compile(
    r"(libc|ld-linux[\w-]*|ld-musl[\w-]*|libpthread|libstdc\+\+|libgcc_s)[-.]"
)
#: Marks in /proc/self/maps of guard pages, of memory without a file, and of code.
_GUARD, _ANONYMOUS, _CODE = b" ---p 00000000 00:00 0", b" rw-p 00000000 00:00 0", b" r-xp "


@dataclass(frozen=True)
class NativeThread:
    """A thread that was not started by Python.

    Attributes:
        tid: its id.
        name: its name, as in `ps -L`; "" if it has ended.
        library: the path of the library that owns it; None if unknown.
    """

    tid: int
    name: str
    library: str | None

    @property
    def owner(self) -> str:
        """The library's file name or, if unknown, the thread's name, for messages."""
        return os.path.basename(self.library) if self.library else self.name or "?"


def native_threads(python: Collection[int]) -> list[NativeThread]:
    """List the threads of this process, except those whose ids are in `python`."""
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


class _Maps:
    """This process's memory mappings."""

    def __init__(self) -> None:
        self._lines = Path("/proc/self/maps").read_bytes().splitlines()
        # The kernel lists them in order of address, as bisect needs them.
        code = [line for line in self._lines if _CODE in line]
        self._starts, self._ends = [], []
        # Fields: addresses, permissions, offset, device, inode, and usually a name.
        self._names = [os.fsdecode(b"".join(line.split(maxsplit=5)[5:])) for line in code]
        for line in code:
            start, end = _range(line)
            self._starts.append(start)
            self._ends.append(end)

    def library_at(self, address: int) -> str | None:
        """The file whose code is at `address`; None if there is none, or if all threads use it."""
        index = bisect(self._starts, address) - 1
        if index < 0 or address >= self._ends[index]:
            return None
        name = self._names[index]
        is_file = name.startswith("/")
        return name if is_file and not _SHARED_LIBRARIES.match(os.path.basename(name)) else None

    def ends_of_stacks(self) -> list[int]:
        """End addresses of the thread stacks that libc made; a guard page precedes each."""
        return [
            _range(line)[1]
            for guard, line in zip(self._lines, self._lines[1:], strict=False)
            if _GUARD in guard and _ANONYMOUS in line and _range(guard)[1] == _range(line)[0]
        ]


def _range(line: bytes) -> tuple[int, int]:
    start, end = line.partition(b" ")[0].split(b"-")
    return int(start, 16), int(end, 16)


@dataclass
class _Stacks:
    """Reads the stacks of this process's threads."""

    _memory: int = field(default_factory=lambda: os.open("/proc/self/mem", os.O_RDONLY))
    _maps: _Maps = field(default_factory=_Maps)
    _tops: list[bytes] | None = None
    _deadline: float = field(default_factory=lambda: time.monotonic() + _PATIENCE)

    def __enter__(self) -> _Stacks:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._memory)

    def library(self, tid: int) -> str | None:
        """The library that owns the thread `tid`; None if unknown."""
        path = Path(f"/proc/self/task/{tid}/syscall")
        try:
            # Of a blocked thread: number, arguments, stack pointer, program counter.
            while len(state := path.read_bytes().split()) <= 2:
                found = self._running(tid)
                if found is not None or time.monotonic() > self._deadline:
                    return found
                time.sleep(0.001)
                self._tops = None  # a thread that has just been started has no frame of its own yet
        except OSError:
            return None
        pointer = int(state[-2], 16)
        stack = self._read(pointer)
        words = struct.unpack(f"{len(stack) // _WORD}P", stack)
        # Skip the words that point into the stack itself, which are most.
        return self._first(word for word in words if not pointer <= word < pointer + len(stack))

    def _running(self, tid: int) -> str | None:
        """The library of the running thread `tid`, from the top of its stack; None if unknown."""
        for top in self._all_tops():
            if tid in memoryview(top).cast("i"):
                words = struct.unpack(f"{len(top) // _WORD}P", top)
                return self._first(reversed(words))
        return None

    def _first(self, words: Iterable[int]) -> str | None:
        """The library of the first of these addresses that is in one."""
        found = (self._maps.library_at(word) for word in words if word >= _MIN_ADDRESS)
        return next((library for library in found if library is not None), None)

    def _all_tops(self) -> list[bytes]:
        if self._tops is None:
            self._tops = [self._read(end - _SPAN) for end in self._maps.ends_of_stacks()]
        return self._tops

    def _read(self, address: int) -> bytes:
        """Read whole words from `address`, up to the end of the mapping."""
        data = b""
        with suppress(OSError, OverflowError):
            data = os.pread(self._memory, _SPAN, address)
        return data[: len(data) // _WORD * _WORD]
