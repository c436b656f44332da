"""How busy optimising sweepers keep the slots: hsm_optuna next to hydra-optuna-sweeper.

    python benchmarks/sweepers.py --rounds 3

All of them run the same trials, whose durations are fixed by their numbers (0.3 s to 4 s, most of
them short), four at a time. The makespan is the time from the start of the first trial to the end
of the last one, by the trials' own clocks: so it has what happens between trials (asking, telling,
starting the next job), and not how long the program takes to start and to end; that is in the
column of the whole command. The reference is list scheduling, which is calculated: each trial, in
the order of their numbers, starts without any delay when a slot is free.

Each version of hydra-optuna-sweeper needs its own Hydra and Optuna: so it gets an environment of
its own, which takes a minute to make. `--environments FOLDER` keeps them, and takes those that are
there. If one cannot be made, its contenders are left out.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _environments import installed, made
from _harness import Incomplete, Run, interleave, measure
from _report import (
    Result,
    Summary,
    Target,
    any_failed,
    cell,
    count,
    finish,
    measured,
    new_document,
    summarise_runs,
    versions,
)
from apps.trial_times import durations

APP = Path(__file__).resolve().parent / "apps" / "trial_times.py"
OURS = "hsm_optuna"
#: hsm_optuna's makespan, as a multiple of list scheduling's.
LIMIT = 1.08
#: What pip installs for each version of hydra-optuna-sweeper.
UPSTREAM = {
    "1.3.0": [
        "hydra-core>=1.3,<1.4",
        "hydra-optuna-sweeper==1.3.0",
        "hydra-joblib-launcher==1.2.0",
    ],
    "1.4.0rc3": [
        f"{name}==1.4.0rc3"
        for name in ("hydra-core", "hydra-optuna-sweeper", "hydra-joblib-launcher")
    ],
}
_VERSIONS = ("hydra-core", "optuna", "hydra-optuna-sweeper", "hydra-joblib-launcher")
_PLACES = {"hsm_local": "max_parallel_jobs", "joblib": "n_jobs"}


@dataclass(frozen=True)
class Contender:
    """A sweeper over a launcher.

    Attributes:
        name: what it is called.
        python: the interpreter of its environment.
        sweeper, launcher: their names in Hydra.
    """

    name: str
    python: Path
    sweeper: str
    launcher: str

    def words(self, trials: int, slots: int) -> list[str]:
        """The command line of a study."""
        return [
            *(str(self.python), str(APP), "-m"),
            *(f"hydra/sweeper={self.sweeper}", f"hydra/launcher={self.launcher}"),
            f"hydra.launcher.{_PLACES[self.launcher]}={slots}",
            *(f"hydra.sweeper.n_jobs={slots}", f"hydra.sweeper.n_trials={trials}"),
            *("hydra.sweep.dir=sweep", "+x=interval(-5.0, 5.0)", "+y=interval(-5.0, 5.0)"),
        ]


def contenders(environments: Path) -> list[Contender]:
    """All that can be installed; hsm_optuna first."""
    found = [Contender(OURS, Path(sys.executable), "hsm_optuna", "hsm_local")]
    for version, requirements in UPSTREAM.items():
        python = made(environments, f"hydra-optuna-sweeper-{version}", requirements)
        if python is not None:
            found += [
                Contender(f"optuna {version}, {launcher}", python, "optuna", launcher)
                for launcher in _PLACES
            ]
    return found


def list_schedule(seconds: Sequence[float], slots: int) -> float:
    """The makespan if each, in this order, starts as soon as a slot is free."""
    free = [0.0] * slots
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def run_one(contender: Contender, trials: int, slots: int) -> Run:
    """One study; the fact `makespan` is in seconds."""

    def inspect(directory: Path) -> dict[str, Any]:
        lines = (directory / "record").read_text(encoding="utf-8").splitlines()
        record = [json.loads(line) for line in lines]
        if sorted(line["num"] for line in record) != list(range(trials)):
            raise Incomplete(f"not every trial ran once: {len(record)} of {trials} did")
        if not (directory / "sweep" / "optimization_results.yaml").exists():
            raise Incomplete("there is no optimization_results.yaml")
        makespan = max(line["ended"] for line in record) - min(line["started"] for line in record)
        return {"makespan": makespan, "trials": record}

    environment = {"BENCHMARK_RECORD": "record", "BENCHMARK_TRIALS": str(trials)}
    return measure(contender.words(trials, slots), inspect, environment)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description="How busy sweepers keep the slots.")
    parser.add_argument("--rounds", type=count, metavar="N", default=3, help="default 3")
    parser.add_argument("--trials", type=count, metavar="N", default=24, help="default 24")
    parser.add_argument("--slots", type=count, metavar="N", default=4, help="default 4")
    parser.add_argument(
        "--environments", type=Path, metavar="FOLDER", help="keep and reuse the environments there"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE")
    return parser.parse_args(arguments)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """Where environments are made: in `given`, or for this run only."""
    if given is not None:
        yield given.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="benchmark-environments-") as made_here:
            yield Path(made_here)


def compare(found: Sequence[Contender], options: argparse.Namespace) -> Result:
    """Run all studies, and compare their makespans with list scheduling's."""
    trials, slots = options.trials, options.slots
    seconds = durations(trials)
    best = list_schedule(seconds, slots)
    by_name = {each.name: each for each in found}
    for each in found:  # files into the page cache, byte code onto the disk
        run_one(each, slots, slots)
    runs = interleave(
        list(by_name), options.rounds, lambda name: run_one(by_name[name], trials, slots)
    )
    rows = [["list scheduling", f"{best:.2f}", "1.00", f"{_busy(seconds, slots, best):.0f}", ""]]
    figures: dict[str, dict[str, Summary | None]] = {}
    for name, own in runs.items():
        figures[name] = {
            "makespan": summarise_runs(own, lambda run: run.facts["makespan"]),
            "ratio": summarise_runs(own, lambda run: run.facts["makespan"] / best),
            "busy": summarise_runs(own, lambda run: _busy(seconds, slots, run.facts["makespan"])),
            "command": summarise_runs(own, lambda run: run.seconds),
        }
        of = figures[name]
        rows.append(
            [
                name,
                measured(of["makespan"], own),
                cell(of["ratio"]),
                cell(of["busy"], digits=0),
                cell(of["command"]),
            ]
        )
    document = {
        **new_document("sweepers", versions(["hpc-sweep-manager", *_VERSIONS])),
        "environments": {each.name: installed(each.python, _VERSIONS) for each in found},
        "trials": trials,
        "slots": slots,
        "durations": seconds,
        "list_scheduling": best,
        "figures": figures,
        "runs": runs,
    }
    return Result(
        f"{trials} trials of {min(seconds):.1f} s to {max(seconds):.1f} s, {slots} at a time",
        ["sweeper", "makespan s", "/ list scheduling", "slots busy %", "command s"],
        rows,
        [Target(f"{OURS} / list scheduling", figures[OURS]["ratio"], LIMIT)],
        document,
        any_failed(runs.values()),
    )


def _busy(seconds: Sequence[float], slots: int, makespan: float) -> float:
    """Percent of the slots' time in which they run trials."""
    return 100 * sum(seconds) / (slots * makespan)


def main() -> int:
    """Compare; returns 1 if a run failed or the limit is missed."""
    options = parse()
    with _folder(options.environments) as folder:
        result = compare(contenders(folder), options)
    result.show()
    (target,) = result.targets
    missed = target.value is not None and target.value.median > target.limit
    return max(finish(result.document, options.json, result.failed), int(missed))


if __name__ == "__main__":
    sys.exit(main())
