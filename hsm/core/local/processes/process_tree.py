"""Keeping control of process trees: subreapers, parent-death signals, and signals to descendants.

On systems other than Linux, the Linux-only calls do nothing, and a killed launcher or keeper can
leave processes behind.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from hsm.core.own_process import above_streams, prctl

if TYPE_CHECKING:
    import psutil

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

#: A keeper's name in `ps`, on Linux.
KEEPER_NAME = "hsm-keeper"

#: Seconds between looks for survivors of SIGKILL: orphans appear one generation at a time.
KILL_INTERVAL = 0.02


def become_subreaper() -> None:
    """Make orphaned descendants this process's children instead of init's, so it can reap them."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signum: signal.Signals, parent: int) -> None:
    """Make the kernel send `signum` to this process when its parent ends.

    The kernel watches the parent *thread*, so only children of single-threaded processes may rely
    on this. If `parent` has already ended, this function sends the signal itself.
    """
    prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


def wake_pipe() -> tuple[int, int]:
    """Make a non-blocking pipe for `signal.set_wakeup_fd`; return its read and write ends."""
    read_end, write_end = map(above_streams, os.pipe())
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    return read_end, write_end


def descendants(root: psutil.Process | None = None) -> list[psutil.Process]:
    """List all processes below `root` (None: this process), except zombies."""
    import psutil

    try:
        found = (root or psutil.Process()).children(recursive=True)
    except psutil.Error:
        return []
    return [process for process in found if not is_zombie(process)]


def is_zombie(process: psutil.Process) -> bool:
    """Whether a process has ended, even if it has not been reaped yet."""
    import psutil

    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


def is_over(pid: int) -> bool:
    """Whether the process with this pid has ended, even if it has not been reaped yet."""
    import psutil

    try:
        return is_zombie(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


def is_stopped(process: psutil.Process) -> bool:
    """Whether a process is stopped, by a signal or by its tracer."""
    import psutil

    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


def send_signal(processes: Iterable[psutil.Process], signum: signal.Signals) -> None:
    """Signal each process, unless its pid was reused (psutil compares start times)."""
    import psutil

    for process in processes:
        with suppress(psutil.Error, OSError):  # gone, or another user's (set-uid)
            process.send_signal(signum)


def kill_below(root: psutil.Process, seconds: float) -> None:
    """Kill all processes below `root`, which must be a subreaper and stay alive meanwhile.

    Orphans then become its children, so that none can escape. Returns when nothing is left, or
    after `seconds`; processes stuck in the kernel die later.
    """
    deadline = time.monotonic() + seconds
    while (left := descendants(root)) and time.monotonic() < deadline:
        send_signal(left, signal.SIGKILL)
        time.sleep(KILL_INTERVAL)
