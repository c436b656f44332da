"""Registers the configs behind ``hydra/sweeper=hsm`` and ``hsm_optuna``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra.plugins.search_path_plugin import SearchPathPlugin

from ._registration import register, register_parts

if TYPE_CHECKING:
    from hydra.core.config_search_path import ConfigSearchPath


class HsmSweeperRegistration(SearchPathPlugin):
    """Registers the sweepers whenever Hydra starts anew in this process.

    By then all plugins have been imported, and somebody may have put back Hydra's singletons.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Leave the search path as it is: being called is what matters."""
        register()
        register_parts()


register()
