"""The sweeper that Hydra finds: thin, since every Hydra app on the machine imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra.plugins.sweeper import Sweeper

from . import config as _config  # noqa: F401 -- registers: Hydra 1.4 may load this module alone

if TYPE_CHECKING:
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

    from hsm.hydra_app.optimising import Optimising
    from hsm.hydra_app.sweeping import Sweeping


class HsmSweeper(Sweeper):
    """``hydra/sweeper=hsm`` and ``hsm_optuna``: chooses points and hands them to the launcher.

    Args:
        settings: the fields of `HsmSweeperConf` or `HsmOptunaSweeperConf`, as Hydra composed them.
    """

    _sweeping: Sweeping | Optimising

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Make the launcher."""
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self._sweeping = self._kind()(self.settings, self.launcher, hydra_context, config)

    def _kind(self) -> type[Sweeping] | type[Optimising]:
        from hsm.core.space.choosing import is_study

        if is_study(self.settings.get("method")):
            from hsm.hydra_app.optimising import Optimising

            return Optimising
        from hsm.hydra_app.sweeping import Sweeping

        return Sweeping

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep; returns the jobs' JobReturns in batches, as Hydra's own sweeper does.

        Returns None if the method proposes points, as hydra-optuna-sweeper does.
        """
        return self._sweeping.run(arguments)
