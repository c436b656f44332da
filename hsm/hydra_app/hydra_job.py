"""What one job of a multirun does in its own process."""

from __future__ import annotations

import functools
import logging
import os
import pickle
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.experimental.callback import Callback
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from hsm.core.engine import kept_reports
from hsm.core.logger import get_logger
from hsm.core.program import by_value, reporting
from hsm.core.program.call import print_error, system_exit_code
from hsm.core.program.reports import Outcome, dumps, error_message
from hsm.core.record.job import Job
from hsm.core.record.job_folder import job_folder
from hsm.core.record.paths import SweepPaths
from hsm.hydra_app import (
    config_pickle,
    kept_overrides,
    quick_appends,
    quick_runtime,
    remembered_bases,
    source_infos,
)
from hsm.hydra_app.carried_errors import CarriedError, Place, traceback_of
from hsm.hydra_app.masked_config import has_variables, mask_variables
from hsm.hydra_app.quick_run_job import get_ready, prepared_quickly
from hsm.hydra_app.quick_yaml import NO_TEXTS
from hsm.hydra_app.remembered_bases import NOTHING, Supplied, supplied_config

log = get_logger(__name__)

#: Where Hydra is called, and where its loader calls what stands in for its own.
_OWN_FILES = frozenset(
    (
        __file__,
        kept_overrides.__file__,
        quick_appends.__file__,
        quick_runtime.__file__,
        remembered_bases.__file__,
        source_infos.__file__,
    )
)


class JobExit(Exception):
    """The job called ``sys.exit`` with a code other than 0."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


class LightJobReturn(JobReturn):
    """A JobReturn whose configs stay packed, in memory or in the job's result, until accessed.

    Unpacked configs would make up most of the launcher's memory at the end of a sweep, and in a
    large one packed configs, too.

    Attributes:
        carried: the exception that the job raised, on its way; None if it raised none.
        places: the frames of its traceback, once it has arrived.
    """

    carried: CarriedError | None = None
    places: Sequence[Place] | None = None
    _packed: bytes | None = None
    _result: tuple[SweepPaths, Job] | None = None

    @classmethod
    def of(cls, result: JobReturn) -> LightJobReturn:
        """Make a copy of `result` with its configs packed."""
        light = cls.__new__(cls)
        light.__dict__.update(result.__dict__)
        configs = {name: light.__dict__.pop(name, None) for name in ("cfg", "hydra_cfg")}
        light.__dict__["_packed"] = zlib.compress(_dumps(configs) or dumps({}) or b"", 1)
        return light

    def put_away(self, paths: SweepPaths, job: Job) -> None:
        """Drop the packed configs, which the result of `job` has, too."""
        self.__dict__.pop("_packed", None)
        self.__dict__["_result"] = paths, job

    @property
    def packed_size(self) -> int:
        """Bytes of the packed configs that are in memory."""
        return len(self._packed or b"")

    def _config(self, name: str) -> DictConfig | None:
        if name not in self.__dict__:
            packed = self._found()
            configs = pickle.loads(zlib.decompress(packed)) if packed else {}
            self.__dict__.update(configs | self.__dict__)  # A sweeper may have set one of them.
        return self.__dict__.get(name)

    def _found(self) -> bytes | None:
        """The packed configs; None, with a warning, if the job's result is gone."""
        if self._result is None:
            return self._packed
        paths, job = self._result
        report = kept_reports.read(paths, job)
        if report is None or report.extra is None:
            log.warning("job %d: its config is gone: %s", job.num, paths.result(job.num))
            return None
        return pickle.loads(report.extra)._packed  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        """What is copied or pickled has its configs in it: it may be for another machine."""
        state = self.__dict__.copy()
        if state.pop("_result", None) is not None:
            state["_packed"] = self._found()
        return state

    def _returned(self) -> Any:
        value = self.__dict__.get("_return_value")
        if self.places is not None and isinstance(value, BaseException):
            # A sweeper may ask more than once. The frames through which it was raised before would
            # hide the app's from Hydra.
            value.__traceback__ = traceback_of(self.places)
        return value

    # As data descriptors, these take precedence over attributes of the instance.
    cfg = property(
        lambda self: self._config("cfg"), lambda self, value: self.__dict__.update(cfg=value)
    )
    hydra_cfg = property(
        lambda self: self._config("hydra_cfg"),
        lambda self, value: self.__dict__.update(hydra_cfg=value),
    )
    _return_value = property(
        _returned, lambda self, value: self.__dict__.update(_return_value=value)
    )


