"""Opening files in a sweep's directory safely, whatever has their names.

Anybody may have written to such a directory, including the sweep's own jobs. A name in it may be a
link that leads elsewhere, or a pipe or device on which `open` blocks. So below the directory these
functions follow no links, never block, and read or write only regular files.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

#: Modes of ``.hsm``: for the owner only, since results and logs may be confidential, or for a group
#: that shares the sweep. What is made below is as accessible as the directory that it is made in.
PRIVATE, SHARED = 0o700, 0o2770
#: Flags for every open. O_NONBLOCK prevents blocking on pipes; regular files ignore it.
_SAFE_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CHUNK = 1 << 20  # bytes to search at a time
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: An absolute path without ``.`` or double slashes.
Place: TypeAlias = "str | Path"


class NotRegular(OSError):
    """A path, or a part of it, is not a regular file or folder as it should be.

    `filename` is that path, and `strerror` describes what is there.
    """

    def __init__(self, path: Place, found: str, wanted: str = "a regular file") -> None:
        super().__init__(errno.EINVAL, f"it is {found}, not {wanted}", str(path))


class NotOwn(OSError):
    """Another user may have written the file."""

    def __init__(self, path: Place) -> None:
        super().__init__(errno.EPERM, "another user may have written it", str(path))


def open_below(root: Place, path: Place, flags: int = os.O_RDONLY) -> int:
    """Open the regular file `path` below the directory `root`; return a descriptor.

    The path to `root`, which the user chose, may contain links; nothing below `root` may be one.
    Never blocks, and never truncates anything but a regular file.

    Args:
        root: the directory.
        path: the file.
        flags: flags for `os.open`.

    Raises:
        NotRegular: `path` is not a regular file, or a directory on the way is not one.
        OSError: as `os.open`.
        ValueError: `path` is not below `root`, or has a ``..`` below it.
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
    """As `open_below`, for the file `name` in the open directory `folder`."""
    try:
        fd = _open_or_make(folder, name, flags & ~os.O_TRUNC)
    except OSError as error:
        # ELOOP: a link. ENXIO: a socket, or a pipe without a reader. EISDIR: a directory opened
        # for writing.
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
    """Open a file in a directory; a new file is as accessible to others as the directory."""
    flags |= _SAFE_FLAGS
    if not flags & os.O_CREAT:
        return os.open(name, flags, dir_fd=folder)
    status = os.fstat(folder)
    mode = status.st_mode & 0o666 | 0o600
    if not mode & stat.S_IWGRP:
        return os.open(name, flags, mode, dir_fd=folder)
    # A group shares the directory: make the file usable for all of it, despite the umask.
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
    """Make the directory `path` below `root`, unless it exists; see `open_below`.

    It is as accessible to others as its parent.

    Raises:
        NotRegular: `path`, or a directory on the way, exists and is not a directory.
        OSError: as `open_below`.
        ValueError: as `open_below`.
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
    """Check that `path`, if it exists, is a file that may be written in place, or a folder.

    Raises:
        NotRegular: it is something else, or a file with more than one name.
        OSError: it cannot be checked.
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
    """Open the regular file that `path` leads to, following links; return a descriptor.

    Args:
        path: the file, or a link to it.
        within: the file must be in one of these directories; if none is given, it may be anywhere.

    Raises:
        NotRegular: it is not a regular file, or is outside of `within`.
        OSError: as `open_below`.
        ValueError: as `open_below`.
    """
    target = os.path.realpath(path)
    roots = [os.path.join(os.path.realpath(root), "") for root in within]  # each ends with a slash
    if within and not target.startswith(tuple(roots)):
        raise NotRegular(path, "a link that leads elsewhere")
    try:
        return open_below(os.path.dirname(target), target)
    except NotRegular as error:
        error.filename = str(path)
        raise


