"""Samplers, pruners and storages, in all the ways in which they may be written."""

from __future__ import annotations

import functools
import logging
import warnings
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest

from helpers.studies import SPACE, Died, Sweep, space_of, told
from hsm.core.errors import SettingsError
from hsm.core.study import optuna_check, optuna_parts
from hsm.core.study.proposer import ProposerFailed
from hsm.core.study.trials import Trials

pytestmark = pytest.mark.thorough

HAS_CONSTRAINTS = hasattr(optuna.trial.Trial, "set_constraint")


def sweep(folder: Path, *overrides: str, **options: Any) -> Sweep:
    return Sweep(folder, space_of(*(overrides or SPACE)), {"n_trials": 4, "seed": 1, **options})


def study_of(trials: Trials) -> optuna.Study:
    study: optuna.Study = trials._proposer._study  # type: ignore[attr-defined]
    return study


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "TPESampler"),
        ("random", "RandomSampler"),
        ({"name": "tpe", "n_startup_trials": 3}, "TPESampler"),
        ({"_target_": "optuna.samplers.CmaEsSampler", "popsize": 5}, "CmaEsSampler"),
        ("optuna.samplers.RandomSampler", "RandomSampler"),
        ("study_methods.make_random", "RandomSampler"),
        (optuna.samplers.RandomSampler(), "RandomSampler"),
        (optuna.samplers.NSGAIISampler, "NSGAIISampler"),
        (functools.partial(optuna.samplers.TPESampler, n_startup_trials=2), "TPESampler"),
        (
            {"name": "qmc", "independent_sampler": {"name": "random", "seed": 3}},
            "QMCSampler",
        ),
    ],
)
def test_samplers(tmp_path: Path, given: Any, name: str) -> None:
    trials = sweep(tmp_path, sampler=given).open()
    assert type(study_of(trials).sampler).__name__ == name
    assert trials.ask() is not None


