"""Configs pickled as tuples are loaded as those that OmegaConf pickles, for every kind of node."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from helpers.config_kinds import CONFIGS, config_with_shared_parts, flagged_config, plain_config
from helpers.config_trees import describe
from hsm.hydra_app import config_pickle

#: Names that Hydra 1.3 needs, and of which Hydra 1.4 says that they will go.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")


def loaded(dumps: Callable[[Any], bytes], value: Any) -> Any:
    """What comes back, described, or why it cannot be pickled."""
    try:
        return describe(pickle.loads(dumps(value)))
    except TypeError as error:
        return str(error)


@pytest.mark.parametrize("make", CONFIGS, ids=lambda make: make.__name__)
def test_loaded_as_what_omegaconf_pickles(make: Callable[[], Any]) -> None:
    config = make()
    before = describe(config)

    assert loaded(config_pickle.dumps, config) == loaded(pickle.dumps, config)
    assert describe(config) == before


def test_a_whole_hydra_config_is_loaded_with_what_its_resolvers_have_returned(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.yaml").write_text("lr: 0.1\nname: run-${lr}\nat: ${now:%f}\n")
    with initialize_config_dir(version_base="1.3", config_dir=str(tmp_path)):
        config = compose("config", ["+a.b=[1,{c: 2}]"], return_hydra_config=True)
    at = config.at

    again = pickle.loads(config_pickle.dumps(config))

    assert describe(again) == loaded(pickle.dumps, config)
    assert again.at == at
    assert OmegaConf.to_yaml(again) == OmegaConf.to_yaml(config)


def test_it_is_pickled_as_tuples_unless_a_node_is_in_two_places() -> None:
    assert b"_flags_cache" not in config_pickle.dumps(flagged_config())
    assert len(config_pickle.dumps(plain_config())) < len(pickle.dumps(plain_config())) / 2

    again = pickle.loads(config_pickle.dumps(config_with_shared_parts()))
    assert again._get_node("whole") is again._get_node("a")


def test_configs_anywhere_in_a_value_and_all_else_are_pickled() -> None:
    config = plain_config()
    error = ValueError("e", {"config": config, "part": config.d, "same": config})

    again = pickle.loads(config_pickle.dumps([error, "text"]))

    held = again[0].args[1]
    assert again[1] == "text"
    assert held["config"] == config
    assert held["same"] is held["config"]
    assert held["part"]._get_parent() == config
