"""A user's class as a method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest

import study_methods
from helpers.studies import Sweep, space_of
from hsm.core.errors import SettingsError
from hsm.core.record.job import Ending, JobState
from hsm.core.study.proposer import ProposerFailed
from hsm.core.study.trials import Trials

pytestmark = pytest.mark.thorough


def sweep(folder: Path, name: str, *overrides: str, **options: Any) -> Sweep:
    given = {"method": f"study_methods.{name}", "n_trials": 3, **options}
    return Sweep(folder, space_of(*overrides), given, value=lambda point: float(point["x"]))


def method_of(trials: Trials) -> Any:
    return trials._proposer._method  # type: ignore[attr-defined]


def test_it_is_asked_and_told(tmp_path: Path) -> None:
    one = sweep(tmp_path, "Counting", "k=3")
    trials = one.open()
    one.run(trials)
    assert one.points() == [{"x": x, "name": "a b", "k": 3} for x in range(3)]
    assert method_of(trials).told == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert trials.optimization_results() == {
        "name": "Counting",
        "best_params": {"x": 0, "name": "a b"},
        "best_value": 0.0,
        "best_job": 0,
    }


def test_it_may_return_dicts_and_have_no_more_points(tmp_path: Path) -> None:
    one = sweep(tmp_path, "Dicts", n_trials=50)
    trials = one.open()
    one.run(trials)
    assert [point["x"] for point in one.points()] == [0, 1, 2, 3, 4]
    assert one.points()[0]["more"] == [1, {"a": None}]
    assert trials.why_over == "there are no more points"


def test_it_may_have_no_point_now(tmp_path: Path) -> None:
    one = sweep(tmp_path, "Sequential")
    trials = one.open()
    asked = trials.ask()
    assert asked is not None
    assert trials.ask() is None
    assert not trials.is_over
    job = one.submit(asked)
    one.end(trials, job)
    trials.ended(job)
    assert trials.ask() is not None


def test_failed_jobs_have_no_outcome(tmp_path: Path) -> None:
    one = sweep(tmp_path, "Counting")
    trials = one.open()
    job = one.submit(trials.ask())  # type: ignore[arg-type]
    one.end(trials, job, Ending(JobState.FAILED, exit_code=1))
    trials.ended(job)
    assert method_of(trials).told == [(0, None)]


def test_a_resumed_sweep_is_lived_through_again(tmp_path: Path) -> None:
    one = sweep(tmp_path, "Counting")
    trials = one.open()
    for _ in range(2):
        one.submit(trials.ask())  # type: ignore[arg-type]
    one.end(trials, one.jobs[0])
    one.restart()
    trials = one.open()
    assert method_of(trials).told == [(0, 0.0)]
    one.run(trials)
    assert [point["x"] for point in one.points()] == [0, 1, 2]
    assert method_of(trials).told == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_points_that_are_added_are_run_without_asking_it(tmp_path: Path) -> None:
    one = sweep(tmp_path, "Counting", n_trials=1)
    trials = one.open()
    trials.enqueue([{"x": 77}])
    one.run(trials)
    assert [point["x"] for point in one.points()] == [77, 0]
    assert method_of(trials).told == [(0, 0.0)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nothing", "cannot make study_methods.Nothing"),
        ("NeedsArguments", "missing 1 required positional argument"),
        ("WithoutTell", r"study_methods.WithoutTell has no method tell\(\)"),
    ],
)
def test_what_is_no_method_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        sweep(tmp_path, name).open()


def test_it_chooses_all_values_itself(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="chooses the values itself, so x can have only one"):
        sweep(tmp_path, "Counting", "x=1,2").open()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (3, "a pair"),
        ("ab", "a pair"),
        ((1, 2, 3), "a pair"),
        ((1, 5), "overrides such as"),
        ((1, ["x=1,2"]), "one point"),
        ((1, ["x"]), "it has no ="),
        ((1, [3]), "not a string"),
        ((1, {"x": object()}), "values that JSON can hold"),
        ((1, {1: 2}), "values that JSON can hold"),
        ((1, {"k": 4}), "without k, which the sweep sets"),
    ],
)
def test_wrong_answers_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any, message: str
) -> None:
    monkeypatch.setattr(study_methods.Answers, "answer", answer)
    trials = sweep(tmp_path, "Answers", "k=3").open()
    with pytest.raises(ProposerFailed, match=message):
        trials.ask()


def test_numbers_of_numpy_are_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_methods.Answers, "answer", (0, {"x": numpy.float32(0.5)}))
    asked = sweep(tmp_path, "Answers").open().ask()
    assert asked is not None
    assert asked.point == {"x": 0.5}
    assert type(asked.point["x"]) is float


@pytest.mark.parametrize("name", ["Raises", "RaisesLater"])
def test_what_it_raises_is_named(tmp_path: Path, name: str) -> None:
    one = sweep(tmp_path, name)
    with pytest.raises(ProposerFailed, match=r"raised ValueError: no idea"):
        one.run(one.open())
