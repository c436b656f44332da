"""A lock file that its holder's death opens, however it dies.

On Linux it is an open file description lock (fcntl(2)): it holds within one process too, and it is
not lost, as a POSIX lock is, when that process reads and closes the file, in a backup of the
sweep's directory, say. Children that are forked from the holder close their copy at once. Such a
lock does not tell who holds it. A POSIX lock on the byte beside it does, as long as it is there.
Elsewhere `flock` does the same, and nobody can tell who holds it.

A lock file lies in a folder of its sweep's directory, ``.hsm``. Whoever looks at one, or takes it,
follows no link there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from hsm.core.files import file_key, open_below, open_folder_below, read_below, replace_below

LINUX = sys.platform.startswith("linux")
#: Seconds.
_READERS_TIMEOUT = 0.1
#: l_type, l_whence, l_start, l_len, l_pid of Linux's struct flock (fcntl(2)) on 64-bit machines.
_FLOCK = struct.Struct("hhqqi4x")
#: Of Linux's asm-generic/fcntl.h; Python's fcntl module has the names on Linux only.
_OFD_GETLK, _OFD_SETLK = 36, 37
#: The byte that is locked, and the one whose POSIX lock names the holder.
_LOCKED_BYTE, _HOLDERS_BYTE = 0, 1
#: Bytes that tell who holds a lock.
_MAX_NOTE = 200


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
    """Holds the lock on `path` (made if missing) from creation to `release`.

    A shared lock, which anybody can take who may read the file, keeps nobody out: the file is then
    replaced by a new one.

    Raises:
        Locked: somebody else holds it.
        OSError: the file cannot be written, or its file system has no locks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _held.mutex:
            self._fd, self._key = self._take()
            _held.fds[self._key] = self._fd

    def is_current(self) -> bool:
        """Whether the file that is locked is still the one that others look at."""
        return self._leads_to(self._key)

    def retake(self) -> None:
        """Hold the lock on the file that is at `path` now. Raises as the constructor does."""
        with _held.mutex:
            fd, key = self._take()
            _held.fds.pop(self._key, None)
            os.close(self._fd)
            self._fd, self._key = fd, key
            _held.fds[key] = fd

    def _take(self) -> tuple[int, tuple[int, int]]:
        """Open and lock the file, and note in it who did. Raises Locked, OSError."""
        while True:
            with suppress(FileNotFoundError):
                if file_key(os.lstat(self._path)) in _held.fds:
                    raise Locked("this process")
            fd = open_below(self._path.parent.parent, self._path, os.O_RDWR | os.O_CREAT)
            try:
                if not _lock_patiently(fd):
                    if _is_locked(fd):
                        owner = os.pread(fd, _MAX_NOTE, 0).decode(errors="replace")
                        raise Locked(owner or "another process")
                    self._replace(file_key(os.fstat(fd)))
                elif self._leads_to(file_key(os.fstat(fd))):
                    _note_holder(fd)
                    return fd, file_key(os.fstat(fd))
                # Else somebody has replaced it between the two.
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _leads_to(self, key: tuple[int, int]) -> bool:
        try:
            return file_key(os.lstat(self._path)) == key
        except OSError:
            return False

    def _replace(self, key: tuple[int, int]) -> None:
        """Put a new file in the place of the one with `key`, unless that was done."""
        root = self._path.parent.parent
        folder = open_folder_below(root, self._path.parent)
        try:
            with suppress(OSError):  # Of two that replace it at once, the second would undo it.
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._leads_to(key):
                replace_below(root, self._path, b"")
        finally:
            os.close(folder)

    def release(self) -> None:
        """Open the lock. Idempotent."""
        with _held.mutex:
            if self._fd >= 0:
                _held.fds.pop(self._key, None)
                os.close(self._fd)
                self._fd = -1


def _note_holder(fd: int) -> None:
    """Tell in the lock file, which is locked, who did that."""
    with suppress(OSError):
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _HOLDERS_BYTE)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)


def owner(path: Path) -> str:
    """Who took the lock on `path` last, as they noted it: ``process 17 on box``; else ""."""
    try:
        return read_below(path.parent.parent, path, _MAX_NOTE).decode(errors="replace")
    except OSError:
        return ""


def _lock_patiently(fd: int) -> bool:
    """Lock the file; False if somebody else has it. Raises OSError where there are no locks.

    Where a reader looks by locking, it lets go in no time.
    """
    deadline = time.monotonic() + _READERS_TIMEOUT
    while not _lock(fd):
        if LINUX or time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _lock(fd: int) -> bool:
    try:
        if LINUX:
            fcntl.fcntl(fd, _OFD_SETLK, _flock(fcntl.F_WRLCK, _LOCKED_BYTE))
        else:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether a live process holds the lock on `path`."""
    with _held.mutex:
        try:
            if file_key(os.lstat(path)) in _held.fds:
                return True
            fd = open_below(path.parent.parent, path)
        except OSError:
            return False
        try:
            return _is_locked(fd)
        except OSError:
            return False  # There are no locks here.
        finally:
            os.close(fd)


def _is_locked(fd: int) -> bool:
    if LINUX:
        asked = _flock(fcntl.F_RDLCK, _LOCKED_BYTE)
        return bool(_FLOCK.unpack(fcntl.fcntl(fd, _OFD_GETLK, asked))[0] != fcntl.F_UNLCK)
    try:
        # Shared, so that two readers that look at once do not take each other for the holder.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _flock(kind: int, byte: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0)


def holder(path: Path) -> int | None:
    """The process that holds the lock on `path`; None if none does, or not on this machine."""
    with _held.mutex:
        try:
            if file_key(os.lstat(path)) in _held.fds:
                return os.getpid()
            fd = open_below(path.parent.parent, path)
        except OSError:
            return None
        try:
            asked = _flock(fcntl.F_RDLCK, _HOLDERS_BYTE)
            kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        except (OSError, struct.error):
            return None
        finally:
            os.close(fd)
    return pid if kind != fcntl.F_UNLCK and pid > 0 else None
