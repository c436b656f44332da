"""System calls that concern this process itself: its name, its descriptors, C's buffers.

On systems other than Linux, the Linux-only calls do nothing.
"""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import suppress
from functools import cache
from typing import Any

_PR_SET_NAME = 15  # linux/prctl.h

LINUX = sys.platform.startswith("linux")


@cache
def _ctypes() -> tuple[Any, Any]:
    """Return ctypes and libc.

    Not earlier than needed: libffi, below ctypes, may open a file and keep it open, which would get
    the number of a closed standard stream.
    """
    import ctypes

    return ctypes, ctypes.CDLL(None, use_errno=True)


def prctl(option: int, argument: int | bytes) -> None:
    """Set an option of this process in the kernel. Raises OSError."""
    if not LINUX:
        return
    ctypes, libc = _ctypes()
    value = ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")


def flush_c_buffers() -> None:
    """Flush what C code has printed; libc has buffers of its own."""
    if LINUX:
        _ctypes()[1].fflush(None)


def above_streams(fd: int) -> int:
    """Return `fd`, moved to a higher number if it took the place of a closed standard stream."""
    if fd > 2:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved


def open_closed_streams() -> None:
    """Open /dev/null as each standard stream that is closed.

    Otherwise the next file that is opened gets its number, a journal for example, and whatever
    writes to descriptors 1 and 2, be it C code or a program, would write into that file.
    """
    for fd, flags in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, flags)  # It gets the lowest free number, which is this one.
            os.set_inheritable(fd, True)


def caught_signals() -> set[int]:
    """Return the signals that have a handler, be it Python's or C's; empty if not on Linux."""
    with suppress(OSError), open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"SigCgt:"):
                mask = int(line.split()[1], 16)
                return {number for number in range(1, 65) if mask >> (number - 1) & 1}
    return set()


def sees_processes() -> bool:
    """Whether /proc, where processes are found, is there and that of this process."""
    if not LINUX:
        return True
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def process_name() -> bytes:
    """Return the name that `ps` and `top` show for this process; empty if not on Linux."""
    try:
        with open("/proc/self/comm", "rb") as file:
            return file.read().strip()
    except OSError:
        return b""


def set_process_name(name: bytes) -> None:
    """Set the name that `ps` and `top` show; at most 15 bytes are used."""
    if name:
        prctl(_PR_SET_NAME, name)
