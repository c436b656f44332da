"""A lock file that its holder's death opens, however it dies.

A POSIX lock belongs to a process and not to a descriptor. So children forked from the holder do not
keep it alive, and the kernel drops it with the process. The price: within one process it neither
excludes anybody nor survives another descriptor of the same file being closed, hence `_held`, which
knows what this process holds.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading
import time
from pathlib import Path

#: Seconds.
_READERS_PATIENCE = 0.1
#: l_type, l_whence, l_start, l_len, l_pid of Linux's struct flock (fcntl(2)) on 64-bit machines.
_FLOCK = struct.Struct("hhqqi4x")


class _Held:
    """The lock files that this process holds.

    Attributes:
        mutex: guards `fds`, and is held while a lock file is opened or closed.
        fds: their descriptors, by device and inode.
    """

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.fds: dict[tuple[int, int], int] = {}

    def forget(self) -> None:
        """In a forked child: the locks are its parent's, whose other threads may hold the mutex."""
        self.mutex = threading.Lock()
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()


_held = _Held()
os.register_at_fork(after_in_child=_held.forget)


class Locked(Exception):
    """Somebody else holds the lock; `owner` says who, as far as can be told."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.owner = owner


class LockFile:
    """Holds the lock on `path` (made if missing) from creation to `release`. Raises `Locked`."""

    def __init__(self, path: Path) -> None:
        with _held.mutex:
            path.touch()
            # Looked up before it is opened: to close it again would drop our own lock.
            if _key(os.stat(path)) in _held.fds:
                raise Locked("this process")
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                self._take()
            except BaseException:
                os.close(self._fd)
                raise
            self._key = _key(os.fstat(self._fd))
            _held.fds[self._key] = self._fd

    def _take(self) -> None:
        """Lock the file, and note in it who did. Raises Locked, OSError."""
        try:
            _lock_patiently(self._fd)
        except OSError as error:
            owner = os.pread(self._fd, 200, 0).decode(errors="replace")
            raise Locked(owner or "another process") from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)

    def release(self) -> None:
        """Open the lock. Idempotent."""
        with _held.mutex:
            if self._fd >= 0:
                _held.fds.pop(self._key, None)
                os.close(self._fd)
                self._fd = -1


def _lock_patiently(fd: int) -> None:
    """Lock the file; a reader, which only looks, lets go of it in no time. Raises OSError."""
    deadline = time.monotonic() + _READERS_PATIENCE
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.005)


def is_locked(path: Path) -> bool:
    """Whether a live process holds the lock on `path`."""
    with _held.mutex:
        try:
            if _key(os.stat(path)) in _held.fds:
                return True
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            # Shared, so that two readers that look at once do not take each other for the holder.
            fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False


def holder(path: Path) -> int | None:
    """The process that holds the lock on `path`; None if none does, or not on this machine."""
    with _held.mutex:
        try:
            if _key(os.stat(path)) in _held.fds:
                return os.getpid()
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            asked = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        except (OSError, struct.error):
            return None
        finally:
            os.close(fd)
    return pid if kind != fcntl.F_UNLCK and pid > 0 else None


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
