"""The launcher that Hydra finds: thin, since every Hydra app on the machine imports it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.plugins.launcher import Launcher

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

    from hsm.core.config import LocalConf
    from hsm.core.engine.policy import History
    from hsm.core.journal import Journal
    from hsm.core.lock import LockFile
    from hsm.core.resume import Resumption


class HsmLocalLauncher(Launcher):
    """``hydra/launcher=hsm_local``: runs each job of a multirun in a process of its own.

    Args:
        settings: the fields of `hsm.core.config.LocalConf`, as Hydra composed them.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.conf: LocalConf | None = None
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        #: The lock on the sweep's directory, from `setup` to the first `launch`.
        self.lock: LockFile | None = None
        #: The sweep that is resumed, if one is.
        self.resumption: Resumption | None = None
        #: The record of the sweep, from its first batch on.
        self.journal: Journal | None = None
        #: What its jobs have come to: policies and limits count over all batches.
        self.history: History | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Check the settings and read the config files: no later change reaches the sweep."""
        from hsm.hydra_app import session

        self.config = config
        self.hydra_context = hydra_context
        self.task_function = task_function
        session.set_up(self)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run one job per list of overrides; returns what each returned or raised, in order."""
        from hsm.hydra_app import session

        return session.launch(self, job_overrides, initial_job_idx)
