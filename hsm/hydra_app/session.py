"""The launcher's work: from Hydra's overrides to jobs, and from their ends to JobReturns."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import os
import pickle
import re
import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import (
    JobReturn,
    JobStatus,
    configure_log,
    filter_overrides,
    setup_globals,
)
from hydra.errors import CompactHydraException, ConfigCompositionException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from hsm.core.control import drop_requests
from hsm.core.engine.foreground import run_to_end
from hsm.core.engine.ledger import JobDir
from hsm.core.engine.policy import History
from hsm.core.engine.submission import JobSpec, plain_settings
from hsm.core.errors import HsmError, JobFailed
from hsm.core.job import Job, JobState
from hsm.core.journal import Journal, SweepInUse
from hsm.core.local import LocalComputeSource
from hsm.core.lock import Locked, LockFile
from hsm.core.logger import get_logger
from hsm.core.parameters import to_override
from hsm.core.paths import SweepPaths
from hsm.core.plain_json import json_value
from hsm.core.printable import printable_lines
from hsm.core.program.report import RemoteError
from hsm.core.registry import register
from hsm.core.resume import Match, SweepChanged, open_sweep, save_files
from hsm.core.scripts import Program
from hsm.core.setting_aside import set_aside
from hsm.core.sweep import has_begun
from hsm.core.sweep_id import new_sweep_id
from hsm.display import make_display
from hsm.hydra_app.frozen_config import freeze, loaded_files
from hsm.hydra_app.job import HydraJob
from hsm.hydra_app.sweep_ending import SweepEnding, say_interrupted
from hydra_plugins.hsm_local_launcher.config import validated
from hydra_plugins.hsm_local_launcher.launcher import HsmLocalLauncher

log = get_logger(__name__)


class LauncherError(ConfigCompositionException):
    """What the user can mend, a setting or a situation: Hydra shows one line and no traceback."""

    def __str__(self) -> str:
        return printable_lines(super().__str__())


class HydraJobFailed(JobFailed, CompactHydraException):
    """A job that ended without an exception of its own; Hydra shows it as one line."""


def set_up(launcher: HsmLocalLauncher) -> None:
    """Check the launcher's settings and freeze the app's config files. Raises LauncherError."""
    assert launcher.config is not None
    assert launcher.hydra_context is not None
    try:
        launcher.conf = validated(launcher.settings)
    except HsmError as error:
        raise LauncherError(str(error)) from None
    freeze(launcher.hydra_context.config_loader)
    if not launcher.conf.resume:
        launcher.lock = _claim_sweep_dir(launcher.config, launcher.conf.share_with_group)
        return
    paths = SweepPaths(str(launcher.config.hydra.sweep.dir))
    if not has_begun(paths):
        log.warning("no sweep in %s to go on with: a new one begins", paths.sweep_dir)
        launcher.lock = _claim_for_resume(paths, launcher.conf.share_with_group)


def launch(
    launcher: HsmLocalLauncher, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> Sequence[JobReturn]:
    """Run one batch of jobs and wait for it.

    Args:
        job_overrides: the overrides of each job.
        initial_job_idx: number of the first.

    Returns:
        What each job returned or raised, in order.

    Raises:
        LauncherError: the jobs cannot be started.
        SystemExit: a signal interrupted the sweep; the code is 128 + its number. Or it was
            cancelled; then the code is that of a SIGTERM.
    """
    setup_globals()
    config, context = launcher.config, launcher.hydra_context
    assert config is not None
    assert context is not None
    assert launcher.task_function is not None
    _configure_log(config, context)
    paths = SweepPaths(str(config.hydra.sweep.dir))
    try:
        if launcher.journal is None:
            _begin(launcher, paths)
        # The configs that this batch is the first to use; its sweeper has composed them.
        save_files(paths, _launched_files(launcher))
        job = HydraJob(context, config, launcher.task_function)
        specs = _specs(launcher, job_overrides, initial_job_idx)
        return _run(launcher, job, specs, paths)
    except SweepInUse as error:
        raise LauncherError(f"{error}: choose another hydra.sweep.dir") from None
    except SweepChanged as error:
        error.remedy = "hydra.launcher.accept_changes=true"
        raise LauncherError(str(error)) from None
    except HsmError as error:
        raise LauncherError(str(error)) from None


def _begin(launcher: HsmLocalLauncher, paths: SweepPaths) -> None:
    """Before the first batch: a new sweep, or one to go on with."""
    assert launcher.conf is not None
    assert launcher.config is not None
    assert launcher.hydra_context is not None
    conf, lock, launcher.lock = launcher.conf, launcher.lock, None
    files = _launched_files(launcher)
    program = _program(launcher)
    file = None
    if lock is None:
        lock, launcher.resumption = open_sweep(
            paths, conf.rerun.value, files, program, accept_changes=conf.accept_changes
        )
        sweep_id, file = launcher.resumption.sweep_id, launcher.resumption.journal_file
    else:
        _set_aside_earlier_sweep(paths, lock, conf.share_with_group)
        sweep_id = new_sweep_id(str(launcher.config.hydra.job.name))
    drop_requests(paths)
    settings = plain_settings(conf)
    launcher.journal = Journal(paths, sweep_id, settings, program=program, lock=lock, file=file)
    launcher.history = History()
    register(sweep_id, paths.sweep_dir)
    ending = SweepEnding(launcher.journal, conf)
    weakref.finalize(launcher, ending.close)


def _program(launcher: HsmLocalLauncher) -> dict[str, Any]:
    """What the jobs run, for the record."""
    assert launcher.config is not None
    assert launcher.task_function is not None
    record = Program(function=launcher.task_function).record()
    return {**record, "config": f"the config {launcher.config.hydra.job.config_name}"}


def _launched_files(launcher: HsmLocalLauncher) -> dict[str, str]:
    """The texts of the script, of the app's module and of the configs that have been loaded."""
    assert launcher.hydra_context is not None
    assert launcher.task_function is not None
    files = loaded_files(launcher.hydra_context.config_loader)
    script = getattr(sys.modules["__main__"], "__file__", None)
    # Where a console script started the app, that is not where its code is.
    code = getattr(inspect.unwrap(launcher.task_function), "__code__", None)
    module = code.co_filename if code is not None else None
    names = {} if script is None else {Path(script).name: script}
    if module is not None and (script is None or not _is_same_file(module, script)):
        names[os.path.abspath(module)] = module
    for name, path in names.items():
        with suppress(OSError, UnicodeDecodeError):
            files[name] = Path(path).read_text(encoding="utf-8")
    return files


