"""Nodes of hydra.sweeper: what a study is given of them, and the objects that they name."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from omegaconf import OmegaConf

from hsm.core.errors import SettingsError
from hsm.hydra_app.study_nodes import function, made, node

#: Hydra 1.4 warns of targets outside of Optuna, of which the app has to say that they are trusted.
pytestmark = pytest.mark.filterwarnings("ignore:hydra.utils.instantiate")


@pytest.fixture(autouse=True)
def hydras_own_state() -> Iterator[None]:
    """Hydra's singletons are, afterwards, what they were before."""
    Plugins.instance()
    state = copy.deepcopy(Singleton.get_state())
    yield
    Singleton.set_state(state)


@pytest.mark.parametrize(
    ("written", "given"),
    [
        (None, None),
        ({}, None),
        ("gp", "gp"),
        ({"_target_": "optuna.samplers.TPESampler", "seed": 3}, {"name": "tpe", "seed": 3}),
        ({"_target_": "optuna.samplers.GridSampler", "_partial_": True}, {"name": "grid"}),
        ({"seed": 3}, {"name": "tpe", "seed": 3}),
        ({"name": "cmaes"}, {"name": "cmaes"}),
        ({"_target_": "mine.Sampler", "n": 1}, {"_target_": "mine.Sampler", "n": 1}),
    ],
)
def test_samplers(written: Any, given: Any) -> None:
    value = OmegaConf.create(written) if isinstance(written, dict) else written
    assert node(value, "sampler") == given


def test_the_pruner_that_prunes_nothing_is_none() -> None:
    assert node({"_target_": "optuna.pruners.NopPruner"}, "pruner") is None
    found = node(
        {"_target_": "optuna.pruners.SuccessiveHalvingPruner", "min_resource": 2}, "pruner"
    )
    assert found == {"name": "asha", "min_resource": 2}


def test_a_sampler_that_optuna_no_longer_has() -> None:
    with pytest.raises(SettingsError, match=r"hydra\.sweeper\.sampler: .*motpe.*use tpe"):
        node({"_target_": "optuna.samplers.MOTPESampler"}, "sampler")


@dataclass
class TheirTpe:
    _target_: str = "optuna.samplers.TPESampler"
    seed: int | None = None
    consider_endpoints: bool = False
    constant_liar: bool = False


def test_what_another_packages_node_has_by_default_is_not_passed_on() -> None:
    store = ConfigStore.instance()
    store.repo["hydra"]["sweeper"].pop("sampler", None)
    store.store("tpe", TheirTpe, "hydra/sweeper/sampler", provider="optuna_sweeper")
    theirs = OmegaConf.structured(TheirTpe(seed=3))
    assert node(theirs, "sampler") == {"name": "tpe", "seed": 3}
    theirs.constant_liar = True
    assert node(theirs, "sampler") == {"name": "tpe", "seed": 3, "constant_liar": True}


def test_objects_are_made_of_nodes_however_deep_they_are() -> None:
    found = made(
        {"name": "x", "a": [{"_target_": "fractions.Fraction", "numerator": 3}]}, "sampler"
    )
    assert found == {"name": "x", "a": [3]}
    assert made({"_target_": "fractions.Fraction", "numerator": 3}, "storage") == 3
    assert made("sqlite:///x.db", "storage") == "sqlite:///x.db"


def test_a_function_by_its_path_or_as_a_node() -> None:
    assert function("math.sqrt", "custom_search_space")(4) == 2
    power = {"_target_": "math.pow", "_partial_": True, "_args_": [2]}
    assert function(power, "custom_search_space")(3) == 8


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("nowhere.f", "nowhere"),
        ({"_target_": "fractions.Fraction", "nope": 3}, "nope"),
        ({"_target_": "fractions.Fraction", "numerator": 3}, "the dotted path of a function"),
    ],
)
def test_what_cannot_be_made_is_refused(value: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as raised:
        function(value, "custom_search_space")
    assert "hydra.sweeper.custom_search_space" in str(raised.value)
    assert "\n" not in str(raised.value)
