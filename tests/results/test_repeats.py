"""Points that are repeated: the best of a sweep is the best mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.written_sweeps import Sweeps
from hsm import collect_results
from hsm.cli._outcome import outcome
from hsm.core.record.job import JobState
from hsm.core.record.sweep import read_sweep
from hsm.core.results.collect import ranked_results
from hsm.core.results.goal import Goal
from hsm.core.results.repeats import Repeats
from hsm.core.settings.resolve import Direction
from hsm.display.best_jobs import best_jobs

LOWEST, HIGHEST = Goal(None, Direction.minimize), Goal(None, Direction.maximize)


def write(directory: Path, *values: Any, planned: int | None = None) -> Path:
    """A sweep of lr = 0, 1, … with two seeds each; a value that is an exception is a failure."""
    sweeps = Sweeps(directory)
    sweeps.submit(*({"lr": num // 2, "seed": num % 2} for num in range(len(values))))
    for num, value in enumerate(values):
        if isinstance(value, Exception):
            sweeps.end(num, JobState.FAILED, exit_code=1)
        else:
            sweeps.end(num, value=value)
    sweeps.journal.close("finished")
    facts: dict[str, Any] = {"chosen": {"repeat": {"seed": [0, 1]}}}
    if planned is not None:
        facts["planned"] = planned
    add_facts(sweeps.paths.journal, facts)
    return directory


def add_facts(journal: Path, facts: dict[str, Any]) -> None:
    """Give a journal what a launcher would have recorded of itself."""
    first, *lines = journal.read_text().splitlines()
    journal.write_text("\n".join([json.dumps({**json.loads(first), **facts}), *lines, ""]))


def test_the_best_is_the_best_mean_not_the_luckiest_job(tmp_path: Path) -> None:
    sweep = read_sweep(write(tmp_path, 0.1, 0.9, 0.4, 0.5))
    results, ranking = ranked_results(sweep, LOWEST)
    assert [trial.jobs for trial in ranking.trials] == [(2, 3), (0, 1)]
    assert list(ranking.values) == pytest.approx([0.45, 0.5])
    assert best_jobs(results, ranking, 80) == [
        "best by value (lowest mean of 2):",
        "  jobs  lr          value",
        "   2-3   1  0.450 ± 0.071",
        "   0-1   0    0.50 ± 0.57",
    ]
    _, ranking = ranked_results(sweep, HIGHEST)
    assert [trial.jobs for trial in ranking.trials] == [(0, 1), (2, 3)]


def test_without_a_direction_both_ends_are_means(tmp_path: Path) -> None:
    results, ranking = ranked_results(read_sweep(write(tmp_path, 1, 3, 5, 5)))
    assert best_jobs(results, ranking, 80)[0] == "mean value of 2 trials:"
    assert ranking.values == [5, 2]


def test_a_trial_counts_if_half_of_its_jobs_have_a_value(tmp_path: Path) -> None:
    failure = RuntimeError()
    sweep = read_sweep(write(tmp_path, 0.1, failure, failure, failure, 0.4, 0.4))
    results, ranking = ranked_results(sweep, LOWEST)
    assert [(trial.jobs, trial.deviation) for trial in ranking.trials] == [
        ((0,), None),
        ((4, 5), 0),
    ]
    assert (ranking.left_out, ranking.missing) == (0, 0)  # nothing of the second is ranked at all
    three = Repeats(("seed",), 3)
    assert three.trial_of(5) == 1
    assert best_jobs(results, ranking, 80)[2].split() == ["0", "0", "0.1"]


def test_a_trial_with_too_few_values_is_said_to_be_left_out(tmp_path: Path) -> None:
    write(tmp_path, 0.1, 0.2, 0.3, RuntimeError(), RuntimeError(), RuntimeError())
    add_facts(read_sweep(tmp_path).paths.journal, {"chosen": {"repeat": {"seed": [0, 1, 2]}}})
    _, ranking = ranked_results(read_sweep(tmp_path), LOWEST)
    assert [trial.jobs for trial in ranking.trials] == [(0, 1, 2)]
    assert ranking.left_out == 0
    add_facts(read_sweep(tmp_path).paths.journal, {"chosen": {"repeat": {"seed": [*range(8)]}}})
    results, ranking = ranked_results(read_sweep(tmp_path), LOWEST)
    assert (ranking.rows, ranking.left_out) == ([], 1)
    assert best_jobs(results, ranking, 80) == []
    assert ranking.problem == "no trial has 'value' of half of its jobs"


def test_jobs_that_were_added_are_trials_of_their_own(tmp_path: Path) -> None:
    sweep = read_sweep(write(tmp_path, 0.1, 0.9, 0.3, 0.2, planned=2))
    _, ranking = ranked_results(sweep, LOWEST)
    assert [trial.jobs for trial in ranking.trials] == [(3,), (2,), (0, 1)]


def test_the_table_says_which_jobs_are_one_trial(tmp_path: Path) -> None:
    results = collect_results(write(tmp_path, 1, 2, 3, 4, planned=2))
    assert results.columns[:5] == ["job", "state", "trial", "lr", "seed"]
    assert [row["trial"] for row in results] == [0, 0, None, None]
    grouped = results.group_by(over="seed")
    assert [(row["lr"], row["value"], row["n"]) for row in grouped] == [(0, 1.5, 2), (1, 3.5, 2)]


def test_a_parameter_that_is_called_trial_keeps_its_values(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path)
    sweeps.submit({"trial": "x", "seed": 0})
    sweeps.journal.close("finished")
    assert collect_results(tmp_path).columns[2] == "trial"
    add_facts(sweeps.paths.journal, {"chosen": {"repeat": {"seed": [0]}}})
    (row,) = collect_results(tmp_path)
    assert (row["trial"], row["params.trial"]) == (0, "x")


def test_programs_are_told_of_the_trial_too(tmp_path: Path) -> None:
    sweep = read_sweep(write(tmp_path, 0.1, 0.9, 0.4, 0.5))
    best = outcome(sweep, LOWEST)["best"]
    assert (best["job"], best["jobs"], best["params"]) == (2, (2, 3), {"lr": 1})
    assert best["value"] == pytest.approx(0.45)


@pytest.mark.parametrize(
    "chosen",
    [None, 3, {}, {"repeat": None}, {"repeat": {}}, {"repeat": {"seed": 3}}, {"repeat": {"s": []}}],
)
def test_records_that_make_no_sense_mean_no_repeats(chosen: object) -> None:
    assert Repeats.recorded({"chosen": chosen, "planned": "many"}) is None


def test_several_keys_are_repeated_in_all_combinations() -> None:
    recorded = {"chosen": {"repeat": {"+seed": [0, 1], "fold": [0, 1, 2]}}, "planned": 12}
    assert Repeats.recorded(recorded) == Repeats(("seed", "fold"), 6, 12)
