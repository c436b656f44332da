"""Claims a directory for a sweep: while its lock is held, no other launcher uses it.

lock_directory   locks it, whatever is in it (`resume.open_sweep` resumes an earlier sweep)
claim_new        for a new sweep; refuses a directory with an earlier one
claim_beside     for a new sweep; uses another directory if a launcher is using this one
unclaim          removes what was made for a sweep that has not begun
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from hsm.core.errors import SettingsError
from hsm.core.job_numbers import show_numbers
from hsm.core.logger import get_logger
from hsm.core.record.journal import SweepInUse, cannot_write
from hsm.core.record.journal_header import JournalError, has_begun
from hsm.core.record.lock import Locked, LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.resume import Rerun
from hsm.core.record.setting_aside import finish

log = get_logger(__name__)


def lock_directory(paths: SweepPaths, *, shared: bool = False) -> LockFile:
    """Lock a directory for a new sweep; makes the directory if missing.

    Args:
        paths: the sweep's.
        shared: share the sweep with the directory's group.

    Raises:
        SweepInUse: another launcher is using the directory.
        JournalError: the directory cannot be written.
    """
    try:
        try:
            return _create_and_lock(paths, shared=shared)
        except FileNotFoundError:  # another launcher has just unclaimed it
            return _create_and_lock(paths, shared=shared)
    except Locked as error:
        raise SweepInUse(f"{paths.sweep_dir} is in use by {error.owner}") from error
    except OSError as error:
        raise cannot_write(error) from error


def _create_and_lock(paths: SweepPaths, *, shared: bool) -> LockFile:
    paths.create(shared=shared)
    paths.check_job_dirs()
    return LockFile(paths.lock)


def claim_new(paths: SweepPaths, *, shared: bool = False) -> LockFile:
    """Lock a directory that holds no sweep yet.

    Raises:
        SettingsError: the directory holds an earlier sweep, or cannot be written.
        SweepInUse: another launcher is using it.
    """
    try:
        lock = lock_directory(paths, shared=shared)
    except SweepInUse:
        raise
    except JournalError as error:
        allowed = "a writable directory"
        reason = str(error)
        raise SettingsError(
            "sweep_dir", str(paths.sweep_dir), "sweep", allowed, reason, message=reason
        ) from error
    if has_begun(paths):
        lock.release()
        allowed = "a directory without a sweep"
        hint = "choose another sweep_dir or sweep id, or resume that one"
        message = f"{paths.sweep_dir} holds an earlier sweep: {hint}"
        raise SettingsError(
            "sweep_dir", str(paths.sweep_dir), "sweep", allowed, hint, message=message
        )
    try:
        finish(paths)
    except OSError as error:
        lock.release()
        raise cannot_write(error) from error
    return lock


def claim_beside(directory: str, *, shared: bool = False) -> tuple[str, LockFile]:
    """Lock a directory or, if another launcher is using it, a new one beside it: ``DIR-2``.

    Returns:
        The directory that was locked, which may hold an earlier sweep, and its lock.

    Raises:
        JournalError: the directory cannot be written.
    """
    for number in itertools.count(1):
        place = directory if number == 1 else f"{directory}-{number}"
        paths = SweepPaths(place)
        try:
            if number > 1:
                paths.sweep_dir.mkdir()  # Must be new: an existing DIR-2 is someone else's.
            return place, lock_directory(paths, shared=shared)
        except FileExistsError:
            continue
        except SweepInUse as error:
            log.info("%s: using a new directory beside it", error)
        except OSError as error:
            raise cannot_write(error) from error
    raise AssertionError("unreachable")


def claimable(paths: SweepPaths) -> tuple[Path, ...]:
    """The directories that claiming a sweep's directory makes where they are missing."""
    return (paths.hsm_dir, paths.sweep_dir, *paths.sweep_dir.parents)


def unclaim(paths: SweepPaths, made: Iterable[Path]) -> None:
    """Remove the directories that a claim has made, if no sweep began and they hold nothing else.

    Args:
        paths: the sweep's; its lock is held.
        made: those of `claimable` that were missing before.
    """
    with suppress(OSError):  # something is in one of them
        for place in made:
            if place == paths.hsm_dir:
                _remove_record(paths)
            else:
                place.rmdir()


def _remove_record(paths: SweepPaths) -> None:
    """Remove the record of a sweep that has not begun. Raises OSError if anything is in it."""
    folders = paths.folders_of_jobs
    found = {*paths.hsm_dir.iterdir(), *(path for folder in folders for path in folder.iterdir())}
    if found != {paths.lock, *folders}:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(paths.hsm_dir))
    # At once: whoever claims the directory meanwhile finds all of a record, or makes a new one.
    gone = paths.hsm_dir.rename(f"{paths.hsm_dir}.{os.getpid()}")
    (gone / paths.lock.name).unlink()
    for folder in folders:
        (gone / folder.name).rmdir()
    gone.rmdir()


def is_there_to_resume(paths: SweepPaths) -> bool:
    """Whether there is a sweep to resume; logs a warning if not, as a new one is started then."""
    if has_begun(paths):
        return True
    log.warning("no sweep to resume in %s: starting a new one", paths.sweep_dir)
    return False


def check_rerun(paths: SweepPaths, rerun: Rerun, *, resumes: bool) -> None:
    """Refuse to begin a new sweep where certain jobs of an earlier one are to run again.

    Args:
        paths: the sweep's.
        rerun: which jobs run again, if it is resumed.
        resumes: whether it is.

    Raises:
        SettingsError: `rerun` names jobs, and there is nothing to resume.
    """
    if resumes or isinstance(rerun, str):
        return
    numbers = show_numbers(rerun)
    what = f"rerun={numbers} names jobs of an earlier sweep"
    message = f"{what}, and none is resumed in {paths.sweep_dir}: resume one, or leave rerun out"
    raise SettingsError("rerun", numbers, "rerun", "left out", message=message)
