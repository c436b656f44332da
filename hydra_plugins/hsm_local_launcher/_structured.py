"""The structured config behind ``hydra/launcher=hsm_local``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hsm.core.settings.resolve import LocalConf


@dataclass
class HsmLocalLauncherConf(LocalConf):
    """LocalConf as the config of a Hydra plugin."""

    # Any: durations may be text here as elsewhere, such as 90s or 2h.
    timeout: Any = None
    kill_grace: Any = None
    retry_delay: Any = None
    retry_max_delay: Any = None
    _target_: str = "hydra_plugins.hsm_local_launcher.launcher.HsmLocalLauncher"


def make_config(resolver: str) -> DictConfig:
    """The config, in which each setting of LocalConf is an interpolation ``${RESOLVER:NAME}``."""
    names = [entry.name for entry in fields(LocalConf)]
    interpolations: dict[str, Any] = {name: f"${{{resolver}:{name}}}" for name in names}
    config: DictConfig = OmegaConf.structured(HsmLocalLauncherConf(**interpolations))
    return config
