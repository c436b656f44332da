"""Changes how the jobs of a source run, without a word to anybody: see `Controller` for that."""

from __future__ import annotations

from collections.abc import Sequence

from hsm.core.engine.in_flight import Feeding
from hsm.core.engine.ledger import Ledger
from hsm.core.engine.scheduler import Scheduler
from hsm.core.record.job import JobState
from hsm.core.settings.resolve import UNSET


class Steering:
    """The methods of `ComputeSource` that a request may call, of one scheduler.

    Args:
        scheduler: what runs the jobs.
        ledger: what knows them.

    Attributes:
        feeds: what hands over jobs little by little.
    """

    def __init__(self, scheduler: Scheduler, ledger: Ledger) -> None:
        self._scheduler = scheduler
        self._ledger = ledger
        self.feeds: list[Feeding] = []

    def get_job_status(self, job_id: str) -> JobState:
        return self._ledger[job_id].job.state

    def cancel_job(self, job_id: str) -> bool:
        return self._scheduler.cancel(self._ledger[job_id])

    def pause(self, *, running: bool = False) -> None:
        self._scheduler.pause(running=running)

    def unpause(self) -> None:
        self._scheduler.unpause()

    def change(
        self,
        *,
        max_parallel_jobs: int | str | None = None,
        timeout: float | None = UNSET,
        max_retries: int | None = None,
        gpu_ids: tuple[int | str, ...] | None = UNSET,
        now: bool = False,
    ) -> None:
        if gpu_ids is not UNSET:  # the one that may be refused
            self._scheduler.set_gpu_ids(gpu_ids)
        if max_parallel_jobs is not None:
            self._scheduler.set_limit(max_parallel_jobs, now=now)
            for feed in self.feeds:
                feed.look()
        if timeout is not UNSET:
            self._scheduler.set_timeout(timeout)
        if max_retries is not None:
            self._scheduler.set_retries(max_retries)

    def set_priority(self, job_ids: Sequence[str], priority: int) -> None:
        self._scheduler.set_priority([self._ledger[job_id] for job_id in job_ids], priority)

    def cancel_pending(self) -> int:
        dropped = sum(feed.drop() for feed in self.feeds)  # First, or more would come meanwhile.
        return dropped + self._scheduler.cancel_pending()

    def explain(self, job_id: str | None = None) -> list[str]:
        if job_id is None:
            return self._scheduler.explaining.of_all()
        return [f"it waits for {self._scheduler.explaining.of(self._ledger[job_id])}"]
