"""By what a sweep's jobs are ranked, as its launcher recorded it."""

from __future__ import annotations

from typing import Any

import pytest

from hsm.core.results.goal import Constraint, Goal, Objective
from hsm.core.settings.resolve import Direction

LOWEST, HIGHEST = Direction.minimize, Direction.maximize


@pytest.mark.parametrize(
    ("facts", "goal"),
    [
        ({}, Goal()),
        ({"settings": {"metric": "loss", "direction": "minimize"}}, Goal("loss", LOWEST)),
        ({"chosen": {"method": "random", "n_trials": 3}}, Goal()),
        ({"chosen": {"method": "optuna"}}, Goal(None, LOWEST, is_told=True)),
        ({"chosen": {"method": "my.Method"}}, Goal(None, LOWEST, is_told=True)),
        ({"chosen": {"space": {}, "metric": "acc"}}, Goal("acc", LOWEST, is_told=True)),
        (
            {"chosen": {"method": "optuna", "metric": ["acc"], "direction": ["maximize"]}},
            Goal("acc", HIGHEST, is_told=True),
        ),
        (
            {
                "settings": {"metric": "loss", "direction": "minimize"},
                "chosen": {"method": "optuna", "direction": "maximize"},
            },
            Goal("loss", HIGHEST, is_told=True),
        ),
        (
            {
                "settings": {"metric": "loss", "direction": "minimize"},
                "chosen": {"method": "random", "seed": 1},
            },
            Goal("loss", LOWEST),
        ),
    ],
)
def test_a_study_ranks_by_what_it_is_told(facts: dict[str, Any], goal: Goal) -> None:
    assert Goal.recorded(facts) == goal


def several(**chosen: Any) -> Goal:
    return Goal.recorded({"chosen": {"method": "optuna", **chosen}})


def test_several_objectives_have_names_or_places() -> None:
    ends = ["minimize", "maximize"]
    named = several(direction=ends, metric=["loss", "acc"])
    assert named.several == (Objective("loss", LOWEST), Objective("acc", HIGHEST))
    assert (named.metric, named.direction, named.names) == (None, None, ("loss", "acc"))
    assert several(direction=ends).names == ("0", "1")
    assert several(direction=ends, metric=["loss"]).names == ("loss", "1")


def test_one_of_several_objectives_may_be_asked_for() -> None:
    goal = several(direction=["minimize", "maximize"], metric=["loss", "acc"])
    assert goal.given({"metric": "acc"}) == Goal("acc", HIGHEST, is_told=True)
    assert goal.given({"metric": "acc", "direction": LOWEST}) == Goal("acc", LOWEST, is_told=True)
    assert goal.given({"metric": "size"}) == Goal("size", is_told=True)
    assert goal.given({}) == goal


def test_constraints_are_read_and_nonsense_is_none() -> None:
    texts = ["memory <= 8.5", "val.acc>=-1", "x < 3", 3, "a<=b"]
    limits = Goal.recorded({"chosen": {"method": "optuna", "constraints": texts}}).constraints
    assert limits == (Constraint("memory", True, 8.5), Constraint("val.acc", False, -1.0))
    assert [limits[0].is_broken_by(value) for value in (8, 8.5, 9)] == [False, False, True]
    assert [limits[1].is_broken_by(value) for value in (-2, -1, 0)] == [True, False, False]


@pytest.mark.parametrize(
    "chosen",
    [
        None,
        3,
        {"method": 3},
        {"method": "grid", "direction": ["up", "minimize"]},
        {"method": "grid", "metric": {"a": 1}, "direction": 3},
    ],
)
def test_records_that_make_no_sense_are_no_goal(chosen: object) -> None:
    assert Goal.recorded({"chosen": chosen, "settings": {"metric": 3}}) == Goal()
    assert Goal.recorded({"chosen": chosen, "settings": 3}) == Goal()
