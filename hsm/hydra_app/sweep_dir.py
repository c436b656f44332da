"""The directory of a Hydra sweep's record: hydra.sweep.dir at the time of the launcher's setup."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, read_write

from hsm.core.errors import SettingsError, shown
from hsm.core.logger import get_logger
from hsm.core.record.claim import (
    check_rerun,
    claim_beside,
    claimable,
    is_there_to_resume,
    lock_directory,
    unclaim,
)
from hsm.core.record.earlier_choice import earlier_choice
from hsm.core.record.journal_header import open_journal
from hsm.core.record.lock import Locked, LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import taken_by
from hsm.core.record.resume import Resumption, open_sweep
from hsm.core.record.setting_aside import set_aside
from hsm.core.record.sweep import begin
from hsm.core.record.sweep_id import check_sweep_id, new_sweep_id
from hsm.core.settings.resolve import SweepConf
from hsm.core.space.arguments import to_override

log = get_logger(__name__)

#: How the keys of settings begin, and the key that names a sweep.
_SETTINGS = "hydra.launcher."
_SWEEP_ID = "hydra.launcher.sweep_id"


def named_settings(config: DictConfig) -> frozenset[str]:
    """The settings that the command line names: ``hydra.launcher.timeout=60``."""
    texts = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    keys = (str(text).lstrip("+~").partition("=")[0] for text in cast("list[object]", texts))
    return frozenset(key.removeprefix(_SETTINGS) for key in keys if key.startswith(_SETTINGS))


class SweepDir:
    """Claims the directory at once; if another sweep is running there, a new one beside it.

    In the latter case, sets hydra.sweep.dir in the config to the new directory. A sweep that is
    resumed stays in its directory, which `open` locks once it is known what the jobs run.

    Attributes:
        paths: the record's paths, even if a sweeper changes hydra.sweep.dir later.

    Raises:
        SettingsError: hydra.launcher.sweep_id is no id, taken, or not that of the resumed sweep.
        SweepInUse: the sweep should resume there, but another launcher is running there.
        JournalError: the directory cannot be written.
    """

    def __init__(self, conf: SweepConf, config: DictConfig) -> None:
        self._conf = conf
        self._asked = self._given = str(config.hydra.sweep.dir)
        self._lock: LockFile | None = None
        self._asked_id = OmegaConf.select(config, _SWEEP_ID)
        before = [*filter(os.path.lexists, claimable(SweepPaths(self._asked)))]
        self._resumes = conf.resume and is_there_to_resume(SweepPaths(self._asked))
        check_rerun(SweepPaths(self._asked), conf.rerun, resumes=self._resumes)
        if self._asked_id is not None:
            _check_id(self._asked_id, SweepPaths(self._asked), resumes=self._resumes)
        if not conf.resume:
            self._given, self._lock = claim_beside(self._asked, shared=conf.share_with_group)
        self.paths = SweepPaths(self._given)
        if conf.resume and not self._resumes:
            self._lock = lock_directory(self.paths, shared=conf.share_with_group)
        self._made = [place for place in claimable(self.paths) if place not in before]
        self._update(config)

    def is_meant_by(self, config: DictConfig) -> bool:
        """Whether another launcher's config names this directory.

        If it names the directory that was asked for, points it to the one that was claimed.
        """
        if str(config.hydra.sweep.dir) == self._asked:
            self._update(config)
        return SweepPaths(str(config.hydra.sweep.dir)).sweep_dir == self.paths.sweep_dir

    def _update(self, config: DictConfig) -> None:
        """Set hydra.sweep.dir to the claimed directory."""
        if str(config.hydra.sweep.dir) != self._given:
            with read_write(config.hydra):  # read-only by now in Hydra 1.4
                config.hydra.sweep.dir = self._given
                config.hydra.overrides.hydra.append(to_override("hydra.sweep.dir", self._given))

    def open(
        self, files: Mapping[str, str], program: Mapping[str, Any], name: str
    ) -> tuple[LockFile, Resumption | None, str]:
        """Prepare the directory for the first job of a new or resumed sweep.

        Args:
            files: the files that the jobs run; see `hsm.core.record.resume.open_sweep`.
            program: what the jobs run; see there, too.
            name: what a new sweep is named after, unless hydra.launcher.sweep_id gives it an id.

        Returns:
            The lock, the earlier jobs of a resumed sweep (None for a new one), and the sweep's id.

        Raises:
            SweepChanged: what the jobs run has changed since the sweep began.
            HsmError: the sweep cannot start or resume there.
        """
        conf = self._conf
        if self._resumes:
            lock, resumption = open_sweep(
                self.paths, conf.rerun, files, program, accept_changes=conf.accept_changes
            )
            return lock, resumption, resumption.sweep_id
        if self._lock is None:  # released by `give_back`, because no job could be started
            self._lock = lock_directory(self.paths, shared=conf.share_with_group)
        aside = set_aside(self.paths, self._lock, shared=conf.share_with_group)
        if aside is not None:
            where = self.paths.sweep_dir
            log.info("The record of an earlier sweep in %s is now %s", where, aside.name)
        return self._lock, None, self._asked_id or new_sweep_id(name)

    def earlier_choice(self) -> Mapping[str, Any]:
        """How the points of the sweep that is resumed were chosen; empty for a new one.

        Raises:
            JournalError: its journal cannot be read.
        """
        return earlier_choice(self.paths) if self._resumes else {}

    def give_back(self) -> None:
        """Release the directory's lock."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def give_up(self) -> None:
        """Release the directory, in which no sweep has begun, and remove what was made for one."""
        with suppress(Locked, OSError):
            if self._lock is None and self._made:  # a job could not be started
                self._lock = LockFile(self.paths.lock)
            unclaim(self.paths, self._made)
        self.give_back()


def _check_id(sweep_id: str, paths: SweepPaths, *, resumes: bool) -> None:
    """Check the id that a sweep is given; one that is resumed has an id already.

    Raises:
        SettingsError: the id is not valid, not the one that the sweep has, or taken.
        JournalError: the journal of the sweep that is resumed cannot be read.
    """
    check_sweep_id(sweep_id, _SWEEP_ID)
    if resumes:
        with open_journal(paths) as lines:
            recorded = begin(paths, lines).sweep_id
        if recorded != sweep_id:
            allowed = f"{recorded}, or left out"
            where = f"the sweep in {paths.sweep_dir} has the id {shown(recorded)}"
            message = f"{_SWEEP_ID} {shown(sweep_id)}: {where} and keeps it; leave {_SWEEP_ID} out"
            raise SettingsError("sweep id", sweep_id, _SWEEP_ID, allowed, message=message)
    elif (place := taken_by(sweep_id)) is not None:
        resuming = to_override("hydra.sweep.dir", str(place))
        hint = f"{resuming} hydra.launcher.resume=true resumes it"
        message = f"{_SWEEP_ID} {shown(sweep_id)} is taken by the sweep in {place}; {hint}"
        raise SettingsError("sweep id", sweep_id, _SWEEP_ID, "a new one", hint, message=message)
