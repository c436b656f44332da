"""`hsm sweep --resume SWEEP`: the same sweep again, as its journal recorded it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from hsm.cli._find import named_sweep
from hsm.core.config import SETTINGS
from hsm.core.errors import HsmError, SettingsError
from hsm.core.journal import Sweep, read_sweep
from hsm.core.scripts import Program, find_program

_RESUME = "--resume"


def find_earlier(name: str, hsm_config: str) -> Sweep:
    """The sweep that is to go on. Enters the directory where it was started.

    Raises:
        SettingsError: there is no such sweep.
        HsmError: it runs, or cannot be gone on with from here.
    """
    sweep = read_sweep(named_sweep(name, hsm_config=hsm_config, origin=_RESUME).sweep_dir)
    if sweep.alive and sweep.closed is None:
        raise HsmError(f"{sweep.sweep_id} still runs: hsm monitor {sweep.sweep_id} shows it")
    where = sweep.header.get("cwd")
    if where and os.path.realpath(where) != os.path.realpath(os.curdir):
        try:
            os.chdir(where)
        except OSError as error:
            raise HsmError(
                f"{sweep.sweep_id} was started in {where}, which cannot be entered: "
                f"{error.strerror}"
            ) from error
    return sweep


def recorded_program(sweep: Sweep) -> Program:
    """What the jobs of the sweep run. Raises HsmError if only its own program can know."""
    record = sweep.header.get("program")
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
    return find_program(caller=f"journal of {sweep.sweep_id}", **program.arguments())


def recorded_points(sweep: Sweep) -> Iterable[dict[str, Any]]:
    """The parameters of all its jobs."""
    return [job.params for _, job in sorted(sweep.jobs.items())]


def recorded_settings(sweep: Sweep) -> dict[str, Any]:
    """The settings that it ran with, as far as this hsm knows them."""
    recorded = sweep.header.get("settings", {})
    settings = {}
    for name, value in recorded.items():
        if name in SETTINGS and name not in ("resume", "rerun", "accept_changes"):
            try:
                settings[name] = SETTINGS[name].check(value, f"journal of {sweep.sweep_id}")
            except SettingsError:
                continue  # written by another version of hsm
    return settings
