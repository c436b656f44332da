"""Which job, or trial, is the best of those that have ended so far."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from helpers.written_studies import Study
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.results.best_so_far import BestSoFar
from hsm.core.results.goal import Constraint, Goal, Objective
from hsm.core.results.repeats import Repeats
from hsm.core.settings.resolve import Direction

LOWEST, HIGHEST = Direction.minimize, Direction.maximize
STUDY = Goal(None, LOWEST, is_told=True)


def job(num: int, state: JobState = JobState.COMPLETED, **facts: Any) -> Job:
    made = Job(num, f"s_{num}", "", {"lr": num // 2, "seed": num % 2})
    made.start(1.0, 2)
    made.end(2.0, Ending(state, **facts))
    return made


def bests(so_far: BestSoFar, *jobs: Job) -> list[int | None]:
    """The number of each new best, job by job."""
    found = [so_far.ended([each]) for each in jobs]
    return [None if best is None else best.job.num for best in found]


def test_each_new_best_is_told_once() -> None:
    values = (3, 4, 2.5, 2.5, float("nan"), float("-inf"), None, True, "1", 10**400, 1)
    jobs = [job(num, objective=value) for num, value in enumerate(values)]
    assert bests(BestSoFar(STUDY), *jobs) == [0, None, 2, *7 * [None], 10]
    found = bests(BestSoFar(Goal(None, HIGHEST, is_told=True)), *jobs)
    assert found == [0, 1, *9 * [None]]


def test_of_jobs_that_ended_at_once_only_the_best_is_told() -> None:
    so_far = BestSoFar(STUDY)
    best = so_far.ended([job(num, objective=value) for num, value in enumerate((3, 1, 2))])
    assert best is not None
    assert (best.job.num, best.value, best.params) == (1, 1, {"lr": 0, "seed": 1})
    assert so_far.ended([]) is None


@pytest.mark.parametrize("state", [state for state in JobState if state.is_final])
def test_only_a_completed_job_is_best(state: JobState) -> None:
    if state is not JobState.COMPLETED:
        assert BestSoFar(STUDY).ended([job(0, state, objective=0.0)]) is None


@pytest.mark.parametrize(
    "goal", [Goal(), Goal("loss"), Goal(several=(Objective("0", LOWEST), Objective("1", LOWEST)))]
)
def test_nothing_is_best_without_one_direction(goal: Goal) -> None:
    assert BestSoFar(goal).ended([job(0, objective=1, value=1)]) is None
    assert BestSoFar(goal).ended([job(0, objective=[1, 2])]) is None


@pytest.mark.parametrize(
    ("metric", "value", "found"),
    [
        (None, 3, 3),
        ("value", 3, 3),
        ("loss", 3, None),
        (None, {"loss": 3}, None),
        ("loss", {"loss": 3}, 3),
        ("loss", {"loss": [3]}, 3),
        ("val.loss", {"val": {"loss": 3}}, 3),
        ("val.loss", {"val.loss": 2, "val": {"loss": 3}}, 2),
        ("value.loss", {"loss": 3}, 3),
        ("val.loss", {"val": 3}, None),
        ("loss", {"loss": True}, None),
    ],
)
def test_in_a_grid_it_is_the_metric_in_what_jobs_return(
    metric: str | None, value: object, found: float | None
) -> None:
    best = BestSoFar(Goal(metric, LOWEST)).ended([job(0, value=value)])
    if value == {"loss": [3]}:
        assert best is None  # a list is no number
    else:
        assert (None if best is None else best.value) == found


def test_a_study_does_not_look_at_what_it_was_not_told() -> None:
    assert BestSoFar(STUDY).ended([job(0, value=3)]) is None


# --- repeats
# -------------------------------------------------------------------------------------------------

SEEDS = Repeats(("seed",), 2, 8)


def test_a_trial_is_best_when_its_last_job_has_ended() -> None:
    so_far = BestSoFar(STUDY, SEEDS)
    values = {3: 4.0, 0: 1.0, 1: 3.0, 2: 1.0, 5: 9.0, 4: -5.0}
    found = bests(so_far, *(job(num, objective=value) for num, value in values.items()))
    assert found == [None, None, 0, None, None, None]  # 2 of 0 and 1; then 2.5, and 2 again
    best = so_far.ended([job(6, objective=0), job(7, objective=1)])
    assert best is not None
    assert best.trial is not None
    assert (best.value, best.trial.jobs, best.params) == (0.5, (6, 7), {"lr": 3})


def test_a_trial_with_few_values_or_that_was_pruned_is_not_best() -> None:
    failed, pruned = JobState.FAILED, JobState.PRUNED
    so_far = BestSoFar(STUDY, SEEDS)
    jobs = [job(0, failed), job(1, failed), job(2, objective=1), job(3, pruned, objective=1)]
    assert bests(so_far, *jobs) == [None] * 4
    best = so_far.ended([job(4, failed), job(5, objective=7)])
    assert best is not None
    assert best.trial is not None
    assert (best.job.num, best.trial.jobs, best.trial.deviation) == (5, (5,), None)


def test_a_job_that_was_added_is_a_trial_of_its_own() -> None:
    assert bests(BestSoFar(STUDY, SEEDS), job(8, objective=1), job(9, objective=2)) == [8, None]


@pytest.mark.parametrize("seed", range(5))
def test_the_last_best_is_the_best_of_all(seed: int) -> None:
    chance = random.Random(seed)
    so_far, jobs = BestSoFar(STUDY), []
    last: float | None = None
    for num in range(200):
        jobs.append(job(num, objective=chance.choice([chance.random(), float("nan")])))
        if (best := so_far.ended(jobs[-1:])) is not None:
            last = best.value
    assert last == min(it.outcome.objective for it in jobs if it.outcome.objective >= 0)  # type: ignore[union-attr, operator, type-var]


# --- what jobs wrote and reported
# -------------------------------------------------------------------------------------------------


def test_files_and_reports_of_a_grids_jobs_are_looked_at(tmp_path: Path) -> None:
    sweep = Study(tmp_path)
    sweep.submit({}, {}, {}, {})
    for num in range(4):
        sweep.end(num, value={"other": 1} if num else {"loss": 5})
    sweep.write(1, "results.json", {"val": {"loss": 1}, "loss": 4})
    sweep.report(2, loss=9)
    sweep.report(2, loss=3)
    so_far = BestSoFar(Goal("loss", LOWEST), None, sweep.paths)
    assert bests(so_far, *sweep.jobs) == [0, 1, 2, None]
    so_far = BestSoFar(Goal("val.loss", LOWEST), None, sweep.paths)
    assert bests(so_far, *sweep.jobs) == [None, 1, None, None]


def test_what_breaks_a_constraint_is_not_best(tmp_path: Path) -> None:
    sweep = Study(tmp_path)
    sweep.submit({}, {}, {}, {})
    for num in range(4):
        sweep.end(num, value={"memory": 7 + num}, objective=-num)
    goal = Goal(None, LOWEST, is_told=True, constraints=(Constraint("memory", True, 8),))
    assert bests(BestSoFar(goal, None, sweep.paths), *sweep.jobs) == [0, 1, None, None]
    repeats = Repeats(("seed",), 2, 4)
    assert bests(BestSoFar(goal, repeats, sweep.paths), *sweep.jobs[1:3]) == [None, None]
    assert bests(BestSoFar(goal, repeats, sweep.paths), *sweep.jobs) == [None, 0, None, None]
