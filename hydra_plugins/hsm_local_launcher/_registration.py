"""Makes the launcher's config and its resolver known to Hydra and OmegaConf, at next to no cost.

Most apps on the machine never use this launcher. So what is registered is only the promise of a
config: the config itself, and all of hsm, is imported when Hydra first asks for it.

Apart from `config`, because Hydra 1.3 runs the modules that it discovers anew at every scan; here
classes and functions keep one identity, so they can be pickled.
"""

from __future__ import annotations

from typing import Any

import omegaconf
from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import DictConfig, OmegaConf

RESOLVER = "hsm_local"
NAME = "hsm_local.yaml"


class PromisedConfig(ConfigNode):
    """An entry of Hydra's ConfigStore whose `node` is made whenever it is asked for."""

    def __init__(self) -> None:
        # All of ConfigNode's fields but `node`: Python asks __getattr__ for what is not there.
        self.name = NAME
        self.group = "hydra/launcher"
        self.package = None
        self.provider = "hsm"

    def __getattr__(self, name: str) -> DictConfig:
        if name != "node":
            raise AttributeError(name)
        from ._structured import make_config

        return make_config(RESOLVER)


def setting(name: str, *, _parent_: DictConfig | None = None) -> Any:
    """The resolver ``${hsm_local:NAME}``: what setting NAME is if no override says otherwise.

    What max_parallel_jobs is follows from settings beside it, which OmegaConf hands over.

    A bad value in hsm.yaml or in the environment must not break an app that only shows its config:
    there this gives the built-in value, and `config.validated` refuses it before a sweep starts.

    A mapping is given as text, or None if it is empty: where a mapping would come of an
    interpolation, OmegaConf can set no key of it. That text has no secrets.
    """
    from hsm.core.errors import SettingsError, UnknownSetting
    from hsm.core.settings.resolve import SETTINGS, resolve_local

    if name not in SETTINGS:
        raise UnknownSetting.among(name, None, f"${{{RESOLVER}:{name}}}", SETTINGS)
    beside: dict[str, Any] = {}
    if name == "max_parallel_jobs" and _parent_ is not None:
        beside = {key: _parent_[key] for key in ("gpus", "gpu_memory") if key in _parent_}
    try:
        value = getattr(resolve_local(beside, is_partial=True).conf, name)
    except SettingsError:
        value = SETTINGS[name].default
    if not isinstance(value, dict):
        return value
    return SETTINGS[name].show(value) if value else None


def register() -> None:
    """Register the config and the resolver, unless they are."""
    # ConfigStore.store would want the config itself.
    group = ConfigStore.instance().repo.setdefault("hydra", {}).setdefault("launcher", {})
    group.setdefault(NAME, PromisedConfig())
    if OmegaConf.has_resolver(RESOLVER):
        return
    # OmegaConf 2.4 deprecates the first name; before 2.4 the second is that of an older function.
    version = tuple(int(part) for part in omegaconf.__version__.split(".")[:2])
    name = "register_new_resolver" if version < (2, 4) else "register_resolver"
    getattr(OmegaConf, name)(RESOLVER, setting)
