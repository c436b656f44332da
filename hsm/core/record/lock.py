"""A lock file that is released when its holder dies, however it dies.

On Linux this is an open file description lock (fcntl(2)). Unlike a POSIX lock, it also excludes
other threads of the same process, and is not lost when that process opens and closes the file for
another reason, such as a backup of the sweep's directory. Children forked from the holder close
their copy at once. Such a lock does not show who holds it, so the holder also takes a POSIX lock on
the next byte, which does, as long as it lasts. Other systems use `flock`, which shows no holder.

Where the file system has no locks, a file that only one process can make stands for the lock, see
`hsm.core.record.exclusive_file`.

A lock file lies in its sweep's ``.hsm`` folder. hsm follows no links when it opens one.
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
from hsm.core.logger import get_logger
from hsm.core.record.exclusive_file import NO_LOCKS, ExclusiveFile, Taken, check_free, maker_of

log = get_logger(__name__)

LINUX = sys.platform.startswith("linux")
#: Seconds to wait for a reader's lock to go away.
_READERS_TIMEOUT = 0.1
#: l_type, l_whence, l_start, l_len, l_pid of Linux's struct flock (fcntl(2)) on 64-bit machines.
_FLOCK = struct.Struct("hhqqi4x")
#: From Linux's asm-generic/fcntl.h; Python's fcntl module has the names on Linux only.
_OFD_GETLK, _OFD_SETLK = 36, 37
#: The byte with the lock, and the byte whose POSIX lock shows the holder.
_LOCKED_BYTE, _HOLDERS_BYTE = 0, 1
#: Maximum bytes of the holder's note in a lock file.
_MAX_NOTE = 200


class _Held:
    """The lock files that this process holds.

    Attributes:
        mutex: guards `fds`; also held while opening or closing a lock file.
        fds: their descriptors, by device and inode.
    """

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.fds: dict[tuple[int, int], int] = {}

    def forget(self) -> None:
        """In a forked child: drop the parent's locks. Another thread may have held the mutex."""
        self.mutex = threading.Lock()
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()


_held = _Held()
os.register_at_fork(after_in_child=_held.forget)


class Locked(Exception):
    """Another process, or another part of this one, holds the lock; `owner` says who, if known."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.owner = owner


class LockFile:
    """Holds the lock on `path` (made if missing) from creation to `release`.

    Anyone who may read the file can take a shared lock on it. That must not keep a launcher out, so
    a file with a lasting shared lock is replaced by a new one.

    Raises:
        Locked: the lock is taken.
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = os.fspath(path)  # a text, since each record of the journal looks at it
        self._file: ExclusiveFile | None = None  # where there are no locks
        with _held.mutex:
            try:
                self._fd, self._key = self._take()
            except BaseException:
                self._release_file()
                raise
            _held.fds[self._key] = self._fd

    def is_current(self) -> bool:
        """Whether the locked file is still the one at the path, where others look."""
        is_made = self._file is None or self._file.is_current()
        return is_made and self._leads_to(self._key)

    def retake(self) -> None:
        """Lock the file that is at `path` now. Raises as the constructor does."""
        with _held.mutex:
            fd, key = self._take()
            _held.fds.pop(self._key, None)
            os.close(self._fd)
            self._fd, self._key = fd, key
            _held.fds[key] = fd

    def _take(self) -> tuple[int, tuple[int, int]]:
        """Open and lock the file, and note the holder in it. Raises Locked, OSError."""
        while True:
            with suppress(FileNotFoundError):
                if file_key(os.lstat(self._path)) in _held.fds:
                    raise Locked("this process")
            fd = open_below(self._path.parent.parent, self._path, os.O_RDWR | os.O_CREAT)
            try:
                if not self._lock(fd):
                    if _is_locked(fd):
                        owner = os.pread(fd, _MAX_NOTE, 0).decode(errors="replace")
                        raise Locked(owner or "another process")
                    self._replace(file_key(os.fstat(fd)))
                elif self._leads_to(file_key(os.fstat(fd))):
                    _note_holder(fd)
                    return fd, file_key(os.fstat(fd))
                # Otherwise it was replaced between opening and locking: try again.
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _lock(self, fd: int) -> bool:
        """Lock the file; False if somebody else has it. Raises Locked, OSError."""
        folder = self._path.parent.parent
        try:
            try:
                is_locked = _lock_patiently(fd)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            else:
                if is_locked:
                    check_free(folder)  # It may be another machine's mount that has no locks.
                return is_locked
            if self._file is None or not self._file.is_current():
                is_first, self._file = self._file is None, ExclusiveFile(folder)
                if is_first:
                    text = "%s is on a file system without locks: %s stands for the lock"
                    log.warning(text, folder, self._file.path.name)
        except Taken as error:
            raise Locked(str(error)) from error
        return True

    def _leads_to(self, key: tuple[int, int]) -> bool:
        try:
            return file_key(os.lstat(self._place)) == key
        except OSError:
            return False

    def _replace(self, key: tuple[int, int]) -> None:
        """Replace the file with `key` by a new one, unless it has already been replaced."""
        root = self._path.parent.parent
        folder = open_folder_below(root, self._path.parent)
        try:
            with suppress(OSError):  # Lest a second launcher replace our new file in turn.
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._leads_to(key):
                replace_below(root, self._path, b"")
        finally:
            os.close(folder)

    def release(self) -> None:
        """Release the lock. Idempotent."""
        with _held.mutex:
            if self._fd >= 0:
                _held.fds.pop(self._key, None)
                os.close(self._fd)
                self._fd = -1
                self._release_file()

    def _release_file(self) -> None:
        if self._file is not None:
            self._file.release()


def _note_holder(fd: int) -> None:
    """Write into the locked file who holds it."""
    with suppress(OSError):
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _HOLDERS_BYTE)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)


def owner(path: Path) -> str:
    """The note of the last holder of the lock on `path`: ``process 17 on box``; "" if none."""
    try:
        return read_below(path.parent.parent, path, _MAX_NOTE).decode(errors="replace")
    except OSError:
        return ""


def _lock_patiently(fd: int) -> bool:
    """Lock the file; False if somebody else has it. Raises OSError if there are no locks here.

    Where readers check by locking, this waits a moment for them: they let go at once.
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
            return _is_locked(fd) or maker_of(path.parent.parent) is not None
        except OSError:  # This file system has no locks.
            return maker_of(path.parent.parent) is not None
        finally:
            os.close(fd)


def _is_locked(fd: int) -> bool:
    if LINUX:
        asked = _flock(fcntl.F_RDLCK, _LOCKED_BYTE)
        return bool(_FLOCK.unpack(fcntl.fcntl(fd, _OFD_GETLK, asked))[0] != fcntl.F_UNLCK)
    try:
        # Shared, so that two simultaneous readers do not mistake each other for the holder.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _flock(kind: int, byte: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0)


def holder(path: Path) -> int | None:
    """The pid of the process that holds the lock on `path`; None if none on this machine does."""
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
            kind, pid = fcntl.F_UNLCK, 0
        finally:
            os.close(fd)
    if kind != fcntl.F_UNLCK and pid > 0:
        return int(pid)
    maker = maker_of(path.parent.parent)
    return maker.pid if maker is not None and maker.is_here() else None
