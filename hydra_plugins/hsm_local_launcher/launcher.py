"""The launcher that Hydra finds: thin, since every Hydra app on the machine imports it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.plugins.launcher import Launcher

from .config import validated

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

    from hsm.core.engine.sweep_source import SweepSource
    from hsm.core.settings.resolve import LocalConf
    from hsm.hydra_app.session import Session


class HsmLocalLauncher(Launcher):
    """``hydra/launcher=hsm_local``: runs each job of a multirun in a process of its own.

    Args:
        settings: the fields of `hsm.core.settings.resolve.LocalConf`, as Hydra composed them.

    Attributes:
        session: the sweep, from `setup` on. A sweeper may submit single jobs to it, see there.
    """

    session: Session

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Check the settings and read the config files: no later change reaches the sweep."""
        from hsm.hydra_app.refusals import launcher_errors
        from hsm.hydra_app.session import Session

        with launcher_errors():
            conf = validated(self.settings)
            make_source = partial(self.make_source, conf)
            self.session = Session.joined_by(
                self, conf, make_source, hydra_context, task_function, config
            )

    @staticmethod
    def make_source(conf: LocalConf) -> SweepSource:
        """Make what runs the jobs; a launcher for another place overrides this.

        Static, as the session keeps it: a launcher that the session knew would never go.
        """
        from hsm.core.local import LocalComputeSource
        from hsm.core.settings.spelling import as_override

        source = LocalComputeSource.from_conf(conf)
        source.spelled = as_override
        return source

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run one job per list of overrides; returns what each returned or raised, in order."""
        return self.session.launch(job_overrides, initial_job_idx)
