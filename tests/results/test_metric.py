"""Which number of a job is its metric, and which job is best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.written_sweeps import Sweeps
from hsm.core.errors import SettingsError
from hsm.core.record.job import JobState
from hsm.core.results.collect import results_of
from hsm.core.results.goal import Goal
from hsm.core.settings.resolve import Direction


def values(sweep: Sweeps, metric: str | None = None) -> dict[int, Any]:
    """Number of a job -> its value, for the jobs that have one."""
    ranking = results_of(sweep.read()).ranking(Goal(metric))
    pairs = zip(ranking.rows, ranking.values, strict=True)
    return {row["job"]: value for row, value in pairs}


def refusal(sweep: Sweeps, metric: str | None = None, direction: str | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        results_of(sweep.read()).best(metric, direction)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_first_place_that_has_a_metric_decides(sweep: Sweeps) -> None:
    sweep.submit(*[{"x": n} for n in range(5)])
    sweep.end(0, value={"loss": 1, "val": {"f1": 0.5}})
    sweep.end(1, value=7)
    sweep.end(2)
    sweep.end(3, value={"loss": float("nan")})
    sweep.end(4, value={"other": 1})
    for num in range(5):
        sweep.write(num, "metrics.json", {"loss": 30 + num})
    for num in range(2):
        sweep.write(num, "results.json", {"loss": 20 + num, "val": {"f1": num}})
    assert values(sweep, "loss") == {0: 1, 1: 21, 2: 32, 4: 34}
    assert values(sweep, "value.loss") == {0: 1}
    assert values(sweep, "val.f1") == {0: 0.5, 1: 1}
    assert values(sweep, "metrics.loss") == {n: 30 + n for n in range(5)}
    assert values(sweep, "value") == values(sweep) == {1: 7}


def test_a_metric_may_be_called_as_a_parameter_is(sweep: Sweeps) -> None:
    sweep.submit({"loss": "hinge"}, {"loss": "log"})
    sweep.end(0, value={"loss": 0.5})
    sweep.end(1)
    sweep.write(1, "results.json", {"loss": 0.25})
    assert values(sweep, "loss") == {0: 0.5, 1: 0.25}


@pytest.mark.parametrize(
    "value", [True, "0.5", float("nan"), float("inf"), float("-inf"), [1], {"a": 1}, 10**400]
)
def test_only_finite_numbers_count(sweep: Sweeps, value: Any) -> None:
    sweep.submit({}, {})
    sweep.end(0, value=value)
    sweep.end(1, value=1)
    ranking = results_of(sweep.read()).ranking(Goal("value"))
    assert (ranking.values, ranking.missing) == ([1], 1)


def test_only_completed_jobs_are_ranked(sweep: Sweeps) -> None:
    sweep.submit({}, {}, {}, {})
    sweep.end(0, value=3)
    sweep.end(1, JobState.PRUNED, value=1)
    sweep.end(2, JobState.FAILED, exit_code=1)
    sweep.write(2, "results.json", {"value": 0})
    sweep.start(3)
    ranking = results_of(sweep.read()).ranking()
    assert (ranking.values, ranking.completed, ranking.missing) == ([3], 1, 0)


@pytest.mark.parametrize(
    ("returned", "written", "metric"),
    [
        ([2, None], [{"loss": 1}, {"loss": 2}], "value"),
        ([{"loss": 1}, {"loss": 2}], [{"acc": 1}, {"acc": 2}], "loss"),
        ([{"loss": 1, "epochs": 9}, {"loss": 2, "epochs": 9}], [{}, {}], "loss"),
        ([None, {"text": "a"}], [{"loss": 1}, {}], "loss"),
        ([None, None], [{"loss": 1, "lr": 0.1}, {"loss": 2, "lr": 0.1, "name": "b"}], "loss"),
        ([{"loss": 1, "acc": 2}, {"loss": 2, "acc": 1}], [{}, {}], None),
        ([{"loss": 1, "acc": 2}, {"loss": 1, "acc": 2}], [{}, {}], None),
        ([True, "1"], [{"loss": "low"}, {"loss": [1]}], None),
    ],
)
def test_without_a_name_it_is_the_returned_number_or_the_only_one(
    sweep: Sweeps, returned: list[Any], written: list[Any], metric: str | None
) -> None:
    sweep.submit({}, {})
    for num in range(2):
        sweep.end(num, value=returned[num])
        sweep.write(num, "metrics.json", written[num])
    assert results_of(sweep.read()).ranking().metric == metric


def test_files_are_needed_only_if_the_returned_values_do_not_answer(sweep: Sweeps) -> None:
    def needs_files(metric: str | None) -> bool:
        return results_of(sweep.read(), files=False).ranking(Goal(metric)).needs_files

    sweep.submit({}, {}, {})
    assert not needs_files(None)
    sweep.end(0, value={"loss": 1})
    sweep.end(1, value={"loss": float("nan")})
    assert not needs_files(None)
    assert not needs_files("loss")
    assert needs_files("acc")
    sweep.end(2)
    assert needs_files("loss")


def test_the_best_job_by_the_goal_on_record_or_another(tmp_path: Path) -> None:
    sweep = Sweeps(tmp_path / "s", metric="loss", direction="minimize")
    sweep.submit(*[{"lr": n} for n in range(4)])
    for num, loss in enumerate([0.5, 0.25, 0.75, 0.25]):
        sweep.end(num, value={"loss": loss, "acc": num})
    results = results_of(sweep.read())
    assert results.goal == Goal("loss", Direction.minimize)
    assert (results.best()["job"], results.best()["value.loss"]) == (1, 0.25)
    assert results.best(direction="maximize")["job"] == 2
    assert results.best("acc", "maximize")["lr"] == 3
    assert [row["job"] for row in results.ranked()] == [1, 3, 0, 2]
    assert [row["job"] for row in results.ranked("acc")] == [0, 1, 2, 3]
    assert results.only("completed").best()["job"] == 1
    assert results.select(["state", "lr", "value.loss"]).best() == {
        "state": "COMPLETED",
        "lr": 1,
        "value.loss": 0.25,
    }


@pytest.mark.parametrize("settings", [{}, {"metric": 3, "direction": "up"}, {"metric": ["a"]}])
def test_a_record_without_a_goal_or_with_a_broken_one_has_none(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    sweep = Sweeps(tmp_path / "s", **settings)
    sweep.submit({})
    sweep.end(0, value=1)
    assert results_of(sweep.read()).goal == Goal()
    assert refusal(sweep) == (
        "best: the sweep has no direction on record: pass direction='minimize' or "
        "direction='maximize'"
    )


def test_what_cannot_be_best_is_refused_in_plain_words(sweep: Sweeps) -> None:
    sweep.submit({}, {})
    assert refusal(sweep, None, "minimize") == "best: no job has completed"
    sweep.end(0)
    unknown = "best: no completed job returned or wrote a number"
    assert refusal(sweep, None, "minimize") == unknown
    sweep.end(1, value={"loss": 1, "acc": 2, "name": "x"})
    assert refusal(sweep, None, "minimize") == (
        "best: there are several metrics: loss, acc; pass metric='loss', or another"
    )
    assert refusal(sweep, "los", "minimize") == (
        "best: no completed job has a number for 'los' (did you mean loss?); there are: loss, acc"
    )
    assert refusal(sweep, "loss", "down") == (
        "argument direction must be one of minimize, maximize, none, not 'down'"
    )
    assert refusal(sweep, "", "minimize") == "argument metric must be a name, or none, not ''"
    with pytest.raises(SettingsError, match="column must be one of"):
        results_of(sweep.read()).select(["value.loss"]).best("loss", "minimize")
