"""What Linux offers to keep hold of processes: subreaper, parent-death signal, names, trees.

On other systems the Linux-only calls do nothing; there a killed launcher or keeper can leave
processes behind.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

#: What `ps` shows for a keeper, on Linux.
KEEPER_NAME = "hsm-keeper"

LINUX = sys.platform.startswith("linux")
_libc = ctypes.CDLL(None, use_errno=True) if LINUX else None


def _prctl(option: int, argument: int | bytes) -> None:
    if _libc is None:
        return
    value = ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")


def become_subreaper() -> None:
    """Have orphaned descendants become this process's children, not init's: it can reap them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signum: signal.Signals, parent: int) -> None:
    """Have the kernel send `signum` to this process when its parent ends.

    The signal follows the parent *thread*: only a child of a single-threaded process may rely on
    it. If `parent` has ended before the call, the signal is sent here.
    """
    _prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


def flush_c_buffers() -> None:
    """Write out what C code has printed: libc's buffers are not Python's."""
    if _libc is not None:
        _libc.fflush(None)


def wake_pipe() -> tuple[int, int]:
    """A pipe that never blocks, for `signal.set_wakeup_fd`: its read end and its write end."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    return read_end, write_end


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
        _prctl(_PR_SET_NAME, name)


def descendants() -> list[psutil.Process]:
    """Every process below this one, zombies aside."""
    import psutil

    try:
        found = psutil.Process().children(recursive=True)
    except psutil.Error:
        return []
    return [process for process in found if not _is_zombie(process)]


def _is_zombie(process: psutil.Process) -> bool:
    import psutil

    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


def send_signal(processes: Iterable[psutil.Process], signum: signal.Signals) -> None:
    """Signal each process that still is the one that was found (psutil compares start times)."""
    import psutil

    for process in processes:
        with suppress(psutil.Error, OSError):  # Gone, or not ours to signal (set-uid).
            process.send_signal(signum)
