"""Time until the first job of a sweep starts; the rest of the sweep is then interrupted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from _harness import STDOUT, Run, interleave, measure
from _report import Result, Target, any_failed, cell, measured, ratio, summarise_runs

RECORD = "jobs.jsonl"
PROGRAM = Path(__file__).resolve().parent / "apps" / "first_job.py"

# What must not be exceeded: seconds under Hydra's own sweeper, which composes all jobs first; and
# how many times as long a large sweep may take as one of a single point.
FIRST_JOB_SECONDS_LIMIT = 20.0
MANY_POINTS, LAZY_LIMIT = (2_000, 1_000_000), 1.3


def first_job(command: Sequence[str]) -> Run:
    """Run a sweep until its first job starts; the run's seconds are those until then."""
    run = measure(
        [sys.executable, str(PROGRAM), RECORD, *command],
        lambda directory: dict(json.loads((directory / STDOUT).read_text(encoding="utf-8"))),
        {"BENCHMARK_RECORD": RECORD, "BENCHMARK_IMPORTS": ""},
    )
    if run.problem is not None:
        return run
    return replace(run, seconds=float(run.facts["first_job"]))


def first_under_hydra(
    commands: Mapping[str, Sequence[str]], jobs: int, rounds: int, ours: str
) -> Result:
    """Case first, for launchers under Hydra's own sweeper.

    Args:
        commands: a sweep of each launcher.
        jobs: how many jobs these have.
        rounds: how many of each.
        ours: the launcher that has a limit.
    """

    def measure_one(name: str) -> Run:
        return first_job([*commands[name], "hydra/sweeper=basic"])

    runs = interleave(list(commands), rounds, measure_one)
    seconds = {name: summarise_runs(own, lambda run: run.seconds) for name, own in runs.items()}
    return Result(
        f"Case first: seconds until the first of {jobs} jobs starts",
        ["launcher", "seconds"],
        [[name, measured(seconds[name], own)] for name, own in runs.items()],
        [Target(f"{ours}, seconds to the first job", seconds.get(ours), FIRST_JOB_SECONDS_LIMIT)],
        {"jobs": jobs, "seconds": seconds, "runs": runs},
        any_failed(runs.values()),
    )


def first_of_many(command: Callable[[int], Sequence[str]], rounds: int) -> Result:
    """Case lazy, for hsm's sweeper.

    Args:
        command: gives the command line of a sweep of so many points.
        rounds: how many of each size.
    """
    sizes = [1, *MANY_POINTS]
    first_job(command(1))  # files into the page cache, byte code onto the disk
    runs = interleave(sizes, rounds, lambda size: first_job(command(size)))
    seconds = {size: summarise_runs(own, lambda run: run.seconds) for size, own in runs.items()}
    ratios = {size: ratio(runs[size], runs[1]) for size in MANY_POINTS}
    return Result(
        "Case lazy: seconds until the first job starts, by the number of points",
        ["points", "seconds", "/ one"],
        [
            [f"{size:,}", measured(seconds[size], own), cell(ratios.get(size))]
            for size, own in runs.items()
        ],
        [Target(f"{size:,} points / one", ratios[size], LAZY_LIMIT) for size in MANY_POINTS],
        {"seconds": seconds, "ratios": ratios, "runs": runs},
        any_failed(runs.values()),
    )