def _is_same_file(first: str, second: str) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)


def _run(
    launcher: HsmLocalLauncher, job: HydraJob, specs: Sequence[JobSpec], paths: SweepPaths
) -> Sequence[JobReturn]:
    conf, journal = launcher.conf, launcher.journal
    assert conf is not None
    assert journal is not None
    source = LocalComputeSource.from_conf(
        dataclasses.replace(conf, on_sweep_end=None), history=launcher.history
    )
    display = make_display(
        str(conf.progress),
        show_output=conf.show_output,
        paths=paths,
        running=source.running,
        title=journal.sweep_id,
    )
    job_ids, interruption = run_to_end(
        source,
        lambda: source.submit(
            specs, journal.sweep_id, paths.sweep_dir, function=job, journal=journal
        ),
        display,
    )
    display.summary()
    if interruption is not None:
        say_interrupted(interruption, paths)
        raise SystemExit(interruption.exit_code)
    returns = [
        _job_return(source, job_id, spec.argument[2])
        for job_id, spec in zip(job_ids, specs, strict=True)
    ]
    assert launcher.config is not None
    assert launcher.hydra_context is not None
    _configure_log(launcher.config, launcher.hydra_context)
    return returns


def _configure_log(config: DictConfig, context: HydraContext) -> None:
    options: dict[str, Any] = {}
    if hasattr(context, "execution_whitelist"):  # Hydra 1.4
        options["execution_whitelist"] = context.execution_whitelist
    configure_log(config.hydra.hydra_logging, config.hydra.verbose, **options)


def _claim_for_resume(paths: SweepPaths, shared: bool) -> LockFile:
    """Lock the directory of a sweep that was to go on and has not begun: this one and no other."""
    try:
        paths.create(shared=shared)
        return LockFile(paths.lock)
    except Locked as error:
        raise LauncherError(f"{paths.sweep_dir} is in use by {error.owner}") from None
    except OSError as error:
        raise _cannot_write(paths, error) from None


def _claim_sweep_dir(config: DictConfig, shared: bool) -> LockFile:
    """Lock the sweep's directory or, if another sweep runs there, a new one beside it.

    Hydra names sweeps by the second; of two that start in the same one, the second gets another
    directory, and its sweeper and its jobs are told so.
    """
    asked = str(config.hydra.sweep.dir)
    for number in itertools.count(1):
        directory = asked if number == 1 else f"{asked}-{number}"
        paths = SweepPaths(directory)
        try:
            if number > 1:
                paths.sweep_dir.mkdir()  # A new one: what lies beside it is somebody's.
            paths.create(shared=shared)
            paths.check_job_dirs()
            lock = LockFile(paths.lock)
        except FileExistsError:
            continue
        except Locked as error:
            log.info("Another sweep runs in %s (%s): this one goes beside it", asked, error.owner)
            continue
        except OSError as error:
            raise _cannot_write(paths, error) from None
        if number > 1:
            config.hydra.sweep.dir = directory
            config.hydra.overrides.hydra.append(to_override("hydra.sweep.dir", directory))
        return lock
    raise AssertionError("unreachable")


