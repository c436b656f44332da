"""Files of a sweep's directory, opened so that whatever lies there under their names does no harm.

Anybody may have written such a directory, the sweep's own jobs among them. A name in it may be a
link that leads elsewhere, or a pipe or device for which an `open` waits. So below the directory no
link is followed, nothing is waited for, and only regular files are read or written.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

#: Of ``.hsm``: it belongs to its owner alone, as results and logs may be confidential, or to a
#: group that shares it. What is made below is as open to others as the directory it is made in.
PRIVATE, SHARED = 0o700, 0o2770
#: O_NONBLOCK: nothing is waited for; on a regular file, which is what is left, it has no effect.
_ONLY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CHUNK = 1 << 20  # bytes that are looked through at a time
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Place = str | Path
"""A path; one that is absolute, and has no ``.`` or double slash in it."""


class NotRegular(OSError):
    """Something else than a file (or than a folder, on the way to one) has its name.

    `filename` is what that is, `strerror` says in words what stands there.
    """

    def __init__(self, path: Place, found: str, wanted: str = "a regular file") -> None:
        super().__init__(errno.EINVAL, f"it is {found}, not {wanted}", str(path))


class NotOwn(OSError):
    """A file that another user has written, or may have."""

    def __init__(self, path: Place) -> None:
        super().__init__(errno.EPERM, "another user may have written it", str(path))


def open_below(root: Place, path: Place, flags: int = os.O_RDONLY) -> int:
    """Open the regular file `path`, which lies below the directory `root`; returns a descriptor.

    `root` itself may be reached through links, as the user's own words lead to it; nothing below it
    may be one. Never waits, whatever is there, and empties nothing that is not a regular file.

    Args:
        flags: as for `os.open`.

    Raises:
        NotRegular: `path`, or a directory on the way to it, is something else.
        OSError: as `os.open` does.
        ValueError: `path` is not below `root`, or has a ``..`` in it.
    """
    folder, name = _open_folder_of(root, path)
    try:
        return open_in(folder, name, flags)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(folder)


def open_in(folder: int, name: str, flags: int = os.O_RDONLY) -> int:
    """As `open_below`, for the file `name` in a directory that is open already, as `folder`."""
    try:
        fd = _open_or_make(folder, name, flags & ~os.O_TRUNC)
    except OSError as error:
        # A link (ELOOP); a pipe without a reader or a socket (ENXIO); a directory that is to be
        # written (EISDIR).
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise NotRegular(name, _what_is(name, folder)) from error
        raise
    try:
        found = os.fstat(fd).st_mode
        if not stat.S_ISREG(found):
            raise NotRegular(name, _kind(found))
        if flags & os.O_TRUNC:
            os.ftruncate(fd, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_or_make(folder: int, name: str, flags: int) -> int:
    """Open a file in a directory; one that is made is as open to others as that is."""
    flags |= _ONLY
    if not flags & os.O_CREAT:
        return os.open(name, flags, dir_fd=folder)
    status = os.fstat(folder)
    mode = status.st_mode & 0o666 | 0o600
    if not mode & stat.S_IWGRP:
        return os.open(name, flags, mode, dir_fd=folder)
    # A group shares it: whoever makes a file, and whatever their umask, the others can use it.
    try:
        fd = os.open(name, flags | os.O_EXCL, mode, dir_fd=folder)
    except FileExistsError:
        if flags & os.O_EXCL:
            raise
        return os.open(name, flags, mode, dir_fd=folder)
    with suppress(OSError):
        os.fchmod(fd, mode)
    return fd


def make_folder_below(root: Place, path: Place) -> None:
    """Make the directory `path` below `root`, unless it is there; see `open_below`.

    It is as open to others as the one that it is in.

    Raises:
        NotRegular: something else has its place.
        OSError, ValueError: as `open_below` does.
    """
    parent, name = _open_folder_of(root, path)
    try:
        mode = os.fstat(parent).st_mode & 0o777 | PRIVATE
        is_new = True
        try:
            os.mkdir(name, PRIVATE, dir_fd=parent)
        except FileExistsError:
            is_new = False
    finally:
        os.close(parent)
    folder = open_folder_below(root, path)
    try:
        if is_new and mode != PRIVATE:
            os.fchmod(folder, os.fstat(folder).st_mode & stat.S_ISGID | mode)
    finally:
        os.close(folder)


def check_place(path: Path, *, is_folder: bool = False) -> None:
    """See that `path`, if it is there, is a file that can be written in place, or a folder.

    Raises:
        NotRegular: it is something else, or a file that has another name as well.
        OSError: that cannot be seen.
    """
    try:
        status = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return
    kind = stat.S_IFMT(status.st_mode)
    if kind != (stat.S_IFDIR if is_folder else stat.S_IFREG):
        raise NotRegular(path, _kind(status.st_mode), "a folder" if is_folder else "a regular file")
    if not is_folder and status.st_nlink > 1:
        raise NotRegular(path, "a hard link", "a file of its own (cp makes it one)")


def open_log(path: Path) -> int:
    """Open a job's log, ``<sweep_dir>/.hsm/logs/<n>.out``; as `open_below`."""
    return open_below(path.parents[2], path)


