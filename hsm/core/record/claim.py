"""Taking a directory for a sweep: while its lock is held, no other launcher works there.

lock_directory   whatever is there; who goes on with an earlier sweep is `resume.open_sweep`
claim_new        for a new sweep; a directory with an earlier one is refused
claim_beside     for a new sweep, in another directory if somebody works there
"""

from __future__ import annotations

import itertools

from hsm.core.errors import SettingsError
from hsm.core.logger import get_logger
from hsm.core.record.journal import SweepInUse, cannot_write
from hsm.core.record.lock import Locked, LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.setting_aside import finish
from hsm.core.record.sweep import JournalError, has_begun

log = get_logger(__name__)


def lock_directory(paths: SweepPaths, *, shared: bool = False) -> LockFile:
    """Lock a directory for a new sweep; it is made if missing.

    Args:
        shared: with the directory's group.

    Raises:
        SweepInUse: another launcher works there.
        JournalError: it cannot be written.
    """
    try:
        paths.create(shared=shared)
        paths.check_job_dirs()
        return LockFile(paths.lock)
    except Locked as error:
        raise SweepInUse(f"{paths.sweep_dir} is in use by {error.owner}") from error
    except OSError as error:
        raise cannot_write(error) from error


def claim_new(paths: SweepPaths, *, shared: bool = False) -> LockFile:
    """Lock a directory that holds no sweep yet.

    Raises:
        SettingsError: it holds an earlier sweep, or cannot be written.
        SweepInUse: another launcher works there.
    """
    try:
        lock = lock_directory(paths, shared=shared)
    except SweepInUse:
        raise
    except JournalError as error:
        allowed = "a directory that can be written"
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
    """Lock a directory or, if another launcher works there, a new one beside it: ``DIR-2``.

    Returns:
        The directory that was locked. It may hold an earlier sweep.

    Raises:
        JournalError: it cannot be written.
    """
    for number in itertools.count(1):
        place = directory if number == 1 else f"{directory}-{number}"
        paths = SweepPaths(place)
        try:
            if number > 1:
                paths.sweep_dir.mkdir()  # A new one: what lies beside it is somebody's.
            return place, lock_directory(paths, shared=shared)
        except FileExistsError:
            continue
        except SweepInUse as error:
            log.info("%s: this sweep gets a directory beside it", error)
        except OSError as error:
            raise cannot_write(error) from error
    raise AssertionError("unreachable")


def is_there_to_resume(paths: SweepPaths) -> bool:
    """Whether a sweep that is to go on is there; if not, a new one begins, and the log says so."""
    if has_begun(paths):
        return True
    log.warning("no sweep to resume in %s: starting a new one", paths.sweep_dir)
    return False
