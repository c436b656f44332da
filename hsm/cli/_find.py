"""Finding the sweep, and the job, that a command line names."""

from __future__ import annotations

from hsm.cli._stdout import say
from hsm.core.errors import SettingsError, shown
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import find_sweep
from hsm.core.record.sweep import Sweep
from hsm.core.record.sweep_id import LAST, OUTPUT_DIR
from hsm.core.settings.resolve import load_hsm_config

#: Job numbers listed in a message.
_MAX_NUMBERS = 10
_MAX_PROBLEMS = 3


def named_sweep(
    name: str, sweep_id: str = "", hsm_config: str = "", origin: str = "sweep"
) -> SweepPaths:
    """Find the sweep that a command line names; without a name, the newest one.

    Args:
        name: the argument; empty if not given.
        sweep_id: the option that can replace the argument.
        hsm_config: the hsm.yaml whose output_dir is searched; empty to look for one.
        origin: where `name` was given, for messages.

    Raises:
        SettingsError: there is no such sweep, or `name` and `sweep_id` differ.
    """
    if name and sweep_id and name != sweep_id:
        message = f"{shown(name)} and --sweep-id {shown(sweep_id)} name two sweeps: give one"
        raise SettingsError("sweep", sweep_id, "--sweep-id", "named once", message=message)
    origin = "--sweep-id" if sweep_id else origin
    file = load_hsm_config(hsm_config or None, path_origin="--hsm-config")
    root = file.output_dir or OUTPUT_DIR
    return find_sweep(name or sweep_id or LAST, origin=origin, roots=[root])


def warn_of_problems(sweep: Sweep) -> None:
    """Warn on stderr about unusable lines in the sweep's journal."""
    for problem in few_problems(sweep):
        say(f"hsm: {problem}", error=True)


def few_problems(sweep: Sweep) -> list[str]:
    """Describe the first few unusable lines of the sweep's journal, and how many there are."""
    lines = [f"{sweep.paths.journal}, {problem}" for problem in sweep.problems[:_MAX_PROBLEMS]]
    if sweep.problem_count > _MAX_PROBLEMS:
        lines.append(f"{sweep.paths.journal}: {sweep.problem_count} damaged lines in all")
    return lines


def named_job(sweep: Sweep, num: int) -> Job:
    """The job with number `num`. Raises SettingsError if the sweep has none."""
    if num in sweep.jobs:
        return sweep.jobs[num]
    allowed = _numbers(sweep)
    message = f"sweep {sweep.sweep_id} has no job {num}: give {allowed}"
    if not sweep.jobs:
        message = f"sweep {sweep.sweep_id} has no jobs yet"
    raise SettingsError("job", num, f"sweep {sweep.sweep_id}", allowed, message=message)


def _numbers(sweep: Sweep) -> str:
    """List the numbers that the sweep's jobs have, for a message."""
    numbers = sorted(sweep.jobs)
    if not numbers:
        return "a job's number"
    if len(numbers) == 1:
        return str(numbers[0])
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"a number from {numbers[0]} to {numbers[-1]}"
    more = ", …" if len(numbers) > _MAX_NUMBERS else ""
    return f"one of {', '.join(map(str, numbers[:_MAX_NUMBERS]))}{more}"
