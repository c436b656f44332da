"""What one job of a multirun does, in its own process."""

from __future__ import annotations

import functools
import os
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from hsm.core.program import by_value
from hsm.core.program.call import print_error, system_exit_code
from hsm.core.program.reports import Outcome, dumps
from hsm.core.record.log_links import unlink_logs
from hsm.core.record.paths import SweepPaths


class JobExit(Exception):
    """The job called ``sys.exit`` with another code than 0."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


class LightJobReturn(JobReturn):
    """A JobReturn whose configs stay packed until somebody looks.

    Unpacked, they are most of what a sweep's end weighs.
    """

    _packed: bytes

    @classmethod
    def of(cls, result: JobReturn) -> LightJobReturn:
        """The same as `result`, whose configs it packs."""
        light = cls.__new__(cls)
        light.__dict__.update(result.__dict__)
        configs = {name: light.__dict__.pop(name, None) for name in ("cfg", "hydra_cfg")}
        light.__dict__["_packed"] = zlib.compress(dumps(configs) or dumps({}) or b"", 1)
        return light

    def _config(self, name: str) -> DictConfig | None:
        if name in self.__dict__:
            config: DictConfig | None = self.__dict__[name]
            return config
        configs = pickle.loads(zlib.decompress(self._packed))
        self.__dict__.update(configs)
        return configs.get(name)  # type: ignore[no-any-return]

    # A data descriptor on the class goes before the instance's own attribute.
    cfg = property(
        lambda self: self._config("cfg"), lambda self, value: self.__dict__.update(cfg=value)
    )
    hydra_cfg = property(
        lambda self: self._config("hydra_cfg"),
        lambda self, value: self.__dict__.update(hydra_cfg=value),
    )


class HydraJob:
    """Composes a job's config and runs the app's function on it.

    It is called with the job's number, its id, its overrides, and those of Hydra's own config that
    all jobs of its batch have. Forked, it carries the loaded app; pickled for a fresh interpreter,
    it takes Hydra's singletons along.
    """

    def __init__(
        self, hydra_context: HydraContext, config: DictConfig, task_function: TaskFunction
    ) -> None:
        self.hydra_context = hydra_context
        self.config = config
        self.task_function = task_function

    def __reduce__(self) -> tuple[Any, ...]:
        for callback in self.hydra_context.callbacks.callbacks:
            try:
                by_value.dumps(callback)
            except Exception as error:
                name = type(callback).__name__
                raise pickle.PicklingError(f"the callback {name}: {error}") from error
        content = by_value.dumps((Singleton.get_state(), self.__dict__))
        return _restore, (content,)

    def __call__(self, argument: tuple[int, str, list[str], list[str]]) -> Outcome:
        num, job_id, overrides, of_hydra = argument
        with read_write(self.config.hydra):  # Hydra 1.4 has it read-only by now.
            self.config.hydra.overrides.hydra = of_hydra
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = job_id
            config.hydra.job.num = num
        HydraConfig.instance().set_config(config)
        job_dir = _enter_job_dir(config)
        try:
            result = run_job(
                hydra_context=self.hydra_context,
                task_function=_without_exit(self.task_function),
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        except BaseException as error:
            # Hydra 1.4 hangs the JobReturn, which holds the error, on the error: pickling the one
            # would pickle the other within it, and so on.
            vars(error).pop("_hydra_job_return_handoff", None)
            raise
        return _outcome(result, str(job_dir))


def _restore(content: bytes) -> HydraJob:
    """In a fresh interpreter: Hydra as it was in the launcher, and the job.

    Hydra 1.3 executes every plugin's module anew when it discovers plugins. That has to come first
    and must not come again, or what is unpickled has classes that its modules no longer know.
    """
    setup_globals()
    plugins = Plugins.instance()
    singletons, attributes = pickle.loads(content)
    singletons["instances"][Plugins] = plugins
    Singleton.set_state(singletons)
    job = HydraJob.__new__(HydraJob)
    job.__dict__.update(attributes)
    return job


def _enter_job_dir(config: DictConfig) -> Path:
    """Make the job's directory, which only its config knows, and tell the job where it is."""
    sweep_dir = str(OmegaConf.select(config, "hydra.sweep.dir"))
    job_dir = Path(sweep_dir, str(OmegaConf.select(config, "hydra.sweep.subdir"))).absolute()
    job_dir.mkdir(parents=True, exist_ok=True)
    os.environ["HSM_JOB_DIR"] = str(job_dir)
    unlink_logs(SweepPaths(os.environ["HSM_SWEEP_DIR"]), job_dir)
    return job_dir


def _without_exit(task_function: TaskFunction) -> Callable[[Any], Any]:
    """`task_function`, whose ``sys.exit(0)`` is a return and any other exit an error.

    Hydra's run_job knows neither.
    """

    @functools.wraps(task_function)
    def guarded(config: Any) -> Any:
        try:
            return task_function(config)
        except SystemExit as exit_request:
            code = system_exit_code(exit_request)
        if code:
            raise JobExit(code)
        return None

    return guarded


def _hide_own_frames(result: Any, returned: object) -> None:
    """Show the app's own traceback: `guarded` is none of its frames, nor is an exit an error."""
    frames = result._remote_traceback
    if frames is None or isinstance(returned, JobExit):
        result._remote_traceback = None
    else:
        result._remote_traceback = [frame for frame in frames if frame[0] != __file__]


def _outcome(result: JobReturn, job_dir: str) -> Outcome:
    returned, result.return_value = result._return_value, None
    if hasattr(result, "_remote_traceback"):  # Hydra 1.4
        _hide_own_frames(result, returned)
    result = LightJobReturn.of(result)
    if result.status is JobStatus.COMPLETED:
        return Outcome(value=returned, extra=result, job_dir=job_dir)
    if isinstance(returned, JobExit):
        return Outcome(exit_code=returned.code, extra=result, job_dir=job_dir)
    print_error(returned)
    return Outcome(error=returned, extra=result, job_dir=job_dir)
