"""Keeps a journal's file complete, and the one that readers see.

    Journal --append--> JournalFile: check, write --> journal.jsonl
                            `-- an unnamed copy, to restore the journal from

People edit, remove and restore journals while a sweep is running. The launcher would then write to
a file that nobody reads, or after somebody else's lines. So before a record it checks that the
journal and lock on disk are its own, unless it just has: thousands of short jobs have two records
each. If the journal is not, the launcher rewrites it, with the latest records, and keeps the file
it found there beside it.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from hsm.core.at_fork import in_child
from hsm.core.files import file_key, open_below, renamed
from hsm.core.record.lock import Locked, LockFile
from hsm.core.record.paths import SweepPaths

_CHUNK = 1 << 20
#: Bytes of records that are kept for the copy, lest each record costs two writes.
_MAX_UNCOPIED = 1 << 16
#: Seconds after a check in which there is no other: what is written meanwhile to a journal that was
#: replaced is in the copy as well, and so in the one that the next check writes.
_CHECKED_FOR = 0.02
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT
#: Errors that may go away: a full disk, a file system that is temporarily unavailable.
_TRANSIENT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE)


class Overtaken(Exception):
    """The journal is no longer this launcher's; the text says why, in one line."""


class JournalFile:
    """The journal of the sweep at `paths`, opened for appending. Not thread-safe.

    Args:
        paths: the sweep's.
        lock: the sweep directory's lock.

    Attributes:
        size: bytes in the file, not counting a torn last line that was cut off.
        notices: messages for people, one line each; `Journal` sends and clears them.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """

    def __init__(self, paths: SweepPaths, lock: LockFile) -> None:
        self._paths = paths
        self._path = paths.journal
        self._place = os.fspath(paths.journal)  # a text, since each record looks at it
        self._lock = lock
        self.notices: list[str] = []
        self._mode = stat.S_IMODE(os.stat(paths.hsm_dir).st_mode)
        self._fd = self._open(self._path, _FLAGS)
        self._copy: int | None = None
        self._uncopied = bytearray()  # the latest records, which are not in the copy yet
        self._look_at = 0.0  # when the file is to be checked again before a record (monotonic)
        try:
            _cut_torn_line(self._fd)
            self._adopt(self._fd)
            self._begin_copy()
            in_child(self, JournalFile.close)  # A forked child must not write its parent's journal.
        except BaseException:
            self.close()
            raise

    def append(self, line: bytes) -> None:
        """Write a record.

        Raises:
            OSError: the write failed; a partial line was cut off again.
            Overtaken: the journal is another launcher's by now, or cannot be rewritten.
        """
        if time.monotonic() >= self._look_at:
            self.look()
        try:
            _write(self._fd, line)
        except BaseException as error:
            # If this fails, too, the next `look` finds the file too long and rewrites it.
            self._look_at = 0.0
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
            if isinstance(error, OSError):
                error.filename = str(self._paths.journal)
            raise
        self.size += len(line)
        self._uncopied += line
        if len(self._uncopied) >= _MAX_UNCOPIED:
            try:
                self._complete_copy()
            except OSError:
                self._drop_copy()

    def look(self) -> None:
        """Check that the journal and lock on disk are this launcher's; repair them if not.

        Raises:
            OSError, Overtaken: as `append` does.
        """
        checked = time.monotonic()
        if not self._lock.is_current():
            self._retake_lock()
        try:
            found = os.lstat(self._place)
        except (FileNotFoundError, NotADirectoryError):
            found = None
        if found is None or file_key(found) != self._key or found.st_size != self.size:
            try:
                self._restore(found)
            except OSError as error:
                if error.errno in _TRANSIENT:
                    raise
                reason = error.strerror or str(error)
                text = f"{self._path} was changed from outside, and cannot be rewritten: {reason}"
                raise Overtaken(text) from error
        self._look_at = checked + _CHECKED_FOR

    def sync(self) -> None:
        """Sync what has been written to disk."""
        with suppress(OSError):  # Not every file system can; it has accepted the data anyway.
            os.fdatasync(self._fd) if hasattr(os, "fdatasync") else os.fsync(self._fd)

    def close(self) -> None:
        """Free the file. Idempotent."""
        self._drop_copy()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _retake_lock(self) -> None:
        """Lock the file that replaced ours, lest two launchers run the same sweep."""
        try:
            self._paths.create_folders(self._mode)
            self._lock.retake()
        except Locked as error:
            raise Overtaken(f"{self._paths.sweep_dir} was taken over by {error.owner}") from error
        except OSError as error:
            if error.errno in _TRANSIENT:
                raise
            reason = error.strerror or str(error)
            text = f"{self._paths.lock} was replaced, and cannot be locked: {reason}"
            raise Overtaken(text) from error
        self.notices.append(f"{self._paths.lock} was removed or replaced: locking it again")

    def _restore(self, found: os.stat_result | None) -> None:
        """Put a file with everything written so far at the journal's path.

        Args:
            found: the status of what is there now; None if nothing is.
        """
        if found is not None and found.st_size == self.size and self._adopt_equal():
            return
        self._paths.create_folders(self._mode)
        aside = self._keep_beside() if found is not None else None
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with suppress(FileNotFoundError):
            temporary.unlink()
        fd = self._open(temporary, _FLAGS | os.O_EXCL)
        try:
            with renamed(temporary, self._path):
                self._write_all_to(fd)
                os.fsync(fd)
        except BaseException:
            os.close(fd)
            raise
        self._adopt(fd)
        kept = "" if aside is None else f"; the changed file is kept as {aside.name}"
        self.notices.append(f"{self._path} was changed from outside: rewriting it{kept}")

    def _adopt_equal(self) -> bool:
        """Switch to the file at the path if its content is the same; False if it is not."""
        own = self._own()
        try:
            fd = self._open(self._path, os.O_RDWR | os.O_APPEND)
        except OSError:
            return False
        if own is None or not _are_equal(fd, own, self.size):
            os.close(fd)
            return False
        self._adopt(fd)
        return True

    def _adopt(self, fd: int) -> None:
        """Use `fd` as the journal from now on."""
        if fd != self._fd:
            os.close(self._fd)
            self._fd = fd
        status = os.fstat(fd)
        self._key, self.size = file_key(status), status.st_size

    def _keep_beside(self) -> Path:
        """Keep the file at the journal's path under another name, which is returned."""
        number = 1
        while os.path.lexists(aside := self._path.with_name(f"journal.replaced-{number}.jsonl")):
            number += 1
        try:
            os.link(self._path, aside, follow_symlinks=False)
        except OSError:  # The file system has no hard links, or this is not a file.
            os.rename(self._path, aside)
        return aside

    def _write_all_to(self, fd: int) -> None:
        own = self._own()
        if own is None:
            raise OSError(errno.ENODATA, "its earlier records are lost")
        _copy_bytes(own, fd, self.size)

    def _own(self) -> int | None:
        """A descriptor of a file with everything written so far; None if that is lost.

        Raises:
            OSError: there is no room for all of it.
        """
        # If somebody replaced the journal's file, ours still has the original content.
        is_whole = os.fstat(self._fd).st_size == self.size
        try:
            self._complete_copy()
        except OSError:
            if not is_whole:
                raise
            return self._fd
        if self._copy is not None:
            return self._copy
        return self._fd if is_whole else None

    def _begin_copy(self) -> None:
        try:
            fd, name = tempfile.mkstemp(prefix="hsm-")
            os.unlink(name)
        except OSError:
            return
        self._copy = fd
        try:
            _copy_bytes(self._fd, fd, self.size)
        except OSError:
            self._drop_copy()

    def _complete_copy(self) -> None:
        """Write the latest records to the copy. If that raises OSError, it may be tried again."""
        if self._copy is not None:
            os.lseek(self._copy, self.size - len(self._uncopied), os.SEEK_SET)
            _write(self._copy, self._uncopied)
        self._uncopied.clear()

    def _drop_copy(self) -> None:
        if self._copy is not None:
            os.close(self._copy)
            self._copy = None

    def _open(self, path: Path, flags: int) -> int:
        return open_below(self._paths.sweep_dir, path, flags)


def _write(fd: int, data: bytes | bytearray) -> None:
    """Write all of `data`, however much each `os.write` takes."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])


def _copy_bytes(source: int, target: int, size: int) -> None:
    offset = 0
    while offset < size:
        chunk = os.pread(source, min(_CHUNK, size - offset), offset)
        if not chunk:
            raise OSError(errno.ENODATA, "it is shorter than what was written to it")
        _write(target, chunk)
        offset += len(chunk)


def _are_equal(first: int, second: int, size: int) -> bool:
    """Whether two files agree in their first `size` bytes, and the first file has no more."""
    if os.fstat(first).st_size != size:
        return False
    for offset in range(0, size, _CHUNK):
        length = min(_CHUNK, size - offset)
        if os.pread(first, length, offset) != os.pread(second, length, offset):
            return False
    return True


def _cut_torn_line(fd: int) -> None:
    """Truncate the file after its last newline."""
    end = os.fstat(fd).st_size
    position = end
    while position > 0:
        start = max(0, position - 65536)
        newline = os.pread(fd, position - start, start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position < end:
        os.ftruncate(fd, position)
