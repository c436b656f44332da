"""The directory of a Hydra sweep's record: hydra.sweep.dir as it was at its launcher's setup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, read_write

from hsm.core.logger import get_logger
from hsm.core.record.claim import claim_beside, is_there_to_resume, lock_directory
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.resume import Resumption, open_sweep
from hsm.core.record.setting_aside import set_aside
from hsm.core.settings.resolve import SweepConf
from hsm.core.space.arguments import to_override

log = get_logger(__name__)


class SweepDir:
    """Takes it at once, or one beside it if another sweep runs there; the config then says so.

    A sweep that is to go on does so there and nowhere else, and is locked by `open`, when it is
    known what its jobs run.

    Attributes:
        paths: where the record lies, whatever a sweeper makes of hydra.sweep.dir later.

    Raises:
        SweepInUse: another sweep runs there, and this one is to go on there.
        JournalError: it cannot be written.
    """

    def __init__(self, conf: SweepConf, config: DictConfig) -> None:
        self._conf = conf
        self._asked = self._given = str(config.hydra.sweep.dir)
        self._lock: LockFile | None = None
        self._resumes = conf.resume and is_there_to_resume(SweepPaths(self._asked))
        if not conf.resume:
            self._given, self._lock = claim_beside(self._asked, shared=conf.share_with_group)
        self.paths = SweepPaths(self._given)
        if conf.resume and not self._resumes:
            self._lock = lock_directory(self.paths, shared=conf.share_with_group)
        self._tell(config)

    def is_meant_by(self, config: DictConfig) -> bool:
        """Whether another launcher's config names this one; it then says so as the first does."""
        if str(config.hydra.sweep.dir) == self._asked:
            self._tell(config)
        return SweepPaths(str(config.hydra.sweep.dir)).sweep_dir == self.paths.sweep_dir

    def _tell(self, config: DictConfig) -> None:
        if str(config.hydra.sweep.dir) != self._given:
            with read_write(config.hydra):  # Hydra 1.4 has it read-only by now.
                config.hydra.sweep.dir = self._given
                config.hydra.overrides.hydra.append(to_override("hydra.sweep.dir", self._given))

    def open(
        self, files: Mapping[str, str], program: Mapping[str, Any]
    ) -> tuple[LockFile, Resumption | None]:
        """Make it ready for the first job: of a new sweep, or of one to go on with.

        Args:
            files, program: what the jobs run, as `hsm.core.record.resume.open_sweep` wants it.

        Returns:
            The lock, and what tells the earlier jobs; None for a new sweep.

        Raises:
            SweepChanged, HsmError: it cannot be.
        """
        conf = self._conf
        if self._resumes:
            return open_sweep(
                self.paths, conf.rerun.value, files, program, accept_changes=conf.accept_changes
            )
        if self._lock is None:  # It was given back, as no job could be started.
            self._lock = lock_directory(self.paths, shared=conf.share_with_group)
        aside = set_aside(self.paths, self._lock, shared=conf.share_with_group)
        if aside is not None:
            where = self.paths.sweep_dir
            log.info("The record of an earlier sweep in %s is now %s", where, aside.name)
        return self._lock, None

    def give_back(self) -> None:
        """Nobody works there any more."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
