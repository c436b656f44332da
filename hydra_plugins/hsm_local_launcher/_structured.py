"""The structured config behind ``hydra/launcher=hsm_local``: made of all of hsm's settings."""

from __future__ import annotations

from dataclasses import field, make_dataclass
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hsm.core.settings.resolve import SETTINGS, Setting

_TARGET = "hydra_plugins.hsm_local_launcher.launcher.HsmLocalLauncher"


def _default(setting: Setting) -> Any:
    """A setting's built-in value, in a form that a dataclass takes."""
    value = setting.default
    return field(default_factory=partial(dict, value)) if isinstance(value, dict) else value


#: The config of a Hydra plugin: each setting with its type and its built-in value, and the id of
#: the one sweep, which is no setting, as no other source of settings could name it.
HsmLocalLauncherConf = make_dataclass(
    "HsmLocalLauncherConf",
    [
        *((name, setting.kind.annotation, _default(setting)) for name, setting in SETTINGS.items()),
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
