"""A sweeper that composes nothing itself: it hands its points over all at once, or one by one."""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper


class GrowingSweeper(Sweeper):
    """Runs `jobs` jobs: in one batch, or each submitted on its own without waiting for any."""

    def __init__(self, jobs: int, singly: bool) -> None:
        self._points = [[f"+num={num}"] for num in range(jobs)]
        self._singly = singly

    def setup(self, **given: Any) -> None:
        """Make the launcher."""
        self._launcher: Any = Plugins.instance().instantiate_launcher(**given)

    def sweep(self, arguments: list[str]) -> list[Any]:
        """The jobs' returns, by number."""
        if not self._singly:
            return list(self._launcher.launch(self._points, initial_job_idx=0))
        futures = [self._launcher.session.submit(point) for point in self._points]
        return [future.result() for future in futures]


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="growing",
    node={
        "_target_": "hydra_plugins.growing_sweeper.GrowingSweeper",
        "jobs": 1000,
        "singly": False,
    },
)