def test_of_several_objectives_optunas_choice_is_another_one(tmp_path: Path) -> None:
    trials = sweep(tmp_path, direction=["minimize", "minimize"]).open()
    assert type(study_of(trials).sampler).__name__ == "NSGAIISampler"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "NopPruner"),
        ("median", "MedianPruner"),
        ("asha", "SuccessiveHalvingPruner"),
        ("hyperband", "HyperbandPruner"),
        ({"name": "patient", "wrapped_pruner": "median", "patience": 2}, "PatientPruner"),
        ({"name": "patient", "patience": 2, "wrapped_pruner": {"name": "asha"}}, "PatientPruner"),
        ({"name": "patient", "patience": 2}, "PatientPruner"),
        ({"name": "threshold", "upper": 3.0}, "ThresholdPruner"),
        ({"name": "percentile", "percentile": 25.0}, "PercentilePruner"),
        ("wilcoxon", "WilcoxonPruner"),
        ({"_target_": "optuna.pruners.MedianPruner", "n_warmup_steps": 2}, "MedianPruner"),
        (optuna.pruners.MedianPruner(), "MedianPruner"),
    ],
)
def test_pruners(tmp_path: Path, given: Any, name: str) -> None:
    trials = sweep(tmp_path, pruner=given).open()
    assert type(study_of(trials).pruner).__name__ == name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sampler": "tpee"}, "did you mean tpe?"),
        ({"sampler": "nope"}, "one of tpe, random, cmaes"),
        ({"sampler": {"name": "tpe", "n_startup_trails": 3}}, "did you mean n_startup_trials?"),
        ({"sampler": {"_target_": "optuna.samplers.Nope"}}, "cannot import the sampler"),
        ({"sampler": "no_such_module.Sampler"}, "there is no module no_such_module"),
        ({"sampler": "study_methods.make_nothing"}, "makes no sampler of Optuna's"),
        ({"sampler": {"_target_": "optuna.samplers.MOTPESampler"}}, "use tpe instead"),
        ({"sampler": object()}, "one of tpe"),
        ({"sampler": "cmaes", "direction": ["minimize"] * 2}, "cmaes is for one objective"),
        ({"sampler": {"name": "nsgaii", "population_size": 1}}, "cannot make the sampler"),
        ({"sampler": "grid"}, "grid needs values that can be listed, and x"),
        ({"sampler": "bruteforce"}, "bruteforce needs values that can be listed, and x"),
        ({"pruner": "medain"}, "did you mean median?"),
        ({"pruner": {"name": "patient"}}, "cannot make the pruner PatientPruner"),
        ({"pruner": "threshold"}, "cannot make the pruner ThresholdPruner"),
        ({"pruner": {"name": "median", "steps": 3}}, "MedianPruner has no steps"),
        ({"pruner": optuna.samplers.RandomSampler()}, "one of median"),
    ],
)
def test_what_cannot_be_made_is_refused(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    one = sweep(tmp_path, **given)
    with pytest.raises(SettingsError) as error:
        one.open()
    assert message in str(error.value)
    assert not one.paths.study.exists()


def test_a_space_without_anything_to_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is nothing to search"):
        sweep(tmp_path, "k=3").open()


@pytest.mark.parametrize(
    ("sampler", "package"), [("cmaes", "cmaes"), ("qmc", "scipy"), ("gp", "torch")]
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str, package: str
) -> None:
    monkeypatch.setattr(
        optuna_parts, "find_spec", lambda name: None if name == package else find_spec(name) or True
    )
    with pytest.raises(SettingsError, match=f"needs the package {package}: pip install"):
        sweep(tmp_path, sampler=sampler).open()


@pytest.mark.parametrize("version", ["4.8.0", "6.0.0", "3.6", ""])
def test_another_optuna_is_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    def installed(name: str) -> str:
        if not version:
            raise PackageNotFoundError(name)
        return version

    monkeypatch.setattr(optuna_check, "version", installed)
    with pytest.raises(SettingsError, match=r"pip install 'hpc-sweep-manager\[optuna\]'"):
        optuna_check.check_optuna("--method")


@pytest.mark.parametrize("version", ["4.9.0", "4.10.1", "5.0.0", "5.12.0rc1"])
def test_each_optuna_from_4_9_to_5_is_taken(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(optuna_check, "version", lambda name: version)
    optuna_check.check_optuna("--method")


UPSTREAM_TPE = {
    "_target_": "optuna.samplers.TPESampler",
    "seed": 7,
    "consider_prior": None,
    "prior_weight": None,
    "consider_magic_clip": None,
    "consider_endpoints": None,
    "n_startup_trials": 10,
    "n_ei_candidates": 24,
    "multivariate": False,
    "group": False,
    "warn_independent_sampling": None,
    "constant_liar": False,
    "constraints_func": None,
}


def test_defaults_of_hydra_optuna_sweepers_nodes_are_not_passed_on(tmp_path: Path) -> None:
    """Its node says constant_liar=False, which undoes a better default of Optuna 5."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trials = sweep(tmp_path, sampler=dict(UPSTREAM_TPE, n_startup_trials=4)).open()
    sampler: Any = study_of(trials).sampler
    plain: Any = optuna.samplers.TPESampler()
    assert sampler._constant_liar == plain._constant_liar
    assert sampler._n_startup_trials == 4
    chosen = optuna_parts.Part("sampler", {"name": "tpe", "constant_liar": False}, "app.yaml")
    assert chosen.keywords == {"constant_liar": False}


@pytest.mark.parametrize("name", ["nsgaii", "nsgaiii"])
def test_factories_of_hydra_optuna_sweeper_are_known(tmp_path: Path, name: str) -> None:
    target = f"hydra_plugins.hydra_optuna_sweeper._impl.create_{name}_sampler"
    node = {"_target_": target, "population_size": 4, "mutation_prob": None}
    if name == "nsgaiii":
        node["reference_points"] = [[0.0, 1.0], [1.0, 0.0]]
    trials = sweep(tmp_path, sampler=node, direction=["minimize"] * 2).open()
    assert type(study_of(trials).sampler).__name__.lower() == f"{name}sampler"


def test_the_seed_of_a_sampler_is_that_of_the_study(tmp_path: Path) -> None:
    points = []
    for number, sampler in enumerate(
        [
            {"name": "random", "seed": 7},
            {"name": "random", "seed": 7},
            optuna.samplers.RandomSampler(seed=7),
            optuna.samplers.RandomSampler(seed=7),
        ]
    ):
        one = sweep(tmp_path / str(number), sampler=sampler, seed=None)
        one.run(one.open())
        points.append(one.points())
    assert points[0] == points[1]
    assert points[2] == points[3]


# --- where it is kept ---


def test_a_url_is_taken_and_others_trials_are_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    other = optuna.create_study(storage=url, study_name="shared")
    other.add_trial(
        optuna.trial.create_trial(
            value=5.0,
            params={"x": 0.1},
            distributions={"x": optuna.distributions.FloatDistribution(-1, 1)},
        )
    )
    running = other.ask()
    one = sweep(tmp_path / "sweep", storage=url, study_name="shared", sampler="tpe")
    with pytest.raises(Died):
        one.run(one.open(), lambda at, num: (at, num) == ("submitted", 2))
    one.restart()
    trials = one.open()
    one.run(trials)
    assert not one.paths.study.exists()
    assert told(trials) == [
        *(("None", "COMPLETE"), ("None", "RUNNING")),
        *((f"s1/{index}", "COMPLETE") for index in range(4)),
    ]
    assert running.number == 1


def test_a_point_that_somebody_enqueued_in_the_study_is_run(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    other = optuna.create_study(storage=url, study_name="shared")
    other.enqueue_trial({"x": 0.125})
    one = sweep(tmp_path / "sweep", storage=url, study_name="shared", sampler="random")
    one.run(one.open())
    assert one.points()[0]["x"] == 0.125
    assert len(one.jobs) == 4


def test_a_storage_may_be_a_node_or_an_object(tmp_path: Path) -> None:
    node = {"_target_": "optuna.storages.InMemoryStorage"}
    for storage in (node, optuna.storages.InMemoryStorage()):
        one = sweep(tmp_path / str(id(storage)), storage=storage)
        one.run(one.open())
        assert not one.paths.study.exists()


@pytest.mark.parametrize("storage", ["nope", "nope://x", {"_target_": "optuna.storages.Nope"}])
def test_a_storage_that_cannot_be_opened_is_refused(tmp_path: Path, storage: Any) -> None:
    with pytest.raises(SettingsError, match="cannot"):
        sweep(tmp_path, storage=storage).open()


def test_a_study_with_another_direction_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(storage=url, study_name="shared", direction="maximize")
    with pytest.raises(SettingsError, match="has the direction maximize, not minimize"):
        sweep(tmp_path / "sweep", storage=url, study_name="shared").open()


def test_the_file_is_what_optunas_own_backend_reads(tmp_path: Path) -> None:
    one = sweep(tmp_path, sampler="tpe")
    one.run(one.open())
    backend = optuna.storages.journal.JournalFileBackend(str(one.paths.study))
    study = optuna.load_study(study_name="study", storage=optuna.storages.JournalStorage(backend))
    assert [trial.value for trial in study.trials] == [job.value for job in one.jobs.values()]
    # What somebody else adds to it, such as optuna-dashboard, is kept.
    study.set_user_attr("note", "mine")
    study.enqueue_trial({"x": 0.5})
    one.options["n_trials"] = 6
    trials = one.open()
    one.run(trials)
    assert study_of(trials).user_attrs["note"] == "mine"
    assert one.points()[4]["x"] == 0.5


def test_a_new_sweep_leaves_an_older_file_alone(tmp_path: Path) -> None:
    one = sweep(tmp_path)
    one.run(one.open())
    data = one.paths.study.read_bytes()
    again = sweep(tmp_path)
    again.run(again.open())
    assert one.paths.study.with_name("optuna.journal.1").read_bytes() == data


# --- constraints ---


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_constraints_are_passed_on_and_decide_what_is_best(tmp_path: Path, sampler: str) -> None:
    one = sweep(tmp_path, "x=interval(-1, 1)", sampler=sampler, n_trials=12)
    one.options.update(metric="loss", constraints=["memory <= 0.5"])
    one.value = lambda point: {"loss": -float(point["x"]), "memory": float(point["x"])}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trials = one.open()
        one.run(trials)
    [best] = trials.best()
    allowed = [point["x"] for point in one.points() if point["x"] <= 0.5]
    assert best.point["x"] == max(allowed)
    frozen: Any = study_of(trials).trials[0]
    value = one.points()[0]["x"] - 0.5
    if HAS_CONSTRAINTS:
        assert frozen.constraints == {"memory <= 0.5": value}
    else:
        assert frozen.system_attrs["constraints"] == [value]


def test_samplers_without_constraints_say_so(tmp_path: Path) -> None:
    trials = sweep(tmp_path, sampler="random", constraints=["memory <= 8"]).open()
    assert "RandomSampler does not use constraints" in trials.notes[0]


def test_a_constraint_without_a_number_fails_its_job(tmp_path: Path) -> None:
    one = sweep(tmp_path, metric="loss", constraints=["memory <= 8"])
    one.value = lambda point: {"loss": 1.0}
    trials = one.open()
    one.run(trials)
    reason = "it has no metric 'memory', which a constraint is for"
    assert {t.user_attrs["hsm_reason"] for t in study_of(trials).trials} == {reason}
    assert one.jobs[0].outcome is not None
    assert one.jobs[0].outcome.reason == reason


# --- custom spaces ---


def test_a_custom_space_may_suggest_more(tmp_path: Path) -> None:
    def custom(trial: optuna.Trial) -> None:
        if trial.params["kind"] == "a":
            trial.suggest_float("a.depth", 0, 1)
        else:
            trial.suggest_int("b.width", 1, 9)
        trial.set_user_attr("mine", 1)

    whole, killed = (
        sweep(tmp_path / name, "kind=a,b", sampler="tpe", n_trials=8, custom_search_space=custom)
        for name in ("whole", "killed")
    )
    trials = whole.open()
    whole.run(trials)
    assert {frozenset(point) for point in whole.points()} == {
        *(frozenset({"kind", "a.depth"}), frozenset({"kind", "b.width"})),
    }
    assert study_of(trials).trials[0].user_attrs["mine"] == 1
    for number in (2, 5):
        with pytest.raises(Died):
            killed.run(killed.open(), lambda at, num, n=number: (at, num) == ("submitted", n))  # type: ignore[misc]
        killed.restart()
    killed.paths.study.unlink()
    killed.run(killed.open())
    assert killed.points() == whole.points()


def test_a_custom_space_does_not_suggest_what_is_fixed(tmp_path: Path) -> None:
    one = sweep(tmp_path, "k=3", custom_search_space=lambda trial: trial.suggest_int("k", 1, 3))
    with pytest.raises(SettingsError, match="custom_search_space suggests k"):
        one.open().ask()


def test_what_a_custom_space_raises_is_named(tmp_path: Path) -> None:
    def custom(trial: optuna.Trial) -> None:
        raise KeyError("depth")

    with pytest.raises(ProposerFailed, match="custom_search_space raised KeyError: 'depth'"):
        sweep(tmp_path, custom_search_space=custom).open().ask()


# --- Optuna's own words ---


def test_optuna_says_nothing_of_itself(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("optuna")
    before = logger.level, logger.propagate, list(logger.handlers)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for number, sampler in enumerate(["qmc", "nsgaiii", "cmaes", "bruteforce", "tpe"]):
            one = sweep(tmp_path / str(number), "x=1,2,3", "y=1,2,3,4", sampler=sampler)
            trials = one.open()
            one.run(trials)
            trials.close()
    assert [str(each.message) for each in said] == []
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_cmaes_says_what_it_does_not_search(tmp_path: Path) -> None:
    trials = sweep(tmp_path, sampler="cmaes").open()
    assert trials.notes == ["cmaes searches numbers alone: kind is drawn at random"]


def test_a_small_space_says_how_many_trials_there_are(tmp_path: Path) -> None:
    trials = sweep(tmp_path, "x=1,2,3", sampler="grid").open()
    assert trials.notes == ["the space has 3 points: n_trials is 3, not 4"]
