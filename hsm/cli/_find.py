"""Finding the sweep, and the job, that a command line names."""

from __future__ import annotations

from collections.abc import Sequence

from hsm.cli._stdout import say
from hsm.core.errors import HsmError, SettingsError, shown
from hsm.core.job_numbers import are_numbers, parse_numbers
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import find_sweep, has_sweep
from hsm.core.record.sweep import Sweep
from hsm.core.record.sweep_id import LAST, OUTPUT_DIR
from hsm.core.settings.resolve import load_hsm_config

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
    return find_sweep(name or sweep_id or LAST, origin=origin, roots=[_root(hsm_config)])


def _root(hsm_config: str) -> str:
    file = load_hsm_config(hsm_config or None, path_origin="--hsm-config")
    return file.output_dir or OUTPUT_DIR


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


def sweep_and_jobs(
    name: str, jobs: Sequence[str], hsm_config: str = ""
) -> tuple[SweepPaths, list[int]]:
    """Find the sweep, and the numbers of its jobs, that ``[SWEEP] [JOB...]`` names.

    A first word that looks like numbers of jobs means those of the newest sweep, unless a sweep has
    exactly that id.

    Args:
        name: the first word; empty if there is none.
        jobs: the other words: numbers of jobs, such as ``3`` or ``5-8``.
        hsm_config: see `named_sweep`.

    Returns:
        The sweep's paths, and the numbers, each once, in the order in which they were given.

    Raises:
        SettingsError: there is no such sweep, or a word means no jobs.
    """
    if are_numbers(name) and not has_sweep(name, [_root(hsm_config)]):
        name, jobs = "", [name, *jobs]
    numbers: dict[int, None] = {}
    for word in jobs:
        try:
            numbers |= dict.fromkeys(parse_numbers(word))
        except ValueError:
            allowed = "the number of a job, such as 3, or several, such as 5-8"
            raise SettingsError("JOB", word, "command line", allowed) from None
    return named_sweep(name, hsm_config=hsm_config), list(numbers)


def sweep_and_job(
    name: str, job: int | None, hsm_config: str = ""
) -> tuple[SweepPaths, int | None]:
    """As `sweep_and_jobs`, for commands that take one job; None if none is named."""
    if job is not None:
        return named_sweep(name, hsm_config=hsm_config), job
    paths, numbers = sweep_and_jobs(name, (), hsm_config)
    if len(numbers) > 1:
        raise SettingsError("JOB", name, "command line", "the number of one job")
    return paths, numbers[0] if numbers else None


def which_job(command: str, name: str) -> HsmError:
    """The error that no job is named, where `name` is what the command line has instead."""
    message = (
        f"which job? {command} 0 means job 0 of the newest sweep, {command} SWEEP 0 of another"
    )
    if are_numbers(name):
        message = (
            f"{shown(name)} is a sweep here: give {command} last {name} for the job of that number "
            f"in the newest sweep, or {command} {name} JOB"
        )
    return HsmError(message)
