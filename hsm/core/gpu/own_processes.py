"""Which of the processes that a driver names are those of this launcher, and of which job."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import NamedTuple

from hsm.core.own_process import sees_processes
from hsm.core.process_stat import stat_fields

#: The inode of the first namespace of pids, in which drivers number processes (PROC_PID_INIT_INO in
#: the kernel's proc_ns.h).
_FIRST_NAMESPACE = 0xEFFFFFFC
#: Index of the parent's pid in `stat_fields`.
_PARENT = 1
#: Longer chains of parents than this are none.
_LONGEST_CHAIN = 1000


class Owner(NamedTuple):
    """Whose a process is.

    Attributes:
        is_here: whether there is such a process.
        is_ours: whether it is this launcher, or descends from it.
        root: which of the given processes it is, or descends from; None for none of them.
    """

    is_here: bool
    is_ours: bool = False
    root: int | None = None


def owner(pid: int, roots: Collection[int], launcher: int | None = None) -> Owner:
    """Find out whose the process `pid` is.

    Args:
        pid: a process.
        roots: processes to which all that descend from them belong.
        launcher: whose processes are ours; this process unless it is given.
    """
    launcher = os.getpid() if launcher is None else launcher
    chain = _chain(pid)
    if chain[-1] > 1 and launcher not in chain:
        # A parent has just ended, and its children have got another one; or it cannot be seen.
        chain = _chain(pid)
    if not is_here(pid):
        return Owner(False)
    root = next((each for each in chain if each in roots), None)
    return Owner(True, root is not None or launcher in chain, root)


def _chain(pid: int) -> list[int]:
    """`pid`, its parent, and so on, as far as they can be seen."""
    chain = [pid]
    while pid > 1 and len(chain) < _LONGEST_CHAIN and (fields := stat_fields(pid)):
        pid = int(fields[_PARENT])
        chain.append(pid)
    return chain


def is_here(pid: int) -> bool:
    """Whether there is a process `pid`; it may be somebody's whose processes cannot be seen."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def drivers_pids_are_ours() -> bool:
    """Whether drivers know processes by the pids that they have here: not in a container."""
    try:
        return sees_processes() and os.stat("/proc/self/ns/pid").st_ino == _FIRST_NAMESPACE
    except OSError:
        return False


def process_words(pid: int) -> str:
    """A process for people: ``pid 4711 (python)``, without its name if that cannot be seen."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return f"pid {pid} ({file.read().strip()})"
    except OSError:
        return f"pid {pid}"
