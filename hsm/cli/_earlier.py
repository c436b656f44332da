"""`hsm sweep --resume SWEEP`: the same sweep again, as its journal recorded it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from hsm.cli._find import named_sweep
from hsm.cli._stdout import say
from hsm.core.errors import HsmError, SettingsError
from hsm.core.needs import NEEDS
from hsm.core.program.program import Program, find_program
from hsm.core.record.large import Large, LargeLost
from hsm.core.record.lock import owner
from hsm.core.record.registry import STATE_DIR_VARIABLE
from hsm.core.record.resume import recorded_variables
from hsm.core.record.sweep import Sweep, read_sweep
from hsm.core.settings.args_style import ArgsStyle
from hsm.core.settings.gpu_settings import still_wanted
from hsm.core.settings.resolve import CONFIG_VARIABLE, SETTINGS, Resolved

_RESUME = "--resume"


def find_earlier(name: str, hsm_config: str) -> Sweep:
    """Find the sweep to resume, and enter the directory where it was started.

    If that directory is gone, the sweep is resumed in the current one, and a line on stderr says
    so. Relative paths in the environment keep their meaning.

    Raises:
        SettingsError: there is no such sweep.
        HsmError: it is still running, or its directory cannot be entered.
    """
    sweep = read_sweep(named_sweep(name, hsm_config=hsm_config, origin=_RESUME).sweep_dir)
    check_ended(sweep)
    enter_its_directory(sweep, "resuming it")
    return sweep


def enter_its_directory(sweep: Sweep, doing: str) -> None:
    """Enter the directory where a sweep was started, as `find_earlier` does.

    Args:
        sweep: the sweep.
        doing: what is done in this directory if that one is gone, for the line that says so.

    Raises:
        HsmError: it cannot be entered.
    """
    where = sweep.latest.get("cwd")
    if where and os.path.realpath(where) != os.path.realpath(os.curdir):
        _enter(where, sweep.sweep_id, doing)


def check_ended(sweep: Sweep) -> None:
    """Raises HsmError if the sweep is still running."""
    if sweep.alive and sweep.closed is None:
        raise HsmError(
            f"{sweep.sweep_id} is still running ({_launcher(sweep)}): "
            f"hsm monitor {sweep.sweep_id} shows it, hsm cancel {sweep.sweep_id} ends it"
        )


def _launcher(sweep: Sweep) -> str:
    """The sweep's launcher, as its lock names it: process 123 on host."""
    process = f"process {sweep.latest.get('pid')} on {sweep.latest.get('host')}"
    return owner(sweep.paths.lock) or process


def _enter(where: str, sweep_id: str, doing: str) -> None:
    here = os.getcwd()
    try:
        os.chdir(where)
    except (FileNotFoundError, NotADirectoryError):
        say(
            f"hsm: {sweep_id} was started in {where}, which is gone: {doing} in {here}",
            error=True,
        )
        return
    except OSError as error:
        raise HsmError(
            f"cannot enter {where}, where {sweep_id} was started: {error.strerror}"
        ) from error
    for variable in (CONFIG_VARIABLE, STATE_DIR_VARIABLE):
        if os.environ.get(variable, "").strip():
            os.environ[variable] = from_there(os.environ[variable], here)


def from_there(path: str, directory: str) -> str:
    """Make `path`, typed in `directory`, valid from anywhere; empty ones and ``-`` stay."""
    return path if path in ("", "-") else os.path.join(directory, os.path.expanduser(path))


def recorded_program(sweep: Sweep, args_style: ArgsStyle | None) -> Program:
    """What the jobs of the sweep run. Raises HsmError if only its own program can know.

    Args:
        sweep: the sweep.
        args_style: how they get their arguments, if not as before.
    """
    record = sweep.latest.get("program")
    program = None
    if isinstance(record, Mapping):
        try:
            program = Program.from_record(record)
        except (TypeError, ValueError):
            program = None
    if program is None or (program.command is None and program.script is None):
        raise HsmError(
            f"{sweep.sweep_id} ran functions of a Python program: start that program again with "
            "resume=True (under Hydra: hydra.launcher.resume=true and the same hydra.sweep.dir)"
        )
    # With the Python that runs now, where the recorded one was another's.
    arguments = program.arguments()
    arguments["args_style"] = args_style or arguments["args_style"]
    return find_program(caller=f"journal of {sweep.sweep_id}", **arguments)


def recorded_points(sweep: Sweep) -> Iterable[dict[str, Any]]:
    """The points of all jobs of the sweep. Raises HsmError if the journal has no job.

    A job whose parameters were stored beside the journal, and are lost, is left out: a line on
    stderr says so.
    """
    if not sweep.jobs:
        raise HsmError(
            f"the journal of {sweep.sweep_id} has no jobs: their points were never recorded, or "
            "that record is damaged; give them again, as overrides or with --config"
        )
    points = []
    for num, held in zip(sorted(sweep.jobs), sweep.jobs.all_params(), strict=True):
        try:
            params = held.load() if isinstance(held, Large) else held
            needs = sweep.jobs.needs_of(num)
            points.append({**params, NEEDS: needs} if needs else params)
        except LargeLost as error:
            say(f"hsm: job {num} is not run again: its parameters {error}", error=True)
    return points


def check_variables(sweep: Sweep, resolved: Resolved) -> None:
    """Check that the variables which the sweep's jobs got are set again, as no record has values.

    Raises:
        HsmError: one is missing, and the command line does not say which there are now.
    """
    missing = [name for name in recorded_variables(sweep) if name not in resolved.conf.env]
    if missing and resolved.origins["env"] != SETTINGS["env"].flag:
        raise HsmError(
            f"the jobs of {sweep.sweep_id} had {', '.join(missing)} in their environment, and no "
            f"record has the values: give them again, as with --env {missing[0]}=…, in hsm.yaml or "
            f"in {SETTINGS['env'].variable}; --env none runs the jobs without"
        )


def recorded_settings(sweep: Sweep, typed: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the sweep ran with, as last changed; none that this hsm does not know.

    Args:
        sweep: the sweep.
        typed: the settings that the command line names.
    """
    recorded = {**sweep.latest.get("settings", {}), **sweep.asked.changes}
    settings = {}
    for name, value in recorded.items():
        if name in SETTINGS and not SETTINGS[name].per_sweep:
            try:
                settings[name] = SETTINGS[name].check(value, f"journal of {sweep.sweep_id}")
            except SettingsError:
                continue  # written by another version of hsm
    return still_wanted(settings, typed, SETTINGS["max_parallel_jobs"].default)
