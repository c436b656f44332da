"""Reopening files that the app opened for reading before the launch, so that each job reads alone.

A forked process shares the offsets of its parent's descriptors. Jobs that read one file through
such a descriptor would each get a part of it. So every job reopens these files, with the same
descriptor numbers and at the offsets of the launch:

    launching process: find()     which files, and the app's offset in each
    fork server:       is_open()  another thread may have closed it before the fork
    each job:          reopen()   each file

Files that are open for writing stay shared, because a shared offset keeps a log whole that several
processes write to. So do files that cannot be reopened; `shared_files` names them.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from hsm.core.errors import HsmError
from hsm.core.files import file_key
from hsm.core.own_process import LINUX

_OPEN = "/proc/self/fd"
_INFO = "/proc/self/fdinfo"
#: Flags that only matter for the first open; /proc/self/fd/<n> is a link to an existing file.
_FIRST_OPEN_FLAGS = os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL | os.O_TRUNC if LINUX else 0
#: kcmp(2) returns 0 if two descriptors share an open file description.
_KCMP = {"x86_64": 312, "aarch64": 272}.get(os.uname().machine)
_KCMP_FILE = 0


class FileLost(HsmError):
    """A file that the app had open cannot be reopened for a job."""


@dataclass(frozen=True)
class OpenFile:
    """A file or directory that is open for reading.

    Attributes:
        key: device and inode.
        fds: its descriptors; several if duplicated, in which case they share an offset.
        flags: flags for `os.open`.
        offset: where the next read begins.
        locked: whether the app holds a shared `flock` on it.
    """

    key: tuple[int, int]
    fds: tuple[int, ...]
    flags: int
    offset: int
    locked: bool

    def reopen(self) -> None:
        """Replace the shared open file description by one of this process's own.

        Raises:
            FileLost: the file cannot be reopened, although it could at launch.
        """
        try:
            own = self._open()
        except OSError as error:
            name = os.readlink(f"{_OPEN}/{self.fds[0]}")
            raise FileLost(
                f"the app has {name} open for reading, and this job cannot reopen it "
                f"({error.strerror}); open it inside the function"
            ) from error
        for fd in self.fds:
            os.dup2(own, fd, inheritable=os.get_inheritable(fd))
        os.close(own)

    def is_open(self) -> bool:
        """Whether the descriptors still lead to this file in this process."""
        try:
            return all(file_key(os.fstat(fd)) == self.key for fd in self.fds)
        except OSError:
            return False

    def is_reopenable(self) -> bool:
        """Whether `reopen` would succeed now."""
        try:
            os.close(self._open())
        except OSError:
            return False
        return True

    def _open(self) -> int:
        own = os.open(f"{_OPEN}/{self.fds[0]}", self.flags)
        try:
            os.lseek(own, self.offset, os.SEEK_SET)
            if self.locked:
                fcntl.flock(own, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            os.close(own)
            raise
        return own


def find() -> list[OpenFile]:
    """Find the files and directories that jobs must reopen."""
    return [file for file in _open_for_reading() if file.is_reopenable()]


def shared_files() -> list[str]:
    """Names of files open for reading that jobs cannot reopen, so that forks share them."""
    names = []
    for file in _open_for_reading():
        if not file.is_reopenable() and file.is_open():
            with suppress(OSError):  # another thread has just closed it
                names.append(os.readlink(f"{_OPEN}/{file.fds[0]}"))
    return names


def _open_for_reading() -> Iterator[OpenFile]:
    try:
        descriptors = os.listdir(_OPEN)
    except OSError:  # not Linux, or the process has dropped privileges: nothing can be reopened
        return
    found: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for fd in sorted(map(int, descriptors)):
        with suppress(OSError):  # closed in the meantime, as is listdir's own descriptor
            state = None if fd <= 2 else _reading_state(fd)  # jobs get their own first three
            if state is not None:
                _add(found.setdefault(state, []), fd)
    for (device, inode, flags, offset), descriptions in found.items():
        for fds in descriptions:
            with suppress(OSError):
                locks = _locks(fds[0])
                if all(lock == b"FLOCK READ" for lock in locks):
                    yield OpenFile((device, inode), fds, flags, offset, locked=bool(locks))


def _reading_state(fd: int) -> tuple[int, ...] | None:
    """Device, inode, flags and offset; None unless it is a file or directory open only to read."""
    status = os.fstat(fd)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return None
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_PATH:
        return None
    flags = flags & ~_FIRST_OPEN_FLAGS | os.O_CLOEXEC
    return status.st_dev, status.st_ino, flags, os.lseek(fd, 0, os.SEEK_CUR)


def _add(descriptions: list[tuple[int, ...]], fd: int) -> None:
    for number, fds in enumerate(descriptions):
        if _is_duplicate(fds[0], fd):
            descriptions[number] = (*fds, fd)
            return
    descriptions.append((fd,))


def _is_duplicate(fd: int, other: int) -> bool:
    """Whether both share an open file description; False where the kernel cannot tell."""
    if _KCMP is None:
        return False
    pid = os.getpid()
    answer: int = ctypes.CDLL(None).syscall(_KCMP, pid, pid, _KCMP_FILE, fd, other)
    return answer == 0


def _locks(fd: int) -> list[bytes]:
    """Locks that belong to the open file description, not to a process, such as b"FLOCK READ".

    With an exclusive lock the file stays shared, since no second description could have the lock.
    """
    with open(f"{_INFO}/{fd}", "rb") as file:
        words = [line.split() for line in file if line.startswith(b"lock:")]
    return [b"%s %s" % (kind, access) for _, _, kind, _, access, *_ in words if kind != b"POSIX"]
