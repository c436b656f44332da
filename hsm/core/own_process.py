"""What this process asks of the system for itself: its name, its descriptors, C's buffers.

On other systems than Linux the Linux-only calls do nothing.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys

_PR_SET_NAME = 15  # linux/prctl.h

LINUX = sys.platform.startswith("linux")
_libc = ctypes.CDLL(None, use_errno=True) if LINUX else None


def prctl(option: int, argument: int | bytes) -> None:
    """Have the kernel change something of this process. Raises OSError."""
    if _libc is None:
        return
    value = ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")


def flush_c_buffers() -> None:
    """Write out what C code has printed: libc's buffers are not Python's."""
    if _libc is not None:
        _libc.fflush(None)


def above_streams(fd: int) -> int:
    """`fd`, moved if it has the number of a standard stream that is closed in this process."""
    if fd > 2:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved


def process_name() -> bytes:
    """The name that `ps` and `top` show for this process; empty where there is none."""
    try:
        with open("/proc/self/comm", "rb") as file:
            return file.read().strip()
    except OSError:
        return b""


def set_process_name(name: bytes) -> None:
    """Set that name; at most 15 bytes count."""
    if name:
        prctl(_PR_SET_NAME, name)
