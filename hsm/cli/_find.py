"""Which sweep, and which job of it, a command line means."""

from __future__ import annotations

from hsm.cli._stdout import say
from hsm.core.errors import SettingsError, shown
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import find_sweep
from hsm.core.record.sweep import Sweep
from hsm.core.record.sweep_id import LAST, OUTPUT_DIR
from hsm.core.settings.resolve import load_hsm_config

_MAX_NAMED = 10
_MAX_PROBLEMS = 3


def named_sweep(
    name: str, sweep_id: str = "", hsm_config: str = "", origin: str = "sweep"
) -> SweepPaths:
    """Where the sweep lies that is meant.

    Args:
        name: the argument; empty if there was none.
        sweep_id: the option that can take its place.
        hsm_config: the hsm.yaml whose output_dir sweeps lie in; empty to search for one.
        origin: where `name` was given, for messages.

    Raises:
        SettingsError: there is no such sweep, or the two differ.
    """
    if name and sweep_id and name != sweep_id:
        message = f"{shown(name)} and --sweep-id {shown(sweep_id)} name two sweeps: give one"
        raise SettingsError("sweep", sweep_id, "--sweep-id", "named once", message=message)
    origin = "--sweep-id" if sweep_id else origin
    file = load_hsm_config(hsm_config or None, path_origin="--hsm-config")
    root = file.output_dir or OUTPUT_DIR
    return find_sweep(name or sweep_id or LAST, origin=origin, roots=[root])


def warn_of_problems(sweep: Sweep) -> None:
    """Tell on stderr what of the sweep's journal could not be used: the first few lines of it."""
    for problem in few_problems(sweep):
        say(f"hsm: {problem}", error=True)


def few_problems(sweep: Sweep) -> list[str]:
    """What of the sweep's journal could not be used, in some lines."""
    lines = [f"{sweep.paths.journal}, {problem}" for problem in sweep.problems[:_MAX_PROBLEMS]]
    if sweep.problem_count > _MAX_PROBLEMS:
        lines.append(f"{sweep.paths.journal}: {sweep.problem_count} damaged lines in all")
    return lines


def named_job(sweep: Sweep, num: int) -> Job:
    """The job of that number. Raises SettingsError if the sweep has none."""
    if num in sweep.jobs:
        return sweep.jobs[num]
    allowed = _numbers(sweep)
    message = f"sweep {sweep.sweep_id} has no job {num}: give {allowed}"
    if not sweep.jobs:
        message = f"sweep {sweep.sweep_id} has no jobs yet"
    raise SettingsError("job", num, f"sweep {sweep.sweep_id}", allowed, message=message)


def _numbers(sweep: Sweep) -> str:
    """Which numbers there are, for a message."""
    numbers = sorted(sweep.jobs)
    if not numbers:
        return "a job's number"
    if numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 1:
        return f"a number from {numbers[0]} to {numbers[-1]}"
    more = ", …" if len(numbers) > _MAX_NAMED else ""
    return f"one of {', '.join(map(str, numbers[:_MAX_NAMED]))}{more}"
