"""Handing the jobs of a Hydra sweep to their source; the first ones begin the sweep's record.

overrides --JobSpecs, BaseSupply--> specs --> source.submit
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig

from hsm.core.engine.submission import give_back
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.record.resume import Resumption
from hsm.hydra_app.base_supply import BaseSupply
from hsm.hydra_app.frozen_config import loaded_files
from hsm.hydra_app.hydra_job import HydraJob
from hsm.hydra_app.launched import code_files, program_record
from hsm.hydra_app.specs import JobSpecs
from hsm.hydra_app.sweep_dir import SweepDir


class Submitter:
    """Submits the jobs of one sweep. Not thread-safe.

    Args:
        source: runs them.
        job: what each of them does.
        context: as passed to the launcher's `setup`.
        sweep_dir: the directory of the sweep's record.

    Attributes:
        sweep_id: the sweep's id; "" until it has begun.
        resumption: knows the earlier jobs, if the sweep was resumed.
        specs: describes jobs.
    """

    def __init__(
        self, source: SweepSource, job: HydraJob, context: HydraContext, sweep_dir: SweepDir
    ) -> None:
        self._source, self._job, self._context, self._sweep_dir = source, job, context, sweep_dir
        self._supply = BaseSupply(context.config_loader)
        self._saved: set[str] = set()  # paths of the configs that the record has
        self._opened: dict[str, Any] | None = None  # what the sweep's first jobs need besides
        self.sweep_id = ""
        self.resumption: Resumption | None = None
        self.specs = JobSpecs(sweep_dir.paths)

    @property
    def has_begun(self) -> bool:
        """Whether the sweep has its first jobs."""
        return bool(self.sweep_id) and self._opened is None

    def open(self, config: DictConfig) -> None:
        """Claim the sweep's directory, of which jobs then `begin` the record.

        Raises:
            HsmError: the sweep cannot start or resume there.
        """
        function = self._job.task_function
        files = {**code_files(function), **self._new_files()}
        program = program_record(function, config)
        name = str(config.hydra.job.name)
        lock, self.resumption, self.sweep_id = self._sweep_dir.open(files, program, name)
        resumption = self.resumption
        self._opened = {"files": files, "lock": lock, "program": program, "resumption": resumption}

    def begin(
        self,
        job_overrides: Sequence[Sequence[str]],
        asked: int | Sequence[int] | None,
        config: DictConfig,
    ) -> list[str]:
        """Submit the sweep's first jobs; see `submit`. Opens the sweep, unless it is open."""
        if self._opened is None:
            self.open(config)
        assert self._opened is not None
        try:
            return self._hand_over(job_overrides, asked, config, **self._opened)
        except BaseException:
            if not self._source.has(self._sweep_dir.paths):
                self.give_back()
            raise
        finally:
            self._opened = None

    def give_back(self) -> None:
        """Undo `open`, as no job has begun the sweep."""
        if self._opened is None:
            return
        self.sweep_id = ""
        self._saved.clear()
        self._sweep_dir.give_back()
        give_back(self._opened["lock"], self._opened["resumption"])
        self._opened = None

    def submit(
        self,
        job_overrides: Sequence[Sequence[str]],
        asked: int | Sequence[int] | None,
        config: DictConfig,
        begin: Callable[[], None] | None = None,
    ) -> list[str]:
        """Submit further jobs; returns the ids of all.

        Args:
            job_overrides: the overrides of each job.
            asked: the number that the sweeper wants for the first job, if any; or that of each job,
                which it then gets.
            config: the sweep's config as the sweeper has it now.
            begin: called when nothing can be refused any more.

        Raises:
            HsmError: they cannot be submitted.
        """
        return self._hand_over(job_overrides, asked, config, begin, files=self._new_files())

    def _hand_over(
        self,
        job_overrides: Sequence[Sequence[str]],
        asked: int | Sequence[int] | None,
        config: DictConfig,
        begin: Callable[[], None] | None = None,
        **more: Any,
    ) -> list[str]:
        """Submit jobs to the source; `more` is what it needs to begin a sweep."""
        supplied = self._supply.of(job_overrides, config)
        specs = self.specs.of(
            job_overrides, asked, config, self.sweep_id, self.resumption, supplied
        )
        if begin is not None:
            begin()
        directory = self._sweep_dir.paths.sweep_dir
        job_ids = self._source.submit(
            specs, self.sweep_id, directory, function=self._job, though_stopped=True, **more
        )
        self.specs.take(specs)
        return job_ids

    def _new_files(self) -> dict[str, str]:
        """Return the configs loaded since the last call; a sweeper may compose more at any time."""
        files = loaded_files(self._context.config_loader)
        new = {name: text for name, text in files.items() if name not in self._saved}
        self._saved |= new.keys()
        return new