def _cannot_write(paths: SweepPaths, error: OSError) -> LauncherError:
    where = error.filename or paths.hsm_dir
    return LauncherError(f"hydra.sweep.dir: cannot write {where}: {error.strerror}")


def _set_aside_earlier_sweep(paths: SweepPaths, lock: LockFile, shared: bool) -> None:
    earlier = set_aside(paths, lock, shared=shared)
    if earlier is not None:
        log.info("The record of an earlier sweep in %s is now %s", paths.sweep_dir, earlier.name)


def _specs(
    launcher: HsmLocalLauncher, job_overrides: Sequence[Sequence[str]], first: int
) -> list[JobSpec]:
    assert launcher.journal is not None
    assert launcher.config is not None
    sweep_id = launcher.journal.sweep_id
    values = _OverrideValues()
    shown = [filter_overrides(overrides) for overrides in job_overrides]
    points = [values.of(overrides) for overrides in shown]
    matches: Sequence[Match | None] = [None] * len(points)
    if launcher.resumption is not None:
        matches = launcher.resumption.match(points)
    sweep = OmegaConf.to_container(launcher.config.hydra.sweep, resolve=False)
    subdir = str(sweep.get("subdir")) if isinstance(sweep, dict) else ""
    specs = []
    for index, (overrides, params, match) in enumerate(
        zip(job_overrides, points, matches, strict=True)
    ):
        num = first + index if match is None else match.num
        argument = (num, f"{sweep_id}_{num}", list(overrides))
        label = " ".join(shown[index])
        spec = JobSpec(
            num,
            params,
            label,
            argument,
            makes_own_dir=True,
            directory=_directory(subdir, overrides),
            earlier=match,
        )
        specs.append(spec)
    return specs


def _directory(subdir: str, overrides: Sequence[str]) -> JobDir:
    """What is known of a job's directory; which one it is, its composed config alone tells."""
    if any("hydra.sweep." in text for text in overrides):
        return JobDir.SHARED
    if subdir == "${hydra.job.num}":
        return JobDir.USUAL
    return JobDir.OWN if re.search(r"\$\{hydra\.job\.(num|id)\}", subdir) else JobDir.SHARED


class _OverrideValues:
    """Reads overrides as parameters.

    A sweep has few different ones, and parsing takes a while: each is parsed once.
    """

    def __init__(self) -> None:
        self._parser = OverridesParser.create()
        self._known: dict[str, tuple[str, Any]] = {}

    def of(self, overrides: Sequence[str]) -> Mapping[str, Any]:
        return dict(self._parse(text) for text in overrides)

    def _parse(self, text: str) -> tuple[str, Any]:
        if text not in self._known:
            key, _, value = text.partition("=")
            parsed: Any = value
            try:
                override = self._parser.parse_override(text)
                # `~x`, which takes x away, is something else than `x=null`.
                key, parsed = override.get_key_element().lstrip("+"), override.value()
            except Exception:
                log.debug("recorded as text: %s", text)  # Its job will say what is wrong with it.
            plain = json_value(parsed)
            self._known[text] = (key, plain if plain is not None or parsed is None else value)
        return self._known[text]


def _job_return(source: LocalComputeSource, job_id: str, overrides: list[str]) -> JobReturn:
    """What Hydra's sweepers want to know of a job that has ended."""
    job = source.job(job_id)
    report = source.report(job_id)
    result = JobReturn(overrides=overrides)
    if report is not None and report.extra is not None:
        result = pickle.loads(report.extra)
    if job.state.has_succeeded:
        result.status = JobStatus.COMPLETED
        result.return_value = _value(source, job)
        return result
    result.status = JobStatus.FAILED
    error = report.load_error() if report is not None and job.state is JobState.FAILED else None
    if error is None:
        error = HydraJobFailed(job)
    elif not isinstance(error, Exception):
        # A KeyboardInterrupt that a job raised must not look like one in this process.
        error = RemoteError(type(error).__name__, str(error))
    elif getattr(result, "_remote_traceback", None) is not None:
        error.__cause__ = None  # Hydra 1.4 shows the job's own traceback by itself.
    result.return_value = error
    return result


def _value(source: LocalComputeSource, job: Job) -> Any:
    try:
        return source.result(job.job_id)
    except Exception as error:
        log.warning(
            "job %d: its return value cannot be unpickled (%r): None is used", job.num, error
        )
        return None
