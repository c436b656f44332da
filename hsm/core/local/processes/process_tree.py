"""What Linux offers to keep hold of processes: subreaper, parent-death signal, trees.

On other systems the Linux-only calls do nothing; there a killed launcher or keeper can leave
processes behind.
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

#: What `ps` shows for a keeper, on Linux.
KEEPER_NAME = "hsm-keeper"

#: Seconds between looks at what is left after SIGKILL: orphans show up one generation at a time.
KILL_INTERVAL = 0.02


def become_subreaper() -> None:
    """Have orphaned descendants become this process's children, not init's: it can reap them."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signum: signal.Signals, parent: int) -> None:
    """Have the kernel send `signum` to this process when its parent ends.

    The signal follows the parent *thread*: only a child of a single-threaded process may rely on
    it. If `parent` has ended before the call, the signal is sent here.
    """
    prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


def wake_pipe() -> tuple[int, int]:
    """A pipe that never blocks, for `signal.set_wakeup_fd`: its read end and its write end."""
    read_end, write_end = map(above_streams, os.pipe())
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    return read_end, write_end


def stat_fields(pid: int) -> list[str]:
    """What /proc/<pid>/stat tells of a process, from its state on; empty if it is gone.

    proc(5) calls the first of these fields (3).
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def descendants(root: psutil.Process | None = None) -> list[psutil.Process]:
    """Every process below `root` (None: this process), zombies aside."""
    import psutil

    try:
        found = (root or psutil.Process()).children(recursive=True)
    except psutil.Error:
        return []
    return [process for process in found if not is_zombie(process)]


def is_zombie(process: psutil.Process) -> bool:
    """Whether a process has ended, perhaps only to be reaped yet."""
    import psutil

    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


def is_over(pid: int) -> bool:
    """The same of a process id: nobody has it, or a zombie."""
    import psutil

    try:
        return is_zombie(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


def is_stopped(process: psutil.Process) -> bool:
    """Whether a process stands still: stopped by a signal, or by its tracer."""
    import psutil

    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


def send_signal(processes: Iterable[psutil.Process], signum: signal.Signals) -> None:
    """Signal each process that still is the one that was found (psutil compares start times)."""
    import psutil

    for process in processes:
        with suppress(psutil.Error, OSError):  # Gone, or not ours to signal (set-uid).
            process.send_signal(signum)


def kill_below(root: psutil.Process, seconds: float) -> None:
    """SIGKILL everything below `root`, which must be a subreaper that is not killed meanwhile.

    So whatever is orphaned becomes its child, and none gets away. Returns when nothing is left, or
    after `seconds`: what is stuck in the kernel dies later.
    """
    deadline = time.monotonic() + seconds
    while (left := descendants(root)) and time.monotonic() < deadline:
        send_signal(left, signal.SIGKILL)
        time.sleep(KILL_INTERVAL)
