"""What pruning is worth on a real learning curve: epochs spent, and the best value that was found.

    python benchmarks/pruning.py --json benchmarks/results/pruning.json

A linear classifier learns to read digits (SGDClassifier.partial_fit on scikit-learn's digits), one
trial at a time. A study with the pruner asha is compared with one of the same seed that prunes
nothing: it may spend half of the epochs, for a best accuracy that is at most 1 % lower (medians
over the seeds). `python` is a Hydra app that calls hsm.report and hsm.should_prune. `shell` is a
shell script that appends a JSON line for each epoch and knows of no pruning: hsm ends its jobs
(--prune stop). In its case an epoch takes a while longer, as it does with larger models, since the
script goes on learning until the launcher has read its line; `python` waits for the answer.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from _harness import Incomplete, Run, interleave, measure
from _report import (
    Result,
    Target,
    any_failed,
    cell,
    count,
    finish,
    measured,
    new_document,
    summarise,
    summarise_runs,
    versions,
)
from hsm.core.record.sweep import read_sweep

_HERE = Path(__file__).resolve().parent
_APPS = _HERE / "apps" / "learning"
#: The share of the epochs, and how many percent lower the best accuracy may be.
EPOCHS_LIMIT, LOSS_LIMIT = 0.5, 1.0
_NOTHING, _PYTHON, _SHELL = "nothing pruned", "asha, python", "asha, shell"
_SPACE = (
    "loss=choice(hinge, log_loss, modified_huber)",
    "eta0=tag(log, interval(1e-5, 1.0))",
    "alpha=tag(log, interval(1e-7, 1e-1))",
)


def words(study: str, seed: int, given: argparse.Namespace) -> list[str]:
    """The command line of a study."""
    trials, epochs = str(given.trials), str(given.epochs)
    if study == _SHELL:
        return [
            *(sys.executable, "-m", "hsm.cli.main", "sweep", "--sweep-dir", "sweep"),
            *("--method", "optuna", "--seed", str(seed), "--n-trials", trials),
            *("--parallel-jobs", "1", "--maximize", "--pruner", "asha", "--prune", "stop"),
            *(*_SPACE, "--", "sh", str(_APPS / "train.sh"), "{loss}", "{eta0}", "{alpha}"),
            *(epochs, str(seed), str(given.epoch_seconds)),
        ]
    pruner = "none" if study == _NOTHING else "asha"
    return [
        *(sys.executable, str(_APPS / "train.py"), "-m", "hydra.sweep.dir=sweep"),
        *("hydra/launcher=hsm_local", "hydra.launcher.max_parallel_jobs=1"),
        *("hydra/sweeper=hsm_optuna", f"hydra/sweeper/pruner={pruner}"),
        *("hydra.sweeper.direction=maximize", f"hydra.sweeper.seed={seed}"),
        *(f"hydra.sweeper.n_trials={trials}", f"+epochs={epochs}", f"+data_seed={seed}"),
        *(f"+{axis}" for axis in _SPACE),
    ]


def run_one(key: tuple[str, int], given: argparse.Namespace) -> Run:
    """One study; facts: `epochs` that were learnt, `best` accuracy, jobs by their `states`."""
    study, seed = key

    def inspect(directory: Path) -> dict[str, Any]:
        jobs = read_sweep(directory / "sweep").jobs
        states = Counter(str(job.state) for job in jobs.values())
        if len(jobs) != given.trials or not states.keys() <= {"COMPLETED", "PRUNED"}:
            raise Incomplete(f"not the trials that were asked for: {dict(states)}")
        if (study == _NOTHING) != (states["PRUNED"] == 0):
            raise Incomplete(f"{states['PRUNED']} trials were pruned")
        endings = [job.outcome for job in jobs.values()]
        values = [each.objective for each in endings if each and str(each.state) == "COMPLETED"]
        epochs = (directory / "record").stat().st_size
        if study == _NOTHING and epochs != given.trials * given.epochs:
            raise Incomplete(f"{epochs} epochs were learnt")
        return {"epochs": epochs, "best": max(map(_number, values)), "states": dict(states)}

    environment = {
        "BENCHMARK_RECORD": "record",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(_HERE),
    }
    return measure(words(study, seed, given), inspect, environment)


def _number(objective: object) -> float:
    if not isinstance(objective, float):
        raise Incomplete(f"the objective of a completed trial is {objective!r}")
    return objective


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description="What pruning is worth.")
    parser.add_argument("--seeds", type=count, metavar="N", default=5, help="default 5")
    parser.add_argument("--trials", type=count, metavar="N", default=30, help="default 30")
    parser.add_argument("--epochs", type=count, metavar="N", default=27, help="default 27")
    parser.add_argument(
        "--epoch-seconds", type=float, metavar="S", default=0.1, help="shell; default 0.1"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE")
    return parser.parse_args(arguments)


def main() -> int:
    """Compare; returns 1 if a study failed or a limit is missed."""
    given = parse()
    seeds = range(1, given.seeds + 1)
    keys = [(study, seed) for seed in seeds for study in (_NOTHING, _PYTHON, _SHELL)]
    all_runs = interleave(keys, 1, partial(run_one, given=given))
    runs = {
        study: [all_runs[study, seed][0] for seed in seeds] for study in (_NOTHING, _PYTHON, _SHELL)
    }
    rows, targets, figures = [], [], {}
    for study, own in runs.items():
        pairs = [
            (one.facts, other.facts)
            for one, other in zip(own, runs[_NOTHING], strict=True)
            if one.problem is None and other.problem is None
        ]
        share = summarise([one["epochs"] / other["epochs"] for one, other in pairs])
        loss = summarise([100 - 100 * one["best"] / other["best"] for one, other in pairs])
        epochs = summarise_runs(own, lambda run: run.facts["epochs"])
        best = summarise_runs(own, lambda run: run.facts["best"])
        pruned = summarise_runs(own, lambda run: run.facts["states"].get("PRUNED", 0))
        known = {"epochs": epochs, "share": share, "best": best, "loss": loss, "pruned": pruned}
        figures[study] = known
        seconds = summarise_runs(own, lambda run: run.seconds)
        rows.append(
            [
                *(study, measured(epochs, own, digits=0), cell(share), cell(pruned, digits=0)),
                *(cell(best, digits=4), cell(loss), cell(seconds, digits=1)),
            ]
        )
        if study != _NOTHING:
            targets.append(Target(f"{study}: share of the epochs", share, EPOCHS_LIMIT))
            targets.append(Target(f"{study}: percent of the best accuracy lost", loss, LOSS_LIMIT))
    document = {
        **new_document("pruning", versions(["hpc-sweep-manager", "optuna", "scikit-learn"])),
        **{key: value for key, value in vars(given).items() if key != "json"},
        "figures": figures,
        "runs": runs,
    }
    title = f"{given.trials} trials of {given.epochs} epochs, {given.seeds} seeds"
    header = ["", "epochs", "share", "pruned", "best accuracy", "lost %", "seconds"]
    result = Result(title, header, rows, targets, document, any_failed(runs.values()))
    result.show()
    missed = any(each.value and each.value.median > each.limit for each in targets)
    return max(finish(document, given.json, result.failed), int(missed))


if __name__ == "__main__":
    sys.exit(main())