def open_linked(path: str | Path, *within: Path) -> int:
    """Open the regular file to which `path` leads, through links too; returns a descriptor.

    Args:
        within: directories, in one of which it must lie in the end; none: it may lie anywhere.

    Raises:
        NotRegular: it is something else, or lies outside.
        OSError, ValueError: as `open_below` does.
    """
    target = Path(os.path.realpath(path))
    if within and not any(Path(os.path.realpath(root)) in target.parents for root in within):
        raise NotRegular(path, "a link that leads elsewhere")
    try:
        return open_below(target.parent, target)
    except NotRegular as error:
        error.filename = str(path)
        raise


def open_own_below(root: Place, path: Place) -> int:
    """As `open_below`, for what is to be believed: a file that nobody else can have written.

    It is this user's, and writable for others at most through the user's own group.

    Raises:
        NotOwn: somebody else may have written it.
        OSError, ValueError: as `open_below` does.
    """
    fd = open_below(root, path)
    status = os.fstat(fd)
    is_shared = bool(status.st_mode & stat.S_IWOTH) or (
        bool(status.st_mode & stat.S_IWGRP) and status.st_gid != os.getegid()
    )
    if status.st_uid != os.geteuid() or is_shared:
        os.close(fd)
        raise NotOwn(path)
    return fd


def open_folder_below(root: Place, path: Place) -> int:
    """Open the directory `path`, which is `root` or lies below it; returns a descriptor.

    Raises:
        NotRegular: it, or a directory on the way to it, is something else.
        OSError, ValueError: as `open_below` does.
    """
    directories = _directories_below(os.fspath(root), os.fspath(path))
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for number, directory in enumerate(directories, start=1):
        try:
            below = os.open(directory, _DIRECTORY, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                at = os.path.join(root, *directories[:number])
                raise NotRegular(at, _what_is(directory, folder), "a folder") from error
            raise
        finally:
            os.close(folder)
        folder = below
    return folder


@lru_cache(maxsize=64)  # The keepers of a sweep open one folder for each job.
def _directories_below(root: str, path: str) -> tuple[str, ...]:
    # Of texts, and not of paths, which are slow to make: each job comes by here several times.
    if path == root:
        return ()
    above, names = path[: len(root)], path[len(root) :].split(os.sep)
    if os.pardir in path.split(os.sep):
        raise ValueError(f"{path} may lead out of {root}")
    if above != root or not (root.endswith(os.sep) or names[0] == ""):
        raise ValueError(f"{path} is not below {root}")
    return tuple(filter(None, names))


def _open_folder_of(root: Place, path: Place) -> tuple[int, str]:
    """The folder that `path` is in, and its name there."""
    text = os.fspath(path)
    parent, _, name = text.rpartition(os.sep)
    if text == os.fspath(root):
        raise ValueError(f"{path} is not below {root}")
    return open_folder_below(root, parent or os.sep), name


_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
}


def _what_is(name: str, folder: int) -> str:
    try:
        return _kind(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return "something else"


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def file_key(status: os.stat_result) -> tuple[int, int]:
    """What tells a file from all others, whatever its names."""
    return status.st_dev, status.st_ino


def read_below(root: Place, path: Place, most: int | None = None) -> bytes:
    """What the regular file `path` below `root` holds; see `open_below`.

    Args:
        most: bytes; what a larger file has beyond them is not read.

    Raises:
        OSError: it is not there, cannot be read, or is no regular file (`NotRegular`).
    """
    with open(open_below(root, path), "rb") as file:
        return file.read() if most is None else file.read(most)


def replace_below(root: Place, path: Place, data: bytes, *, sync: bool = False) -> None:
    """Have `path` below `root` hold `data`: it is there whole, or as it was.

    Args:
        sync: put it onto the disk before it takes the place of what was there.

    Raises:
        OSError: it cannot be written, or the way to it leads through something else.
    """
    folder, name = _open_folder_of(root, path)
    try:
        temporary = f".{name}.{os.getpid()}"
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        fd = _open_or_make(folder, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with renamed(temporary, name, folder), open(fd, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
    finally:
        os.close(folder)


@contextmanager
def renamed(temporary: Place, path: Place, folder: int | None = None) -> Iterator[None]:
    """Have the file `temporary` take the place of `path` when the block has ended.

    If it ends with an exception, `temporary` goes, and `path` is as it was.

    Args:
        folder: the directory of both, already open; None if they are paths.
    """
    try:
        yield
        os.replace(temporary, path, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def read_end(file: BinaryIO, most: int, start: int = 0) -> tuple[bytes, bool]:
    """The last bytes of a file, `most` of them at most, and whether that leaves some out.

    Args:
        start: where the part of the file begins that counts; the whole of a shorter file does.
    """
    size = file.seek(0, os.SEEK_END)
    begin = start if start <= size else 0
    file.seek(max(begin, size - most))
    return file.read(most), size - begin > most


def seek_last_lines(file: BinaryIO, count: int) -> None:
    """Go to where the last `count` lines of a file begin, reading no more of it than they take."""
    end = file.seek(0, os.SEEK_END)
    position = end - 1  # A newline that ends the file begins no line.
    left = count
    while position > 0 and left > 0:
        start = max(0, position - _CHUNK)
        file.seek(start)
        at = position - start
        block = file.read(at)
        while left > 0 and (at := block.rfind(b"\n", 0, at)) >= 0:
            left -= 1
        if left == 0:
            file.seek(start + at + 1)
            return
        position = start
    file.seek(0 if count else end)
