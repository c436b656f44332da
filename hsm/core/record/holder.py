"""Verifies that a process is a sweep's launcher, before hsm sends it a signal.

A sweep's directory may have been written by anyone, so its files prove nothing: the lock file may
be a hard link to one that an unrelated process has locked, and a journal may hold any pid. The
kernel does not lie: a launcher has the sweep's lock file open and holds both locks of
`hsm.core.record.lock.LockFile` on it, which no other program takes together.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

#: The two locks as /proc shows them, see proc_pid_fdinfo(5).
_LOCKED = re.compile(rb"^lock:\s+\d+: OFDLCK\s+\w+\s+WRITE \S+ \S+ 0 0$", re.MULTILINE)
_NAMED = re.compile(rb"^lock:\s+\d+: POSIX\s+\w+\s+WRITE \S+ \S+ 1 1$", re.MULTILINE)


def is_launcher(pid: int, recorded: object, lock: Path) -> bool:
    """Whether process `pid`, the apparent holder of `lock`, is the sweep's launcher.

    Args:
        pid: the process to check.
        recorded: the launcher's pid according to the journal, in any pid namespace.
        lock: the sweep's lock file.
    """
    try:
        status = os.stat(lock, follow_symlinks=False)
        is_its_own = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        is_its_users = os.stat(f"/proc/{pid}").st_uid == status.st_uid
        return is_its_own and is_its_users and recorded in _pids(pid) and _has_locked(pid, status)
    except (OSError, ValueError):
        return False


def _pids(pid: int) -> list[int]:
    """The process's pid here, and its pids in the nested namespaces it belongs to."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        found = re.search(r"^NSpid:(.*)$", file.read(), re.MULTILINE)
    return [pid, *map(int, found[1].split())] if found else [pid]


def _has_locked(pid: int, status: os.stat_result) -> bool:
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):  # The process has closed it meanwhile.
            if not os.path.samestat(os.stat(f"/proc/{pid}/fd/{name}"), status):
                continue
            with open(f"/proc/{pid}/fdinfo/{name}", "rb") as file:
                locks = file.read()
            if _LOCKED.search(locks) and _NAMED.search(locks):
                return True
    return False