def open_own_below(root: Place, path: Place) -> int:
    """As `open_below`, for files that must be trusted: no other user can have written them.

    The file must belong to this user, and at most the user's own group may write to it.

    Raises:
        NotOwn: another user may have written it.
        OSError: as `open_below`.
        ValueError: as `open_below`.
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
    """Open the directory `path`, which is `root` or below it; return a descriptor.

    Raises:
        NotRegular: `path`, or a directory on the way to it, is not a directory.
        OSError: as `open_below`.
        ValueError: as `open_below`.
    """
    directories = _directories_below(os.fspath(root), os.fspath(path))
    if directories:
        with suppress(OSError):  # more slowly, it is told what is there
            first = os.open(os.path.join(root, directories[0]), _FOLDER_FLAGS)
            return reduce(_open_next, directories[1:], first)
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for number, directory in enumerate(directories, start=1):
        try:
            below = os.open(directory, _FOLDER_FLAGS, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                at = os.path.join(root, *directories[:number])
                raise NotRegular(at, _what_is(directory, folder), "a folder") from error
            raise
        finally:
            os.close(folder)
        folder = below
    return folder


def _open_next(folder: int, name: str) -> int:
    """Open the directory `name` in an open directory, which is closed."""
    try:
        return os.open(name, _FOLDER_FLAGS, dir_fd=folder)
    finally:
        os.close(folder)


@lru_cache(maxsize=64)  # keepers open the same folder for each job
def _directories_below(root: str, path: str) -> tuple[str, ...]:
    # Strings, because making Paths is slow, and this runs several times per job.
    if path == root:
        return ()
    above, names = path[: len(root)], path[len(root) :].split(os.sep)
    if os.pardir in names:
        raise ValueError(f"{path} may lead out of {root}")
    if above != root or not (root.endswith(os.sep) or names[0] == ""):
        raise ValueError(f"{path} is not below {root}")
    return tuple(filter(None, names))


def _open_folder_of(root: Place, path: Place) -> tuple[int, str]:
    """Open the folder that `path` is in; return its descriptor and the name of `path` there."""
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
    """Return what identifies a file, whatever its names."""
    return status.st_dev, status.st_ino


def read_below(root: Place, path: Place, most: int | None = None) -> bytes:
    """Read the regular file `path` below `root`; see `open_below`.

    Args:
        root: the directory.
        path: the file.
        most: read at most this many bytes; None for all.

    Raises:
        OSError: it does not exist, cannot be read, or is not a regular file (`NotRegular`).
    """
    with open(open_below(root, path), "rb") as file:
        return file.read() if most is None else file.read(most)


def replace_below(root: Place, path: Place, data: bytes, *, sync: bool = False) -> None:
    """Write `data` to `path` below `root` atomically: on failure, the old content is still there.

    Args:
        root: the directory.
        path: the file.
        data: its new content.
        sync: write the data to disk (fsync) before replacing the file.

    Raises:
        OSError: it cannot be written, or a directory on the way is not one (`NotRegular`).
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
    """Rename the file `temporary` to `path` after the block.

    If the block raises, `temporary` is removed instead, and `path` stays as it was.

    Args:
        temporary: the new file.
        path: the file to replace.
        folder: the open directory of both; None if they are paths.
    """
    try:
        yield
        os.replace(temporary, path, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def read_end(file: BinaryIO, most: int, start: int = 0) -> tuple[bytes, bool]:
    """Return at most the last `most` bytes of a file, and whether there are more.

    Args:
        file: the file.
        most: the maximum number of bytes.
        start: ignore what is before this offset; a file that is shorter counts as a whole.
    """
    size = file.seek(0, os.SEEK_END)
    begin = start if start <= size else 0
    file.seek(max(begin, size - most))
    return file.read(most), size - begin > most


def seek_last_lines(file: BinaryIO, count: int) -> None:
    """Seek to the start of the last `count` lines of a file, reading hardly more than those."""
    end = file.seek(0, os.SEEK_END)
    position = end - 1  # a newline at the end of the file starts no line
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
