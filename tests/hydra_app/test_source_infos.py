"""What a job's config says of its sources is the same whether it was validated once or anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hydra.conf import ConfigSourceInfo, HydraConf
from omegaconf import OmegaConf

from helpers.config_trees import describe, nodes
from hsm.hydra_app.source_infos import source_info

SOURCES = [("hydra.conf", "pkg", "hydra"), ("/a b/conf", "file", "main"), ("", "structured", "s")]


def config_with(make: Callable[..., Any]) -> Any:
    config = OmegaConf.structured({"hydra": HydraConf})
    infos = [make(path=path, schema=schema, provider=by) for path, schema, by in SOURCES]
    config.hydra.runtime.config_sources = infos
    for node in nodes(config):  # Making a node anew asks for more flags, which are then cached.
        node._invalidate_flags_cache()
    return config


def test_a_config_has_equal_nodes() -> None:
    wanted = describe(config_with(ConfigSourceInfo))

    for _ in range(2):
        assert describe(config_with(source_info)) == wanted


def test_no_two_configs_share_a_node() -> None:
    config = config_with(source_info)
    config.hydra.runtime.config_sources[0].path = "changed"

    assert config_with(source_info).hydra.runtime.config_sources[0].path == "hydra.conf"
