"""The Pareto front: what no other trial beats."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from helpers.written_studies import Study
from hsm import collect_results, read_sweep
from hsm.cli._outcome import outcome
from hsm.core.errors import SettingsError
from hsm.core.record.job import JobState
from hsm.core.results import pareto
from hsm.core.results.collect import ranked_results
from hsm.core.results.pareto import front
from hsm.display.best_jobs import best_jobs

Points = list[tuple[float, ...]]


def by_definition(points: Points) -> list[int]:
    return [
        at
        for at, point in enumerate(points)
        if not any(
            other != point and all(one <= two for one, two in zip(other, point, strict=True))
            for other in points
        )
    ]


@pytest.mark.parametrize("axes", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(6))
def test_the_front_is_what_the_definition_says(
    seed: int, axes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    values = range(4) if seed % 2 else range(1000)  # with many equal ones, and with few
    points: Points = [
        tuple(float(chance.choice(values)) for _ in range(axes))
        for _ in range(chance.randrange(90))
    ]
    expected = by_definition(points)
    assert front(points) == expected
    monkeypatch.setattr(pareto, "_CHUNK", 7)
    assert front(points) == expected


def test_infinite_numbers_are_the_ends() -> None:
    inf = float("inf")
    assert front([(-inf, inf), (0.0, 0.0), (inf, -inf), (inf, 0.0)]) == [0, 1, 2]


@pytest.mark.parametrize("count", [0, 1])
def test_few_points_are_all_on_it(count: int) -> None:
    assert front([(1.0, 2.0)] * count) == list(range(count))


def test_thousands_of_which_all_are_on_it() -> None:
    points = [(float(at), float(-at)) for at in range(9000)]
    assert front(points) == list(range(9000))


# --- of a sweep
# -------------------------------------------------------------------------------------------------


def study(directory: Path, *objectives: Any, **chosen: Any) -> Study:
    """A study of loss and acc; an objective that is a state is how a job ended."""
    options = {"metric": ["loss", "acc"], "direction": ["minimize", "maximize"], **chosen}
    written = Study(directory, **options)
    count = 2 if "repeat" in chosen else 1
    written.submit(*({"lr": num // count, "seed": num % count} for num in range(len(objectives))))
    for num, objective in enumerate(objectives):
        if isinstance(objective, JobState):
            written.end(num, objective, reason="so")
        else:
            written.end(num, value=None, objective=objective)
    return written


def test_the_table_says_which_jobs_are_on_the_front(tmp_path: Path) -> None:
    bad = float("nan")
    study(
        tmp_path, [1, 1], [2, 2], [3, 1], [1, bad], JobState.FAILED, JobState.PRUNED, None, [2, 2]
    ).finish()
    table = collect_results(tmp_path)
    assert table.columns[:9] == [
        *("job", "state", "trial", "pruned", "pareto", "lr", "seed"),
        *("objective.loss", "objective.acc"),
    ]
    assert [row["pareto"] for row in table] == [True, True, False, None, None, None, None, True]
    assert [row["pruned"] for row in table] == [*5 * [False], True, False, False]
    assert [row["reason"] for row in table][3:7] == [
        "its metric acc is nan",
        "so",
        "so",
        "it has no metric loss, acc",
    ]


def test_no_job_is_the_best_but_one_objective_may_be_asked_for(tmp_path: Path) -> None:
    study(tmp_path, [1, 1], [2, 2], [3, 1]).finish()
    table = collect_results(tmp_path)
    with pytest.raises(SettingsError, match="column pareto; pass metric= for one of loss, acc"):
        table.best()
    assert table.best("acc")["job"] == 1
    assert table.best("acc", "minimize")["job"] == 0
    assert [row["job"] for row in table.ranked("loss")] == [0, 1, 2]


def test_the_summary_lists_the_front(tmp_path: Path) -> None:
    study(tmp_path, [3, 3], [1, 1], [2, 2], [3, 1]).finish()
    results, ranking = ranked_results(read_sweep(tmp_path))
    assert best_jobs(results, ranking, 80) == [
        "3 of 4 jobs are on the Pareto front of loss (lowest), acc (highest):",
        "  job  lr  loss  acc",
        "    1   1     1    1",
        "    2   2     2    2",
        "    0   0     3    3",
    ]
    told = outcome(read_sweep(tmp_path))
    assert (told["best"], told["direction"]) == (None, None)
    assert [each["job"] for each in told["pareto"]] == [1, 2, 0]
    assert told["pareto"][0] == {
        "job": 1,
        "values": {"loss": 1, "acc": 1},
        "params": {"lr": 1, "seed": 0},
    }


def test_a_long_front_is_cut(tmp_path: Path) -> None:
    study(tmp_path, *([num, num] for num in range(9))).finish()
    lines = best_jobs(*ranked_results(read_sweep(tmp_path)), 60)
    assert len(lines) == 7
    assert all(len(line) <= 60 for line in lines)


def test_trials_are_on_the_front_by_their_means(tmp_path: Path) -> None:
    repeat = {"repeat": {"seed": [0, 1]}}
    pruned = JobState.PRUNED
    study(tmp_path, [0, 0], [4, 0], [1, 0], [1, 0], [0, 9], pruned, **repeat).finish()
    table = collect_results(tmp_path)
    assert [row["pareto"] for row in table] == [False, False, True, True, False, None]
    results, ranking = ranked_results(read_sweep(tmp_path))
    assert ranking.front is not None
    assert (ranking.front.jobs, ranking.front.count) == ([(2, 3)], 2)
    assert best_jobs(results, ranking, 80)[1:] == ["  jobs  lr  loss  acc", "   2-3   1     1    0"]
    (told,) = outcome(read_sweep(tmp_path))["pareto"]
    assert (told["jobs"], told["params"]) == ((2, 3), {"lr": 1})


def test_nothing_is_on_a_front_before_a_job_has_ended(tmp_path: Path) -> None:
    study(tmp_path, JobState.FAILED).finish()
    assert [row["pareto"] for row in collect_results(tmp_path)] == [None]
    results, ranking = ranked_results(read_sweep(tmp_path))
    assert best_jobs(results, ranking, 80) == []
