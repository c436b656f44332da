"""What may be said of a study, and what is refused."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

import optuna
import pytest

from hsm.core.errors import SettingsError, UnknownSetting
from hsm.core.settings.resolve import Direction
from hsm.core.space.choosing import is_study
from hsm.core.study.options import (
    STUDY_KEYS,
    StudyOptions,
    check_study,
    recorded_values,
)

pytestmark = pytest.mark.thorough

ORIGIN = "app.yaml"


class Upstream(Enum):
    minimize = 1
    maximize = 2


def check(**given: Any) -> StudyOptions:
    return check_study(given, ORIGIN)


def test_nothing_said_is_what_hydra_optuna_sweeper_does() -> None:
    options = check()
    assert options == StudyOptions()
    assert (options.n_trials, options.direction) == (20, (Direction.minimize,))
    assert options.record() == {"method": "optuna"}


def test_texts_of_a_command_line_are_read() -> None:
    options = check(
        n_trials="7",
        n_jobs="2",
        direction="minimize,maximize",
        objective="loss, acc",
        seed="3",
        max_failure_rate="0.5",
        max_time="2h",
        enqueue_default="true",
        enqueue=["lr=0.1 model=svm"],
        repeat={"seed": "range(3)"},
        warm_start="old",
        constraints="memory <= 8",
    )
    assert (options.n_trials, options.n_jobs, options.seed) == (7, 2, 3)
    assert options.direction == (Direction.minimize, Direction.maximize)
    assert options.metric == ("loss", "acc")
    assert options.max_time == 7200
    assert options.enqueue == ({"lr": 0.1, "model": "svm"},)
    assert (options.enqueue_default, options.warm_start) == (True, ("old",))
    assert options.repeat == {"seed": [0, 1, 2]}
    assert options.repeats == 3
    [constraint] = options.constraints
    assert str(constraint) == "memory <= 8.0"
    assert (constraint.violation(9), constraint.violation(8)) == (1, 0)


@pytest.mark.parametrize(
    ("given", "direction"),
    [
        (Upstream.maximize, ("maximize",)),
        ([Upstream.minimize, "maximize"], ("minimize", "maximize")),
        ("[maximize]", ("maximize",)),
    ],
)
def test_directions_may_be_upstreams(given: Any, direction: tuple[str, ...]) -> None:
    assert check(direction=given).direction == direction


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_trials": 0}, "n_trials must be a whole number of at least 1, not 0"),
        ({"n_trials": "many"}, "n_trials must be a whole number of at least 1, not 'many'"),
        ({"n_trials": 2.0}, "a whole number of at least 1"),
        ({"n_trials": True}, "a whole number of at least 1"),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295"),
        ({"direction": "minimise"}, "did you mean minimize?"),
        ({"direction": []}, "direction must be"),
        ({"metric": ["a", "a"], "direction": ["minimize"] * 2}, "different metrics"),
        ({"objective": ["a", "b"]}, "as many metrics as directions"),
        ({"metric": "a", "direction": ["minimize", "maximize"]}, "1 for metric, and 2 for"),
        ({"metric": "a", "objective": "b"}, "are the same thing, and differ"),
        ({"max_failure_rate": 1.5}, "a number from 0 to 1"),
        ({"max_failure_rate": "nan"}, "a number from 0 to 1"),
        ({"max_time": 0}, "a number of seconds above 0"),
        ({"max_time": "soon"}, "a number of seconds above 0"),
        ({"target": "inf"}, "a finite number"),
        ({"target": 1, "direction": ["minimize"] * 2}, "target is for one objective"),
        ({"pruner": "median", "direction": ["minimize"] * 2}, "Optuna prunes for one objective"),
        ({"pruner": "median", "repeat": {"seed": [1, 2]}}, "the pruner can only be wilcoxon"),
        ({"prune": "kill"}, "one of ask, stop"),
        ({"duplicates": "use"}, "one of run, reuse"),
        ({"enqueue": 3}, "a list of points"),
        ({"enqueue": [{}]}, "a list of points"),
        ({"enqueue": ["lr"]}, "parameters such as lr=0.1"),
        ({"constraints": ["memory < 8"]}, "memory <= 8"),
        ({"constraints": ["memory <= big"]}, "memory <= 8"),
        ({"repeat": [1]}, "a mapping of parameters"),
        ({"sampler": {"seed": 1}}, "a mapping with the key name or _target_"),
        ({"sampler": 3}, "a name, or a mapping"),
        ({"warm_start": [1]}, "a text, or a list of texts"),
        ({"shuffle": True}, "shuffle does not go with a study"),
        ({"filter": "lr > 1"}, "filter does not go with a study"),
        ({"max_runs": 3}, "n_trials says how many"),
        ({"points": [{"a": 1}]}, "give points to run first as enqueue"),
        ({"method": "random"}, "optuna, or the dotted path of a class"),
        ({"method": "a.b.C", "storage": "sqlite:///a.db"}, "storage is for method=optuna"),
    ],
)
def test_bad_values_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        check_study(given, ORIGIN)
    assert message in str(error.value)
    assert ORIGIN in str(error.value)


def test_unknown_keys_are_refused_with_the_near_one() -> None:
    with pytest.raises(UnknownSetting, match="did you mean sampler"):
        check(smapler="tpe")


def test_an_origin_may_be_known_for_each_key() -> None:
    with pytest.raises(SettingsError, match=r"^--n-trials must be .*, not 0$"):
        check_study({"n_trials": "0"}, {"n_trials": "--n-trials"})
    with pytest.raises(SettingsError, match=r"^--objective: there must be as many"):
        check_study({"objective": "a,b"}, {"objective": "--objective"})


def test_what_does_not_count_is_as_if_it_were_not_given() -> None:
    given = {"shuffle": False, "filter": "", "sampler": {}, "pruner": {}, "seed": "null"}
    assert check(**given) == StudyOptions()
    assert check(pruner="nop") == StudyOptions()


def test_wilcoxon_goes_with_repeats_however_it_is_written() -> None:
    for pruner in (
        "wilcoxon",
        {"name": "wilcoxon", "p_threshold": 0.1},
        {"_target_": "optuna.pruners.WilcoxonPruner"},
    ):
        assert check(pruner=pruner, repeat={"seed": [1, 2]}).prunes_repeats


def test_a_record_is_read_back() -> None:
    options = check(
        n_trials=3,
        direction=["minimize", "maximize"],
        metric=["a", "b"],
        sampler={"name": "nsgaii", "population_size": 4},
        enqueue=[{"x": 1}],
        repeat={"seed": [1, 2]},
        constraints=["m <= 0.1", "n >= -2"],
        prune="stop",
        max_time="90s",
        seed=4,
    )
    record = json.loads(json.dumps(options.record()))
    assert check_study(recorded_values({**record, "space": {}}), "journal") == options
    assert set(record) <= set(STUDY_KEYS)


def test_a_record_has_neither_passwords_nor_objects() -> None:
    options = check(storage="postgresql://me:secret@host/db", pruner=optuna.pruners.MedianPruner())
    record = options.record()
    assert "secret" not in json.dumps(record)
    assert record["storage"] == "postgresql://me:***@host/db"
    assert "MedianPruner" in json.dumps(record["pruner"])
    assert recorded_values(record) == {"method": "optuna"}
    assert check(storage="sqlite:///a.db").record()["storage"] == "sqlite:///a.db"


def test_methods_that_propose() -> None:
    assert [is_study(each) for each in ("optuna", "my.Method", "random", "grid", None)] == [
        *(True, True),
        *(False, False, False),
    ]
