"""What a sweep has made on disk, and removing it.

    <sweep_dir>/.hsm, .hsm.1, …                     its record, and those of earlier sweeps there
    <sweep_dir>/<n> or what Hydra calls it          directories of jobs that have started
    <sweep_dir>/multirun.yaml, optimization_results.yaml   of Hydra and its sweepers

Whatever else lies there stays, and so does the sweep's directory then: it may be a project's own.
No link is followed. The sweep's lock is held until the record is gone, so that no launcher begins
in what is being removed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hsm.core.errors import HsmError
from hsm.core.mounts import mounts_below
from hsm.core.record.lock import Locked, LockFile, is_locked
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import forget
from hsm.core.record.sweep import Sweep
from hsm.core.removal import remove_tree

_RECORD = re.compile(r"\.hsm(\.[0-9]+)?")
_HYDRAS = ("multirun.yaml", "optimization_results.yaml")


class SweepContents:
    """What `sweep` has made in its directory.

    Attributes:
        sweep: the sweep.
        places: the files and directories that it has made, its record last.
        elsewhere: directories of jobs that stay, since they are not below the sweep's own.
        earlier: how many records of earlier sweeps there are, which go, too.
        size: bytes of all files in `places`.

    Raises:
        HsmError: it cannot be removed: it is a link, in use, or has a mount point or the current
            directory in it.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self._top = top = sweep.paths.sweep_dir
        if top.is_symlink():
            raise HsmError(f"{top} is a link: give the directory itself, {os.path.realpath(top)}")
        self._check_not_running(sweep.paths)
        self.elsewhere: list[Path] = []
        made = [top / name for name in os.listdir(top) if name in _HYDRAS]
        records = [top / name for name in os.listdir(top) if _RECORD.fullmatch(name)]
        # The record last: if something before it cannot be removed, the sweep can still be named.
        self.places = [*self._job_dirs(), *made, *sorted(records, reverse=True)]
        self.earlier = sum(place != sweep.paths.hsm_dir for place in records)
        self.size = 0
        for place in self.places:
            self._look_into(place)

    def _check_not_running(self, paths: SweepPaths) -> None:
        if is_locked(paths.lock):
            sweep_id = self.sweep.sweep_id
            where = "" if paths is self.sweep.paths else f"a sweep in {paths.sweep_dir}, in it, "
            cancel = sweep_id if paths is self.sweep.paths else str(paths.sweep_dir)
            raise HsmError(
                f"{sweep_id}: {where or 'it '}is still running: hsm cancel {cancel} ends it"
            )

    def _job_dirs(self) -> Iterator[Path]:
        """The directories of jobs that have started, each below the sweep's directory."""
        own = os.path.realpath(self._top)
        seen: set[Path] = set()
        for num, job in sorted(self.sweep.jobs.items()):
            place = job.job_dir or self.sweep.paths.job_dir(num)
            if not job.attempts or place in seen or not os.path.lexists(place):
                continue
            seen.add(place)
            parent = os.path.realpath(place.parent)
            name = os.path.join(parent, place.name)
            if not name.startswith(own + os.sep) or not self._is_output(place, num):
                self.elsewhere.append(place)
            else:
                yield Path(name)

    def _is_output(self, place: Path, num: int) -> bool:
        """Whether nothing but jobs can have made a directory.

        Under Hydra, hydra.sweep.subdir may be a folder of the project itself.
        """
        if place == self.sweep.paths.job_dir(num):
            return True
        return os.path.lexists(place / ".hydra") and not os.path.lexists(place / ".git")

    def _look_into(self, place: Path) -> None:
        """Add to the size. Raises HsmError for what must not be removed."""
        if place.is_symlink() or not place.is_dir():
            self.size += place.lstat().st_size
            return
        if (mounts := [place] if place.is_mount() else mounts_below(place)) != []:
            raise HsmError(f"{mounts[0]} is a mount point: unmount it, or remove the rest by hand")
        here = os.path.realpath(os.curdir)
        if f"{here}{os.sep}".startswith(f"{os.path.realpath(place)}{os.sep}"):
            raise HsmError(f"the current directory is in {place}: leave it first")
        for folder, names, files in os.walk(place):
            if ".hsm" in names and place.name != ".hsm":
                self._check_not_running(SweepPaths(folder))
            for name in files:
                with suppress(OSError):
                    self.size += os.lstat(os.path.join(folder, name)).st_size

    def remove(self) -> list[str]:
        """Remove it all; return the names of what else is in the sweep's directory, which stays.

        Raises:
            HsmError: a launcher has begun meanwhile, or something cannot be removed.
        """
        paths = self.sweep.paths
        try:
            lock = LockFile(paths.lock)
        except Locked as error:
            raise HsmError(f"{self.sweep.sweep_id} is in use by {error.owner}") from error
        except OSError as error:
            raise HsmError(f"cannot lock {paths.lock}: {error.strerror}") from error
        try:
            for place in self.places:
                if place == paths.hsm_dir:
                    place = self._hidden_record()  # noqa: PLW2901 -- at once, for all who look
                _remove(place)
                self._remove_empty(place.parent)
        finally:
            lock.release()
        forget(paths.sweep_dir)
        with suppress(OSError):
            self._top.rmdir()
        with suppress(OSError):
            return sorted(os.listdir(self._top))
        return []

    def _hidden_record(self) -> Path:
        record = self.sweep.paths.hsm_dir
        try:
            return record.rename(f"{record}.{os.getpid()}")
        except OSError:  # an image's layer, say: file by file then
            return record

    def _remove_empty(self, folder: Path) -> None:
        """Remove the folders between the sweep's directory and a job's that have become empty."""
        with suppress(OSError):
            while folder != Path(os.path.realpath(self._top)) and folder != self._top:
                folder.rmdir()
                folder = folder.parent


def _remove(place: Path) -> None:
    """Remove a file, a link, or a directory with all that is in it. Raises HsmError."""
    error: OSError | None = None
    if place.is_dir() and not place.is_symlink():
        error = remove_tree(place)
    else:
        try:
            place.unlink(missing_ok=True)
        except OSError as failure:
            error = failure
    if error is not None:
        raise HsmError(f"cannot remove {error.filename or place}: {error.strerror}") from error
