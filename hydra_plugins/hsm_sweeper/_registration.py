"""Makes the sweeper's configs known to Hydra, at next to no cost: see the launcher's.

Apart from `config`, because Hydra 1.3 runs the modules that it discovers anew at every scan.
"""

from __future__ import annotations

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import DictConfig

_GROUP = "hydra/sweeper"
#: The options of each config group. hydra-optuna-sweeper has some of the last two groups, too.
OPTIONS = {
    _GROUP: ("hsm", "hsm_optuna"),
    f"{_GROUP}/sampler": ("tpe", "random", "cmaes", "nsgaii", "nsgaiii", "gp", "qmc", "grid"),
    f"{_GROUP}/pruner": (
        *("none", "median", "asha", "hyperband", "patient", "threshold", "percentile"),
        "wilcoxon",
    ),
}


class PromisedConfig(ConfigNode):
    """An entry of Hydra's ConfigStore whose `node` is made whenever it is asked for."""

    def __init__(self, group: str, option: str) -> None:
        # All of ConfigNode's fields but `node`: Python asks __getattr__ for what is not there.
        self.name = f"{option}.yaml"
        self.group = group
        self.package = None
        self.provider = "hsm"

    def __getattr__(self, name: str) -> DictConfig:
        if name != "node":
            raise AttributeError(name)
        from ._structured import make_config

        assert self.group is not None
        return make_config(self.group, self.name.removesuffix(".yaml"))


def register() -> None:
    """Register the sweepers, unless they are."""
    _store(_GROUP)


def register_parts() -> None:
    """Register samplers and pruners, unless there are some of their names.

    To be called once all plugins have been imported: hydra-optuna-sweeper stores some of the same
    names, and would replace hsm's, with a warning in Hydra 1.4 and an error later.
    """
    for group in OPTIONS:
        _store(group)


def _store(group: str) -> None:
    # ConfigStore.store would want the config itself.
    node = ConfigStore.instance().repo
    for part in group.split("/"):
        node = node.setdefault(part, {})
    for option in OPTIONS[group]:
        node.setdefault(f"{option}.yaml", PromisedConfig(group, option))
