"""The config behind ``hydra/launcher=hsm_local``.

Its keys are hsm's settings, flat below hydra.launcher. One that nobody overrides is an
interpolation that follows hsm's own rule (hsm.yaml, environment, built-in): so ``--cfg hydra
--resolve`` shows the values that a sweep will have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hydra.plugins.search_path_plugin import SearchPathPlugin

from ._registration import register, setting

if TYPE_CHECKING:
    from hydra.core.config_search_path import ConfigSearchPath

    from hsm.core.settings.resolve import LocalConf


class HsmLocalRegistration(SearchPathPlugin):
    """Registers the launcher whenever Hydra starts anew in this process.

    By then somebody may have cleared OmegaConf's resolvers or put back Hydra's singletons, and this
    module's own call of `register` may have happened before.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Leave the search path as it is: being called is what matters."""
        register()


def validated(launcher_settings: Mapping[str, Any]) -> LocalConf:
    """The settings of a sweep, from what Hydra composed below hydra.launcher.

    Raises:
        SettingsError: a value there, in hsm.yaml or in the environment is not allowed.
    """
    from hsm.core.settings.resolve import resolve_local

    settings = {name: value for name, value in launcher_settings.items() if name != "sweep_id"}
    if settings.get("env") == setting("env"):  # Nobody has overridden it, and it has no values.
        settings.pop("env", None)
    return resolve_local(settings, argument_origin=_origin).conf


def _origin(name: str) -> str:
    return f"hydra.launcher.{name}"


register()
