"""Telling callbacks in the launcher's process of each job's end, if they ask for it.

Hydra calls on_job_end in the process that runs the job. A callback that gathers over jobs in memory
asks for a second call, in the launcher, with the attribute `hsm_in_launcher = True`.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, flag_override

from hsm.core.engine.interrupts import Interrupts
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.logger import get_logger
from hsm.core.record.job import Job
from hsm.hydra_app.hydra_job import compose, job_directory
from hsm.hydra_app.returns import job_return

log = get_logger(__name__)

_ATTRIBUTE = "hsm_in_launcher"


class JobEnds:
    """Calls on_job_end of callbacks in this process, one at a time.

    Args:
        source: runs the jobs.
        context: has the callbacks, and composes the configs of jobs that could not report theirs.
    """

    def __init__(self, source: SweepSource, context: HydraContext) -> None:
        self._source = source
        self._context = context
        self._calling = threading.Lock()

    def wait(
        self,
        interrupts: Interrupts,
        job_ids: Sequence[str],
        job_overrides: Sequence[Sequence[str]],
        config: DictConfig,
    ) -> None:
        """Wait for jobs, and call the callbacks as each ends, unless the sweep is interrupted.

        Args:
            interrupts: signals, one of which ends a callback by a KeyboardInterrupt.
            job_ids: the jobs.
            job_overrides: the overrides of each.
            config: the sweep's.
        """
        if not self._callbacks():
            interrupts.wait(self._source, job_ids)
            return
        overrides = dict(zip(job_ids, job_overrides, strict=True))

        def ended(job_id: str) -> None:
            self.ended(job_id, overrides[job_id], config, interrupts)

        interrupts.wait(self._source, job_ids, ended)

    def are_told(self) -> bool:
        """Whether any callback asks to be told."""
        return bool(self._callbacks())

    def ended(
        self, job_id: str, overrides: Sequence[str], config: DictConfig, interrupts: Interrupts
    ) -> None:
        """Call the callbacks for one job that has ended."""
        callbacks = self._callbacks()
        if not callbacks or self._source.interruption is not None:
            return
        # Not the object that the sweeper gets, whose configs stay packed.
        result = job_return(self._source, job_id, list(overrides))
        job_config = self._complete(result, self._source.job(job_id), config)
        with self._calling:
            before = HydraConfig.instance().cfg
            try:
                HydraConfig.instance().set_config(job_config)
                for callback in callbacks:
                    _call(callback, job_config, result, interrupts)
            finally:
                HydraConfig.instance().cfg = before

    def _callbacks(self) -> list[Any]:
        """Those that ask, in the order in which Hydra tells them of an end: the last one first."""
        callbacks = self._context.callbacks.callbacks
        return [each for each in reversed(callbacks) if getattr(each, _ATTRIBUTE, False) is True]

    def _complete(self, result: JobReturn, job: Job, sweep_config: DictConfig) -> DictConfig:
        """Return the job's whole config, and give `result` its configs if the job sent none."""
        if result.cfg is None or result.hydra_cfg is None:
            config = self._composed(list(result.overrides or ()), job, sweep_config)
            result.hydra_cfg = OmegaConf.masked_copy(config, "hydra")
            result.cfg = copy.deepcopy(config)
            with flag_override(result.cfg, ["struct", "readonly"], False):
                del result.cfg["hydra"]
            return config
        config = copy.deepcopy(result.cfg)
        with flag_override(config, ["struct", "readonly"], False):
            config.hydra = result.hydra_cfg.hydra
        return config

    def _composed(self, overrides: list[str], job: Job, sweep_config: DictConfig) -> DictConfig:
        """Compose the config that the job would have had; if that fails, the sweep's own."""
        try:
            loader = self._context.config_loader
            config = compose(loader, sweep_config, overrides, job.num, job.job_id)
            directory = job_directory(config)
        except Exception:  # which is why the job has failed
            config = copy.deepcopy(sweep_config)
            directory = self._source.paths(job.job_id).job_dir(job.num)
        with flag_override(config.hydra, ["struct", "readonly"], False):
            config.hydra.job.id, config.hydra.job.num = job.job_id, job.num
            config.hydra.runtime.output_dir = str(directory)
        return config


def _call(callback: Any, config: DictConfig, result: JobReturn, interrupts: Interrupts) -> None:
    """Call one callback; an exception in it is only logged, as Hydra does it in a job's process."""
    try:
        with interrupts.raised():
            callback.on_job_end(config=config, job_return=result)
    except Exception as error:
        name = type(callback).__name__
        log.warning("Callback %s.on_job_end raised %s: %s", name, type(error).__name__, error)
