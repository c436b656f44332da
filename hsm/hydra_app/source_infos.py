"""What Hydra notes of each config source in a job's config, validated once for all jobs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from hydra.conf import ConfigSourceInfo
from omegaconf import DictConfig, OmegaConf

from hsm.hydra_app.config_copy import copy_config


def source_info(path: Any, schema: Any, provider: Any) -> DictConfig:
    """Stand in for Hydra's `ConfigSourceInfo`, with the node that OmegaConf would make of one.

    To make the nodes of three or four sources takes a third of a composition from a base.
    """
    return copy_config(_node(path, schema, provider))


@lru_cache(maxsize=64)
def _node(path: Any, schema: Any, provider: Any) -> DictConfig:
    node: DictConfig = OmegaConf.structured(ConfigSourceInfo(path, schema, provider))
    return node
