"""The structured config behind ``hydra/launcher=hsm_local``: made of all of hsm's settings."""

from __future__ import annotations

from dataclasses import make_dataclass

from omegaconf import DictConfig, OmegaConf

from hsm.core.settings.resolve import SETTINGS

_TARGET = "hydra_plugins.hsm_local_launcher.launcher.HsmLocalLauncher"

#: The config of a Hydra plugin: each setting with its type and its built-in value, and the id of
#: the one sweep, which is no setting, as no other source of settings could name it.
HsmLocalLauncherConf = make_dataclass(
    "HsmLocalLauncherConf",
    [
        *((name, setting.kind.annotation, setting.default) for name, setting in SETTINGS.items()),
        ("sweep_id", str | None, None),
        ("_target_", str, _TARGET),
    ],
)
HsmLocalLauncherConf.__module__ = __name__  # Where a pickle of a config looks for it.


def make_config(resolver: str) -> DictConfig:
    """The config, in which each setting is an interpolation ``${RESOLVER:NAME}``."""
    interpolations = {name: f"${{{resolver}:{name}}}" for name in SETTINGS}
    config: DictConfig = OmegaConf.structured(HsmLocalLauncherConf(**interpolations))
    OmegaConf.set_struct(config, False)
    return config
