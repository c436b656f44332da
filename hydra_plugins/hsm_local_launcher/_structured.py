"""What `config` registers with Hydra and OmegaConf.

Apart from it because Hydra 1.3 runs the modules that it discovers anew at every scan, and the first
time before they are in sys.modules, which dataclasses need. Here they keep one identity.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import omegaconf
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from hsm.core._local_conf import LocalConf

RESOLVER = "hsm_local"
GROUP, NAME = "hydra/launcher", "hsm_local"


@dataclass(repr=False, eq=False)
class HsmLocalLauncherConf(LocalConf):
    """LocalConf as the config of a Hydra plugin."""

    _target_: str = "hydra_plugins.hsm_local_launcher.launcher.HsmLocalLauncher"


def setting(name: str) -> Any:
    """The resolver ``${hsm_local:NAME}``: what setting NAME is if no override says otherwise.

    A bad value in hsm.yaml or in the environment must not break an app that only shows its config:
    there this gives the built-in value, and `config.validated` refuses it before a sweep starts.
    """
    from hsm.core.config import SETTINGS, resolve_local
    from hsm.core.errors import SettingsError, UnknownSetting

    if name not in SETTINGS:
        raise UnknownSetting.among(name, None, f"${{{RESOLVER}:{name}}}", SETTINGS)
    try:
        return getattr(resolve_local().conf, name)
    except SettingsError:
        return SETTINGS[name].default


def register() -> None:
    """Make the launcher's config and its resolver known, unless they are."""
    if not OmegaConf.has_resolver(RESOLVER):
        _register_resolver()
    store = ConfigStore.instance()
    try:
        known = f"{NAME}.yaml" in store.list(GROUP)
    except OSError:  # there is no such group yet
        known = False
    if not known:
        names = [field.name for field in fields(LocalConf)]
        interpolations: dict[str, Any] = {name: f"${{{RESOLVER}:{name}}}" for name in names}
        node = HsmLocalLauncherConf(**interpolations)
        store.store(group=GROUP, name=NAME, node=node, provider="hsm")


def _register_resolver() -> None:
    # OmegaConf 2.4 deprecates the first name; before 2.4 the second is that of an older function.
    version = tuple(int(part) for part in omegaconf.__version__.split(".")[:2])
    name = "register_new_resolver" if version < (2, 4) else "register_resolver"
    getattr(OmegaConf, name)(RESOLVER, setting)
