"""Makes the sweeper's config known to Hydra, at next to no cost: see the launcher's.

Apart from `config`, because Hydra 1.3 runs the modules that it discovers anew at every scan.
"""

from __future__ import annotations

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import DictConfig

NAME = "hsm.yaml"


class PromisedConfig(ConfigNode):
    """An entry of Hydra's ConfigStore whose `node` is made whenever it is asked for."""

    def __init__(self) -> None:
        # All of ConfigNode's fields but `node`: Python asks __getattr__ for what is not there.
        self.name = NAME
        self.group = "hydra/sweeper"
        self.package = None
        self.provider = "hsm"

    def __getattr__(self, name: str) -> DictConfig:
        if name != "node":
            raise AttributeError(name)
        from ._structured import make_config

        return make_config()


def register() -> None:
    """Register the config, unless it is."""
    # ConfigStore.store would want the config itself.
    group = ConfigStore.instance().repo.setdefault("hydra", {}).setdefault("sweeper", {})
    group.setdefault(NAME, PromisedConfig())
