"""Sets the record of an earlier sweep aside: moves ``.hsm`` to ``.hsm.1``, all of it or nothing.

    .hsm --renamed--> .hsm.1         and a new .hsm, whose lock is taken first of all
    .hsm/* --one by one--> .hsm.1/*  if it cannot be renamed: a mount, or part of an image

A mount point below ``.hsm``, such as ``.hsm/results``, would move along with a renamed ``.hsm``.
But whoever mounts something there mounts it there again, over the results of the new sweep. So what
it holds is moved, and the mount stays for the new sweep; whether that is possible is checked first.

When moved one by one, the journal goes first: from then on ``.hsm`` holds no sweep, and a file in
it says where the rest belongs. A move that fails is undone. If the launcher is interrupted, the
launcher of the next sweep there finishes the move.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hsm.core.errors import HsmError
from hsm.core.files import PRIVATE, SHARED, NotRegular, read_below, renamed, replace_below
from hsm.core.mounts import mounts_below
from hsm.core.record.journal import SweepInUse
from hsm.core.record.lock import Locked, LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.units import format_size

#: Errors of `os.rename` for a mount, and across file systems.
_CANNOT_RENAME = (errno.EBUSY, errno.EXDEV)
#: What a new file system has in it, for root alone.
_OWN_FOLDER = "lost+found"
#: Errors of `os.rename` if the target folder exists: an interrupted move has made it.
_EXISTS = (errno.ENOTEMPTY, errno.EEXIST)


def set_aside(paths: SweepPaths, lock: LockFile, *, shared: bool = False) -> Path | None:
    """Move the record of an earlier sweep to ``.hsm.1``, or ``.hsm.2`` and so on.

    Args:
        paths: the sweep's.
        lock: the sweep directory's lock, which the caller holds before and after.
        shared: share a new ``.hsm`` with the group.

    Returns:
        Where the record is now; None if there was none.

    Raises:
        SweepInUse: another launcher has taken the directory meanwhile.
        HsmError: the record cannot be moved, and is where it was; names the mount in the way.
    """
    try:
        if (finished := finish(paths)) is not None:
            return finished
        if not os.path.lexists(paths.journal):
            return None
        target = _free_place(paths)
        mounts = mounts_below(paths.hsm_dir)
        _check_mounts(paths, mounts)
        if mounts or not _rename(paths, target, lock, SHARED if shared else PRIVATE):
            _move_all(paths, target)
    except Locked as error:
        raise SweepInUse(f"{paths.sweep_dir} is in use by {error.owner}") from error
    except OSError as error:
        where = error.filename or paths.hsm_dir
        raise HsmError(
            f"cannot set aside the earlier sweep in {paths.sweep_dir}: {where}: "
            f"{error.strerror or error}"
        ) from error
    return target


def finish(paths: SweepPaths) -> Path | None:
    """Finish a move that an earlier launcher began.

    Returns:
        Where the record is now; None if there was no unfinished move.

    Raises:
        OSError: the record cannot be moved.
    """
    try:
        name = read_below(paths.sweep_dir, paths.setting_aside, 20).decode(errors="replace")
    except FileNotFoundError:
        return None
    if not re.fullmatch(r"\.hsm\.[1-9][0-9]*", name):
        raise NotRegular(paths.setting_aside, "damaged", "the name of a directory")
    target = paths.sweep_dir / name
    _move_all(paths, target)
    return target


def _check_mounts(paths: SweepPaths, mounts: Sequence[Path]) -> None:
    """Raise HsmError if what is mounted below ``.hsm`` cannot be moved from there."""
    size = 0
    for mount in mounts:
        if mount.name == paths.lock.name:
            continue
        if not mount.is_dir():
            raise _in_the_way(paths, mount, "is a mount")
        if not os.access(mount, os.W_OK):
            raise _in_the_way(paths, mount, "is a mount that cannot be written")
        size += sum(
            os.lstat(os.path.join(folder, name)).st_size
            for folder, _, names in os.walk(mount)
            for name in names
        )
    room = shutil.disk_usage(paths.sweep_dir).free if size else 0
    if size > room:
        why = f"is a mount, and the sweep's own disk has no room for its {format_size(size)}"
        raise _in_the_way(paths, mounts[0], why)


def _in_the_way(paths: SweepPaths, mount: Path, why: str) -> HsmError:
    return HsmError(
        f"cannot set aside the earlier sweep in {paths.sweep_dir}: {mount} {why}; unmount it, or "
        "use another directory"
    )


def _free_place(paths: SweepPaths) -> Path:
    number = 1
    while os.path.lexists(target := paths.sweep_dir / f".hsm.{number}"):
        number += 1
    return target


def _rename(paths: SweepPaths, target: Path, lock: LockFile, mode: int) -> bool:
    """Move the whole folder in one step; False if it cannot be renamed. Raises OSError, Locked."""
    try:
        os.rename(paths.hsm_dir, target)
    except OSError as error:
        if error.errno in _CANNOT_RENAME:
            return False
        raise
    try:
        paths.create_folders(mode)
        lock.retake()
    except OSError:
        # The new folder is still empty: remove it and move the old one back, with its lock.
        paths.lock.unlink(missing_ok=True)
        for folder in (*paths.folders_of_jobs, paths.hsm_dir):
            with suppress(FileNotFoundError):
                folder.rmdir()
        os.rename(target, paths.hsm_dir)
        raise
    with suppress(OSError):
        os.unlink(target / paths.lock.name)
    return True


def _move_all(paths: SweepPaths, target: Path) -> None:
    """Move everything but the lock, one by one; on failure move it all back. Raises OSError."""
    replace_below(paths.sweep_dir, paths.setting_aside, target.name.encode(), sync=True)
    target.mkdir(stat.S_IMODE(paths.hsm_dir.stat().st_mode), exist_ok=True)
    stay = (paths.lock.name, paths.setting_aside.name)
    names = [name for name in os.listdir(paths.hsm_dir) if name not in stay]
    names.sort(key=lambda name: name != paths.journal.name)
    mounts = mounts_below(paths.hsm_dir)
    begun: list[str] = []
    try:
        for name in names:
            begun.append(name)
            _move(paths.hsm_dir / name, target / name, mounts)
    except OSError:
        with suppress(OSError):  # then the next launcher there finishes the move
            for name in reversed(begun):
                if os.path.lexists(target / name):
                    _move(target / name, paths.hsm_dir / name)
            target.rmdir()
            paths.setting_aside.unlink()
        raise
    paths.setting_aside.unlink()


def _move(source: Path, target: Path, mounts: Sequence[Path] = ()) -> None:
    """Move a file or folder, piece by piece if necessary. Raises OSError.

    Args:
        source: what to move.
        target: where to.
        mounts: mount points that must stay; what is in them is moved.
    """
    if not any(source in mount.parents for mount in mounts):
        try:
            os.rename(source, target)
        except OSError as error:
            if error.errno not in (*_CANNOT_RENAME, *_EXISTS):
                raise
        else:
            return
    if source.is_symlink() or not source.is_dir():
        _copy(source, target)
        try:
            source.unlink()
        except OSError:
            target.unlink()
            raise
        return
    target.mkdir(exist_ok=True)
    shutil.copystat(source, target)
    for child in os.listdir(source):
        if not (source in mounts and child == _OWN_FOLDER):
            _move(source / child, target / child, mounts)
    with suppress(OSError):  # A mount point cannot be removed; it stays, empty.
        source.rmdir()


def _copy(source: Path, target: Path) -> None:
    """Copy a file to another file system, atomically."""
    if not source.is_symlink() and not source.is_file():
        raise NotRegular(source, "a pipe, socket or device")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with renamed(temporary, target):
        shutil.copy2(source, temporary, follow_symlinks=False)
        if not source.is_symlink():
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