class JobArgument(NamedTuple):
    """What a job's function is called with.

    Attributes:
        num: the job's number.
        job_id: its id.
        overrides: its overrides.
        of_hydra: the overrides of Hydra's own config that all jobs of its batch share.
        supplied: what it need not compose.
    """

    num: int
    job_id: str
    overrides: list[str]
    of_hydra: list[str]
    supplied: Supplied


class HydraJob:
    """Composes a job's config and calls the app's function with it.

    A forked process inherits the loaded app with it; pickled for a new interpreter, it takes
    Hydra's singletons along.
    """

    def __init__(
        self, hydra_context: HydraContext, config: DictConfig, task_function: TaskFunction
    ) -> None:
        self.hydra_context = hydra_context
        self.config = config
        self.task_function = task_function
        self._texts = get_ready(config)
        self._has_variables = has_variables(config)

    def __reduce__(self) -> tuple[Any, ...]:
        for callback in self.hydra_context.callbacks.callbacks:
            try:
                by_value.dumps(callback)
            except Exception as error:
                name = type(callback).__name__
                raise pickle.PicklingError(f"the callback {name}: {error}") from error
        # The texts are quickly done without; they are long, and the new process may write others.
        attributes = {**self.__dict__, "_texts": NO_TEXTS}
        content = by_value.dumps((Singleton.get_state(), attributes))
        return _restore, (content,)

    def __call__(self, argument: JobArgument) -> Outcome:
        num, job_id, overrides, of_hydra, supplied = argument
        job_dir: str | None = None
        context = self.hydra_context
        pruned: list[str] = []
        try:
            with prepared_quickly(context, self._texts) as preparation:
                config = compose(
                    context.config_loader, self.config, overrides, num, job_id, of_hydra, supplied
                )
                if self._has_variables:
                    mask_variables(config)
                # For ${hydra:…} in the directory's name. `run_job` sets a copy, as Hydra does.
                HydraConfig.instance().cfg = config  # type: ignore[assignment]
                job_dir = str(_enter_job_dir(config))
                # Hydra tells the last one first of the job's end.
                context.callbacks.callbacks.append(_HidesOwnFrames())
                preparation.begin(config)
                result = run_job(
                    hydra_context=context,
                    task_function=_guarded(self.task_function, pruned),
                    config=config,
                    job_dir_key="hydra.sweep.dir",
                    job_subdir_key="hydra.sweep.subdir",
                )
        except BaseException as error:
            # Hydra 1.4 attaches the JobReturn, which holds the error, to the error. Pickling one
            # would pickle the other inside it, without end.
            vars(error).pop("_hydra_job_return_handoff", None)
            if not isinstance(error, Exception):
                raise
            # Not the app's own: a bad override, or a callback that raised.
            _hide_own_frames(error)
            result = JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=error)
        return _outcome(result, job_dir, *pruned)


def compose(
    loader: ConfigLoader,
    sweep_config: DictConfig,
    overrides: list[str],
    num: int,
    job_id: str,
    of_hydra: list[str] | None = None,
    supplied: Supplied = NOTHING,
) -> DictConfig:
    """Compose the config of the job with this number, id and overrides. Raises what Hydra does.

    Args:
        loader: composes it.
        sweep_config: the sweep's config.
        overrides: the job's.
        num: the job's number.
        job_id: its id.
        of_hydra: overrides of Hydra's own config, to be the sweep's from now on; None: they are.
        supplied: what need not be composed.
    """
    config = supplied_config(loader, sweep_config, supplied)
    if config is None:
        if of_hydra is not None:
            with read_write(sweep_config.hydra):  # read-only by now in Hydra 1.4
                sweep_config.hydra.overrides.hydra = of_hydra
        config = loader.load_sweep_config(sweep_config, overrides)
    with open_dict(config):
        config.hydra.job.id = job_id
        config.hydra.job.num = num
    return config


def job_directory(config: DictConfig) -> Path:
    """Return a job's directory, which only its own composed config names."""
    sweep_dir = str(OmegaConf.select(config, "hydra.sweep.dir"))
    return Path(sweep_dir, str(OmegaConf.select(config, "hydra.sweep.subdir"))).absolute()


