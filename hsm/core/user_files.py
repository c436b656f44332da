"""Writing a file that the user has named, replacing an old one only when the new one is complete.

with replacing("table.csv") as file: …   a new file beside it, renamed over it at the end
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import IO, Any

from hsm.core.files import renamed

#: Names here may stand for a process's open files, and cannot be replaced.
_OPEN_FILES = ("/dev/", "/proc/")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file whose content replaces `path` if the block ends without an exception.

    Follows links, and keeps the mode and owner of an existing file. What cannot be replaced (a pipe
    or device, a file with several names, or one in a read-only directory) is written in place,
    though a file only once there is room for all of it.

    Raises:
        OSError: the file cannot be written; the old one is still there.
    """
    place = os.fspath(path)
    before = _status(place)
    if not place.startswith(_OPEN_FILES) and _is_replaceable(before):
        target = os.path.realpath(place)
        if before is not None and not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)
        temporary = os.path.join(os.path.dirname(target), f".hsm-{os.urandom(8).hex()}")
        fd = _create(temporary, must=before is None)
        if fd is not None:
            with _replacement(fd, temporary, target, before) as file:
                yield file
            return
    buffer = BytesIO()
    yield buffer
    _write_in_place(place, buffer.getvalue())


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _is_replaceable(status: os.stat_result | None) -> bool:
    return status is None or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)


def _create(path: str, *, must: bool) -> int | None:
    """Create a file; if the directory does not allow that, raise if `must`, else return None."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if must or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return None


@contextmanager
def _replacement(
    fd: int, temporary: str, target: str, before: os.stat_result | None
) -> Iterator[IO[bytes]]:
    with renamed(temporary, target), open(fd, "wb") as file:
        yield file
        file.flush()
        if before is not None:
            with suppress(OSError):
                os.fchown(fd, before.st_uid, before.st_gid)
            with suppress(OSError):
                os.fchmod(fd, stat.S_IMODE(before.st_mode))
        os.fsync(fd)


def _write_in_place(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    with open(fd, "wb") as file:
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        if is_file and data:
            _reserve(fd, len(data))
        file.write(data)
        if is_file:
            file.truncate()


def _reserve(fd: int, size: int) -> None:
    """Reserve room for `size` bytes in the file system. Raises OSError if there is none."""
    reserve: Any = getattr(os, "posix_fallocate", None)
    try:
        if reserve is not None:
            reserve(fd, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV):
            raise
