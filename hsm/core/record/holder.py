"""Verifies that a process is a sweep's launcher, before hsm sends it a signal.

A sweep's directory may have been written by anyone, so its files prove nothing: the lock file may
be a hard link to one that an unrelated process has locked, and a journal may hold any pid. The
kernel does not lie: a launcher has the sweep's lock file open and holds both locks of
`hsm.core.record.lock.LockFile` on it, which no other program takes together. On a file system
without locks, it has made a file that names it with the time of its start, which nobody could
foresee, and has that file open.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hsm.core.record.exclusive_file import FILE_NAME, maker_of

#: The two locks as /proc shows them, see proc_pid_fdinfo(5).
_LOCKED = re.compile(rb"^lock:\s+\d+: OFDLCK\s+\w+\s+WRITE \S+ \S+ 0 0$", re.MULTILINE)
#: Opened with O_RDWR.
_WRITABLE = re.compile(rb"^flags:\s+\d*2$", re.MULTILINE)
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
        is_likely = is_its_own and is_its_users and recorded in _pids(pid)
        return is_likely and (_has_locked(pid, status) or _has_made_file(pid, lock.parent.parent))
    except (OSError, ValueError):
        return False


def _pids(pid: int) -> list[int]:
    """The process's pid here, and its pids in the nested namespaces it belongs to."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        found = re.search(r"^NSpid:(.*)$", file.read(), re.MULTILINE)
    return [pid, *map(int, found[1].split())] if found else [pid]


def _has_locked(pid: int, status: os.stat_result) -> bool:
    return any(_LOCKED.search(info) and _NAMED.search(info) for info in _open(pid, status))


def _has_made_file(pid: int, folder: Path) -> bool:
    """Whether the process has the file that stands for a lock, which names it, open to write."""
    maker = maker_of(folder)
    if maker is None or maker.pid != pid or not maker.is_here():
        return False
    status = os.stat(folder / FILE_NAME, follow_symlinks=False)
    is_its_own = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
    is_its_users = os.stat(f"/proc/{pid}").st_uid == status.st_uid
    return is_its_own and is_its_users and any(map(_WRITABLE.search, _open(pid, status)))


def _open(pid: int, status: os.stat_result) -> Iterator[bytes]:
    """What the kernel says about each descriptor that the process has for a file."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):  # The process has closed it meanwhile.
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{name}"), status):
                yield Path(f"/proc/{pid}/fdinfo/{name}").read_bytes()
