"""The file that a journal's records go to: it stays the one that readers see, and stays whole.

    Journal --append--> JournalFile: look, write --> journal.jsonl
                            `-- a copy without a name, for the day on which somebody changes it

People edit journals, restore backups over them, and remove them, while a sweep runs. Its launcher
would go on writing into a file that nobody reads, or behind what somebody else wrote. So before
each record it looks whether journal and lock on disk are its own, which costs two `stat`. If the
journal is not, it is written anew; what was found in its place is kept beside it.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from hsm.core.at_fork import in_child
from hsm.core.files import file_key, open_below, renamed
from hsm.core.record.lock import Locked, LockFile
from hsm.core.record.paths import SweepPaths

_CHUNK = 1 << 20
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT
#: What passes, perhaps: a disk that is full, a file system that is away for a while.
_PASSES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE)


class Overtaken(Exception):
    """The record is not this launcher's any more; the text says why, in one line."""


class JournalFile:
    """The journal of the sweep at `paths`, opened to be appended to. Not thread-safe.

    Args:
        lock: the sweep directory's.

    Attributes:
        size: bytes that were there, less a torn last line, and that were written.
        notices: what somebody should be told, a line each; emptied by whoever tells it.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """

    def __init__(self, paths: SweepPaths, lock: LockFile) -> None:
        self._paths = paths
        self._path = paths.journal
        self._lock = lock
        self.notices: list[str] = []
        self._mode = stat.S_IMODE(os.stat(paths.hsm_dir).st_mode)
        self._fd = self._open(self._path, _FLAGS)
        self._copy: int | None = None
        try:
            _cut_torn_line(self._fd)
            self._adopt(self._fd)
            self._begin_copy()
            in_child(self, JournalFile.close)  # It has no business with its parent's journals.
        except BaseException:
            self.close()
            raise

    def append(self, line: bytes) -> None:
        """Write a record.

        Raises:
            OSError: the disk does not take it; what was written of it is cut off again.
            Overtaken: the record is another launcher's by now, or cannot be written anew.
        """
        self.look()
        try:
            _write(self._fd, line)
        except BaseException as error:
            # Where this fails, too, the next look finds a file that is longer than it should be.
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
            if isinstance(error, OSError):
                error.filename = str(self._paths.journal)
            raise
        self.size += len(line)
        if self._copy is not None:
            try:
                _write(self._copy, line)
            except OSError:
                self._drop_copy()

    def look(self) -> None:
        """See to it that journal and lock on disk are this launcher's.

        Raises:
            OSError, Overtaken: as `append` does.
        """
        if not self._lock.is_current():
            self._take_lock_again()
        try:
            there = os.lstat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            there = None
        if there is None or file_key(there) != self._key or there.st_size != self.size:
            try:
                self._restore(there)
            except OSError as error:
                if error.errno in _PASSES:
                    raise
                reason = error.strerror or str(error)
                text = f"{self._path} was changed from outside, and cannot be rewritten: {reason}"
                raise Overtaken(text) from error

    def sync(self) -> None:
        """Put onto the disk what the system has taken."""
        with suppress(OSError):  # Not every file system can; it has been taken all the same.
            os.fdatasync(self._fd) if hasattr(os, "fdatasync") else os.fsync(self._fd)

    def close(self) -> None:
        """Free the file. Idempotent."""
        self._drop_copy()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take_lock_again(self) -> None:
        """The lock file was removed or replaced: two launchers must not work side by side."""
        try:
            self._paths.create_folders(self._mode)
            self._lock.retake()
        except Locked as error:
            raise Overtaken(f"{self._paths.sweep_dir} was taken over by {error.owner}") from error
        except OSError as error:
            if error.errno in _PASSES:
                raise
            reason = error.strerror or str(error)
            text = f"{self._paths.lock} was replaced, and cannot be locked: {reason}"
            raise Overtaken(text) from error
        self.notices.append(f"{self._paths.lock} was removed or replaced: locking it again")

    def _restore(self, there: os.stat_result | None) -> None:
        """Have the path lead to a file with all that was written, and to no other."""
        if there is not None and there.st_size == self.size and self._adopt_equal():
            return
        self._paths.create_folders(self._mode)
        aside = self._put_aside() if there is not None else None
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
        kept = "" if aside is None else f"; what was found there is in {aside.name}"
        self.notices.append(f"{self._path} was changed from outside: rewriting it{kept}")

    def _adopt_equal(self) -> bool:
        """Go on with another file that holds the same; False if it does not."""
        try:
            fd = self._open(self._path, os.O_RDWR | os.O_APPEND)
        except OSError:
            return False
        own = self._own()
        if own is None or not _are_equal(fd, own, self.size):
            os.close(fd)
            return False
        self._adopt(fd)
        return True

    def _adopt(self, fd: int) -> None:
        """`fd` is the journal from now on."""
        if fd != self._fd:
            os.close(self._fd)
            self._fd = fd
        status = os.fstat(fd)
        self._key, self.size = file_key(status), status.st_size

    def _put_aside(self) -> Path:
        """Give what lies in the journal's place another name, too; returns that."""
        number = 1
        while os.path.lexists(aside := self._path.with_name(f"journal.replaced-{number}.jsonl")):
            number += 1
        try:
            os.link(self._path, aside, follow_symlinks=False)
        except OSError:  # No links here, or something else than a file.
            os.rename(self._path, aside)
        return aside

    def _write_all_to(self, fd: int) -> None:
        own = self._own()
        if own is None:
            raise OSError(errno.ENODATA, "what was written to it before is lost")
        _copy_bytes(own, fd, self.size)

    def _own(self) -> int | None:
        """A descriptor of all that was written; None if it is lost."""
        if self._copy is not None:
            return self._copy
        # Somebody may have put another file in its place: then this one is as it was.
        return self._fd if os.fstat(self._fd).st_size == self.size else None

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

    def _drop_copy(self) -> None:
        if self._copy is not None:
            os.close(self._copy)
            self._copy = None

    def _open(self, path: Path, flags: int) -> int:
        return open_below(self._paths.sweep_dir, path, flags)


def _write(fd: int, data: bytes) -> None:
    """Write all of `data`; the system may take it in parts."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])


def _copy_bytes(source: int, target: int, size: int) -> None:
    offset = 0
    while offset < size:
        chunk = os.pread(source, min(_CHUNK, size - offset), offset)
        if not chunk:
            raise OSError(errno.ENODATA, "it is shorter than what was written")
        _write(target, chunk)
        offset += len(chunk)


def _are_equal(first: int, second: int, size: int) -> bool:
    """Whether the first `size` bytes of two files are the same, and the first has no more."""
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
