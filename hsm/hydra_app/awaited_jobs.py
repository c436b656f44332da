"""Waiting for the jobs of a Hydra sweep: their callbacks, their JobReturns, and the display."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from itertools import islice

from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig

from hsm.core.engine.feeding import Feed
from hsm.core.engine.interrupts import Interrupts
from hsm.core.engine.sweep_source import SweepSource
from hsm.hydra_app.job_ends import JobEnds
from hsm.hydra_app.returns import JobReturns


class AwaitedJobs:
    """Waits for jobs, and turns what they returned or raised into JobReturns. Thread-safe.

    Args:
        source: runs the jobs.
        context: as passed to the launcher's `setup`.
        display: shows the sweep while it is entered.
    """

    def __init__(
        self, source: SweepSource, context: HydraContext, display: AbstractContextManager[object]
    ) -> None:
        self._source, self._display = source, display
        self.ends, self._returns = JobEnds(source, context), JobReturns(source)
        self._showing = threading.Lock()  # guards the next one
        self._waiting = 0  # blocks of `shown`

    def returns_of(
        self,
        interrupts: Interrupts,
        job_ids: Sequence[str],
        job_overrides: Sequence[Sequence[str]],
        config: DictConfig,
    ) -> list[JobReturn]:
        """Wait for jobs; return what they returned or raised, nothing if the sweep is interrupted.

        Args:
            interrupts: collects signals.
            job_ids: the jobs.
            job_overrides: the overrides of each.
            config: the sweep's.
        """
        self.ends.wait(interrupts, job_ids, job_overrides, config)
        # Signals are handled after this, so no handler can interrupt a call of the source with
        # another one.
        return self.ended(job_ids, job_overrides)

    def feed(
        self,
        points: Iterator[Sequence[str]],
        submit: Callable[[Sequence[Sequence[str]], int | None], list[str]],
        planned: int | None,
        interrupts: Interrupts,
        config: DictConfig,
    ) -> Feed[Sequence[str]]:
        """What hands over one job per point, and tells callbacks of each job's end.

        Args:
            points: the overrides of each.
            submit: hands over jobs, given their overrides and the number of the first; returns ids.
            planned: how many points there are; None if that is not known.
            interrupts: collects signals.
            config: the sweep's.
        """

        def each_ended(job_id: str, overrides: Sequence[str]) -> None:
            self.ends.ended(job_id, overrides, config, interrupts)

        tells = each_ended if self.ends.are_told() else None
        rerun = self._source.conf.rerun
        if not isinstance(rerun, str):  # Points behind its numbers may be on no record.
            points = islice(points, max(rerun) + 1)
        return Feed(
            self._source, points, submit, planned=planned, each_ended=tells, keeps_items=True
        )

    def ended(
        self, job_ids: Sequence[str], job_overrides: Sequence[Sequence[str]]
    ) -> list[JobReturn]:
        """What jobs that have ended returned or raised; nothing if the sweep is interrupted."""
        return [
            self._returns.of(job_id, list(given))
            for job_id, given in zip(job_ids, job_overrides, strict=True)
            if self._source.interruption is None
        ]

    def resolve(
        self, future: Future[JobReturn], job_id: str, overrides: list[str], config: DictConfig
    ) -> None:
        """Give a future what a job that has ended returned or raised."""
        try:
            self.ends.ended(job_id, overrides, config, Interrupts())
            future.set_result(self._returns.of(job_id, overrides))
        except BaseException as error:
            future.set_exception(error)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the display live while any thread waits for jobs."""
        with self._showing:
            self._waiting += 1
            if self._waiting == 1:
                self._display.__enter__()
        try:
            yield
        finally:
            with self._showing:
                self._waiting -= 1
                if self._waiting == 0:
                    self._display.__exit__(None, None, None)
