"""Files that the app opened for reading before its jobs: each job reads them for itself.

A forked process has the descriptors of its parent, and shares their offsets with it. Jobs that read
one file through such a descriptor would each get a part of it. So every job opens these files once
more, under the same numbers and at the offsets of the launch:

    launching process: find()     which files, and where the app had got to in each
    fork server:       is_open()  or has another thread closed it before the fork?
    each job:          reopen()   of each

Files that are open for writing stay shared: a shared offset is what keeps a log whole to which
several processes write. So do files that cannot be opened again: `shared_files` names them.
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
#: They say how a file is found or made, and /proc/self/fd/<n> is a link.
_FIRST_OPEN_FLAGS = os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL | os.O_TRUNC if LINUX else 0
#: kcmp(2): whether two descriptors are of one description; 0 means they are.
_KCMP = {"x86_64": 312, "aarch64": 272}.get(os.uname().machine)
_KCMP_FILE = 0


class FileLost(HsmError):
    """A file that the app had open cannot be opened once more for a job."""


@dataclass(frozen=True)
class OpenFile:
    """A file or directory that is open for reading.

    Attributes:
        key: device and inode.
        fds: its descriptors: several if they were duplicated, and so share an offset.
        flags: as for `os.open`.
        offset: where the next read begins.
        locked: whether the app holds a shared `flock` on it.
    """

    key: tuple[int, int]
    fds: tuple[int, ...]
    flags: int
    offset: int
    locked: bool

    def reopen(self) -> None:
        """Put a description of this process's own in the place of the one that it shares.

        Raises:
            FileLost: the file cannot be opened, though it could at launch.
        """
        try:
            own = self._open()
        except OSError as error:
            name = os.readlink(f"{_OPEN}/{self.fds[0]}")
            raise FileLost(
                f"the app has {name} open for reading, and it cannot be opened once more for this "
                f"job ({error.strerror}); open it inside the function"
            ) from error
        for fd in self.fds:
            os.dup2(own, fd, inheritable=os.get_inheritable(fd))
        os.close(own)

    def is_open(self) -> bool:
        """Whether its descriptors are still its own, in this process."""
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
    """The files and directories that jobs are to open for themselves."""
    return [file for file in _open_for_reading() if file.is_reopenable()]


def shared_files() -> list[str]:
    """Names of files open for reading that jobs cannot open for themselves: forks share them."""
    names = []
    for file in _open_for_reading():
        if not file.is_reopenable() and file.is_open():
            with suppress(OSError):  # Another thread's, who has just closed it.
                names.append(os.readlink(f"{_OPEN}/{file.fds[0]}"))
    return names


def _open_for_reading() -> Iterator[OpenFile]:
    try:
        descriptors = os.listdir(_OPEN)
    except OSError:  # no Linux, or a process that has given up privileges: nothing can be opened
        return
    found: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for fd in sorted(map(int, descriptors)):
        with suppress(OSError):  # closed by now, as the one that listed them
            state = None if fd <= 2 else _reading_state(fd)  # the first three become the job's own
            if state is not None:
                _add(found.setdefault(state, []), fd)
    for (device, inode, flags, offset), descriptions in found.items():
        for fds in descriptions:
            with suppress(OSError):
                locks = _locks(fds[0])
                if all(lock == b"FLOCK READ" for lock in locks):
                    yield OpenFile((device, inode), fds, flags, offset, locked=bool(locks))


def _reading_state(fd: int) -> tuple[int, ...] | None:
    """Device, inode, flags and offset; None unless it is a file or directory, for reading alone."""
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
    """Whether both are of one description; False where the kernel does not tell."""
    if _KCMP is None:
        return False
    pid = os.getpid()
    answer: int = ctypes.CDLL(None).syscall(_KCMP, pid, pid, _KCMP_FILE, fd, other)
    return answer == 0


def _locks(fd: int) -> list[bytes]:
    """The locks that go with a description, and not with a process: b"FLOCK READ", for one.

    An exclusive one keeps a file shared: a second description could never have it too.
    """
    with open(f"{_INFO}/{fd}", "rb") as file:
        words = [line.split() for line in file if line.startswith(b"lock:")]
    return [b"%s %s" % (kind, access) for _, _, kind, _, access, *_ in words if kind != b"POSIX"]
