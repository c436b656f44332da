"""Removing directory trees that jobs leave behind, read-only ones too.

Some programs protect what they store: Go's module cache, for example, has directories without
permission to write. Nothing outside the tree is changed, whatever links are in it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from hsm.core.own_process import LINUX

if TYPE_CHECKING:
    from pathlib import Path


def remove_tree(path: str | Path) -> OSError | None:
    """Remove a directory of this user's, with all that is in it.

    Returns:
        None if it is gone; else why something in it stays, with that as `filename`.
    """
    with suppress(OSError):
        os.rmdir(path)  # faster, and most are empty
        return None
    try:
        if os.lstat(path).st_uid != os.geteuid():
            return PermissionError(errno.EPERM, "it is another user's", os.fspath(path))
    except FileNotFoundError:
        return None
    shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        return None
    _permit(path)
    shutil.rmtree(path, ignore_errors=True)
    return _obstacle(path)


def _permit(top: str | Path) -> None:
    """Give this user all rights to the directories of a tree."""
    with suppress(OSError, RecursionError):
        _permit_one(os.fspath(top), None)
        for _, names, _, folder in os.fwalk(top):
            for name in names:
                with suppress(OSError):  # another user's
                    _permit_one(name, folder)


def _permit_one(name: str, folder: int | None) -> None:
    if not LINUX:
        os.chmod(name, 0o700, dir_fd=folder, follow_symlinks=False)
        return
    # Open it first, or a link that takes its place could be followed: chmod knows no other way.
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
    finally:
        os.close(fd)


def _obstacle(path: str | Path) -> OSError | None:
    """Find something that cannot be removed, and why: what is deepest comes first."""
    for remove, place in _contents(os.fspath(path)):
        try:
            remove(place)
        except FileNotFoundError:
            continue
        except OSError as error:
            return error
    return None


def _contents(path: str) -> Iterator[tuple[Callable[[str], None], str]]:
    for root, folders, files in os.walk(path, topdown=False):
        for name in (*files, *folders):
            place = os.path.join(root, name)
            is_folder = os.path.isdir(place) and not os.path.islink(place)
            yield os.rmdir if is_folder else os.unlink, place
    yield os.rmdir, path
