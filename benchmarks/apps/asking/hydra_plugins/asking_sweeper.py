"""Two sweepers over the same points: one launches batches, the other asks and tells."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, wait
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper


class AskingSweeper(Sweeper):
    """Runs `jobs` jobs, `slots` at a time: in batches, or each as soon as there is room."""

    def __init__(self, jobs: int, slots: int, batches: bool) -> None:
        self._points = [[f"+num={num}"] for num in range(jobs)]
        self._slots = slots
        self._batches = batches

    def setup(self, **given: Any) -> None:
        """Make the launcher."""
        self._launcher: Any = Plugins.instance().instantiate_launcher(**given)

    def sweep(self, arguments: list[str]) -> list[Any]:
        """The jobs' returns, in the order in which they came."""
        return self._in_batches() if self._batches else self._one_by_one()

    def _in_batches(self) -> list[Any]:
        returns: list[Any] = []
        for first in range(0, len(self._points), self._slots):
            batch = self._points[first : first + self._slots]
            returns += self._launcher.launch(batch, initial_job_idx=first)
        return returns

    def _one_by_one(self) -> list[Any]:
        submit = self._launcher.session.submit
        todo, returns = list(self._points), []
        running = {submit(todo.pop(0)) for _ in range(min(self._slots, len(todo)))}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            returns += [future.result() for future in done]
            running |= {submit(todo.pop(0)) for _ in done if todo}
        return returns


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="asking",
    node={
        "_target_": "hydra_plugins.asking_sweeper.AskingSweeper",
        "jobs": 20,
        "slots": 2,
        "batches": False,
    },
)
