"""The configs behind ``hydra/sweeper=hsm`` and ``hsm_optuna``, beside those of another package."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.hsm_sweeper import _registration
from hydra_plugins.hsm_sweeper._structured import HsmOptunaSweeperConf, HsmSweeperConf

STUDY = "hydra/sweeper=hsm_optuna"


@pytest.fixture(autouse=True)
def hydras_own_state() -> Iterator[None]:
    """Hydra's singletons are, afterwards, what they were before."""
    Plugins.instance()
    state = copy.deepcopy(Singleton.get_state())
    ConfigStore.instance().repo["hydra"]["sweeper"].pop("sampler", None)  # somebody else's
    yield
    Singleton.set_state(state)


def sweeper(*overrides: str) -> DictConfig:
    with warnings.catch_warnings():
        # Hydra 1.3 warns if version_base is left out, Hydra 1.4 if it is given.
        warnings.simplefilter("ignore")
        with initialize(config_path=None):
            config = compose(overrides=list(overrides), return_hydra_config=True)
    composed: DictConfig = config.hydra.sweeper
    return composed


def node(kind: str, *overrides: str) -> Any:
    return OmegaConf.to_container(sweeper(STUDY, *overrides)[kind])


def test_the_built_in_values() -> None:
    config = sweeper(STUDY)
    assert config.method == "optuna"
    assert config.sampler == {"_target_": "optuna.samplers.TPESampler"}
    assert config.pruner == {}
    others = {key: value for key, value in config.items() if value not in (None, {}, False)}
    assert others.keys() == {"_target_", "method", "sampler"}
    assert sweeper("hydra/sweeper=hsm").method == "grid"


@pytest.mark.parametrize("option", _registration.OPTIONS["hydra/sweeper/sampler"])
def test_each_sampler_is_a_class_of_optunas_that_takes_any_keyword(option: str) -> None:
    import optuna

    found = node("sampler", f"hydra/sweeper/sampler={option}", "hydra.sweeper.sampler.n=1")
    module, _, name = found.pop("_target_").rpartition(".")
    assert module == "optuna.samplers"
    assert issubclass(getattr(optuna.samplers, name), optuna.samplers.BaseSampler)
    assert found == {"n": 1}


@pytest.mark.parametrize("option", _registration.OPTIONS["hydra/sweeper/pruner"])
def test_each_pruner_is_a_class_of_optunas(option: str) -> None:
    import optuna

    found = node("pruner", f"hydra/sweeper/pruner={option}")
    if option == "none":
        assert found == {}
        return
    name = found["_target_"].removeprefix("optuna.pruners.")
    assert issubclass(getattr(optuna.pruners, name), optuna.pruners.BasePruner)


def test_names_in_place_of_nodes() -> None:
    config = sweeper(STUDY, "hydra.sweeper.sampler=gp", "hydra.sweeper.pruner=asha")
    assert (config.sampler, config.pruner) == ("gp", "asha")


@pytest.mark.parametrize(
    "override",
    ["hydra.sweeper.nope=1", "hydra.sweeper.max_batch_size=2", "hydra/sweeper/sampler=x"],
)
def test_unknown_keys_and_options_are_refused(override: str) -> None:
    with pytest.raises(HydraException):
        sweeper(STUDY, override)


def test_the_docstrings_name_every_key() -> None:
    for conf in (HsmSweeperConf, HsmOptunaSweeperConf):
        # Python 3.13 takes the indentation of docstrings away.
        docs = "\n".join(each.__doc__ or "" for each in conf.__mro__)
        named = {line.strip().partition(": ")[0] for line in docs.splitlines()}
        assert conf.__dataclass_fields__.keys() - {"_target_", "_recursive_", "defaults"} <= named


@dataclass
class TheirSampler:
    _target_: str = "optuna.samplers.TPESampler"
    seed: int | None = None
    n_startup_trials: int = 7


def test_what_another_package_has_stored_stays() -> None:
    store = ConfigStore.instance()
    store.store("tpe", TheirSampler, "hydra/sweeper/sampler", provider="theirs")
    assert node("sampler") == {
        "_target_": "optuna.samplers.TPESampler",
        "seed": None,
        "n_startup_trials": 7,
    }
    assert node("sampler", "hydra/sweeper/sampler=random").keys() == {"_target_"}
    # Open, as hsm's own: the installed Optuna may know more.
    found = node("sampler", "hydra.sweeper.sampler.multivariate=true")
    assert found["multivariate"] is True


def test_nothing_is_there_to_be_replaced_while_plugins_are_imported() -> None:
    groups = ConfigStore.instance().repo["hydra"]["sweeper"]
    _registration.register()
    assert "sampler" not in groups
    assert {"hsm.yaml", "hsm_optuna.yaml"} <= groups.keys()
    _registration.register_parts()
    assert groups["sampler"].keys() >= {"tpe.yaml", "gp.yaml"}


def test_an_app_imports_next_to_nothing() -> None:
    code = """
        import sys
        from hydra.core.plugins import Plugins
        Plugins.instance()
        assert "hydra_plugins.hsm_sweeper.config" in sys.modules
        loaded = {name.partition(".")[0] for name in sys.modules}
        print(sorted(loaded & {"optuna", "hsm", "numpy", "scipy", "psutil", "rich"}))
    """
    words = [sys.executable, "-c", "\n".join(line[8:] for line in code.splitlines())]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "[]\n"