def _restore(content: bytes) -> HydraJob:
    """Restore Hydra's state and the job in a new interpreter.

    Hydra 1.3 executes every plugin's module again when it discovers plugins. That must happen
    before unpickling, and only once: otherwise unpickled objects have classes that their modules no
    longer define.
    """
    setup_globals()
    plugins = Plugins.instance()
    singletons, attributes = pickle.loads(content)
    singletons["instances"][Plugins] = plugins
    Singleton.set_state(singletons)
    job = HydraJob.__new__(HydraJob)
    job.__dict__.update(attributes)
    return job


def _dumps(configs: dict[str, DictConfig | None]) -> bytes | None:
    try:
        return config_pickle.dumps(configs)
    except Exception:  # of an object of the app's own
        return dumps(configs)


def _enter_job_dir(config: DictConfig) -> Path:
    """Make the job's directory, and set HSM_JOB_DIR to it."""
    job_dir = job_directory(config)
    os.environ["HSM_JOB_DIR"] = str(job_dir)
    try:
        os.mkdir(job_dir)  # As a rule, it is new, and has no links in it.
    except OSError:
        job_dir.mkdir(parents=True, exist_ok=True)
        job_folder(SweepPaths(os.environ["HSM_SWEEP_DIR"]), job_dir).unlink_logs()
    return job_dir


def _guarded(task_function: TaskFunction, pruned: list[str]) -> Callable[[Any], Any]:
    """Wrap `task_function` so that Hydra's run_job sees nothing of it but a value or an error.

    ``sys.exit(0)`` returns None, and any other exit raises JobExit, as run_job does not handle
    SystemExit. A job that ends early returns what it has reported last, as run_job would have
    called it failed; the reason, maybe in no words, is added to `pruned`.
    """

    @functools.wraps(task_function)
    def guarded(config: Any) -> Any:
        try:
            return task_function(config)
        except SystemExit as exit_request:
            code, place = system_exit_code(exit_request), exit_request.__traceback__
        except Exception as error:
            if not reporting.is_pruned(error):
                raise
            pruned.append(error_message(error))
            return reporting.last_value()
        if code:
            raise JobExit(code).with_traceback(place)
        return None

    return guarded


class _HidesOwnFrames(Callback, logging.Filter):
    """Removes hsm's frames from the app's traceback before the app's callbacks see it.

    Hydra 1.4 logs the traceback even before, so this is also a filter of the log's handlers.
    """

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        for handler in logging.getLogger().handlers:
            handler.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            _hide_own_frames(record.exc_info[1])
        return True

    def on_job_end(self, config: DictConfig, job_return: Any, **kwargs: Any) -> None:
        error = job_return._return_value
        if job_return.status is not JobStatus.FAILED:
            return
        _hide_own_frames(error)
        frames = getattr(job_return, "_remote_traceback", None)  # Hydra 1.4
        if frames is not None:  # An exit is shown in one line, without a traceback.
            kept = [frame for frame in frames if frame[0] not in _OWN_FILES]
            job_return._remote_traceback = None if isinstance(error, JobExit) else kept


def _hide_own_frames(error: BaseException) -> None:
    """Remove the frames of hsm that Hydra's own would not have, here and in all causes."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        place = each.__traceback__ = _next_not_own(each.__traceback__)
        while place is not None:
            place.tb_next = _next_not_own(place.tb_next)
            place = place.tb_next
        pending += each.__cause__, each.__context__


def _next_not_own(place: TracebackType | None) -> TracebackType | None:
    while place is not None and place.tb_frame.f_code.co_filename in _OWN_FILES:
        place = place.tb_next
    return place


def _outcome(result: JobReturn, job_dir: str | None, pruned: str | None = None) -> Outcome:
    returned, result.return_value = result._return_value, None
    result = LightJobReturn.of(result)
    if result.status is JobStatus.COMPLETED:
        return Outcome(value=returned, extra=result, job_dir=job_dir, pruned=pruned)
    if isinstance(returned, JobExit):
        return Outcome(exit_code=returned.code, extra=result, job_dir=job_dir)
    print_error(returned)
    result.carried = CarriedError.of(returned)
    return Outcome(error=returned, extra=result, job_dir=job_dir)
