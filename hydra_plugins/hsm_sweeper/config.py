"""Registers the config behind ``hydra/sweeper=hsm``; `HsmSweeperConf` names its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra.plugins.search_path_plugin import SearchPathPlugin

from ._registration import register

if TYPE_CHECKING:
    from hydra.core.config_search_path import ConfigSearchPath


class HsmSweeperRegistration(SearchPathPlugin):
    """Registers the sweeper whenever Hydra starts anew in this process.

    By then somebody may have put back Hydra's singletons.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Leave the search path as it is: being called is what matters."""
        register()


register()
