"""A structural copy of a config is what `copy.deepcopy` gives, for every kind of node."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from helpers.config_kinds import CONFIGS
from helpers.config_trees import describe, nodes
from hsm.hydra_app.config_copy import copy_config

#: Names that Hydra 1.3 needs, and of which Hydra 1.4 says that they will go.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")


@pytest.mark.parametrize("make", CONFIGS, ids=lambda make: make.__name__)
def test_copy_equals_a_deep_copy(make: Callable[[], Any]) -> None:
    config = make()
    before = describe(config)

    duplicate = copy_config(config)

    assert describe(duplicate) == describe(copy.deepcopy(config))
    assert describe(config) == before


def test_copy_of_a_whole_hydra_config_equals_a_deep_copy(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("lr: 0.1\nname: run-${lr}\n")
    with initialize_config_dir(version_base="1.3", config_dir=str(tmp_path)):
        config = compose("config", ["+a.b=[1,{c: 2}]"], return_hydra_config=True)

    duplicate = copy_config(config)

    assert describe(duplicate) == describe(copy.deepcopy(config))
    assert OmegaConf.to_yaml(duplicate) == OmegaConf.to_yaml(config)


@pytest.mark.parametrize("make", CONFIGS, ids=lambda make: make.__name__)
def test_changing_a_copy_leaves_the_original_as_it_was(make: Callable[[], Any]) -> None:
    config = make()
    before = describe(config)
    duplicate = copy_config(config)

    for node in nodes(duplicate):
        node._set_flag(["struct", "readonly"], [False, False])
        node._metadata.resolver_cache["any"]["key"] = 1
    for container in filter(OmegaConf.is_config, nodes(duplicate)):
        if isinstance(container._content, (dict, list)):
            container._content.clear()

    assert describe(config) == before
