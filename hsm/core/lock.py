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
import threading
import time
from pathlib import Path

#: Seconds.
_READERS_PATIENCE = 0.1

_held: set[tuple[int, int]] = set()  # (device, inode) of every lock file that this process holds
_mutex = threading.Lock()


def _after_fork() -> None:
    global _mutex
    _mutex = threading.Lock()
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)


class Locked(Exception):
    """Somebody else holds the lock; `owner` says who, as far as can be told."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.owner = owner


class LockFile:
    """Holds the lock on `path` (made if missing) from creation to `release`. Raises `Locked`."""

    def __init__(self, path: Path) -> None:
        with _mutex:
            path.touch()
            if (
                _key(os.stat(path)) in _held
            ):  # Looked up before opening: closing again would drop our own lock.
                raise Locked("this process")
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                _lock_patiently(self._fd)
            except OSError as error:
                owner = os.pread(self._fd, 200, 0).decode(errors="replace")
                os.close(self._fd)
                raise Locked(owner or "another process") from error
            self._key = _key(os.fstat(self._fd))
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            _held.add(self._key)

    def release(self) -> None:
        """Open the lock. Idempotent."""
        with _mutex:
            if self._fd >= 0:
                _held.discard(self._key)
                os.close(self._fd)
                self._fd = -1


def _lock_patiently(fd: int) -> None:
    """Lock the file; a reader that only looks, in `is_locked`, is over in no time. Raises OSError."""
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
    with _mutex:
        try:
            if _key(os.stat(path)) in _held:
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


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
