"""Waiting for the jobs of a Hydra sweep: their callbacks, their JobReturns, and the display."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig

from hsm.core.engine.asking import AskedJob, Asker, Asking
from hsm.core.engine.feeding import Feed
from hsm.core.engine.interrupts import Interrupts
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.record.job import Job
from hsm.hydra_app.job_ends import JobEnds
from hsm.hydra_app.returns import JobReturns

if TYPE_CHECKING:
    from hsm.core.study.trials import Trials


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

    def asking(
        self,
        study: Trials,
        overrides: Callable[[AskedJob], list[str]],
        submit: Callable[[Sequence[Sequence[str]], Sequence[int]], list[str]],
        interrupts: Interrupts,
        config: DictConfig,
    ) -> Asking:
        """What asks a study for jobs as they can start, and tells callbacks of each job's end.

        Args:
            study: the study.
            overrides: those of a job.
            submit: hands over jobs, given their overrides and their numbers; returns ids.
            interrupts: collects signals.
            config: the sweep's.
        """
        given: dict[str, list[str]] = {}
        tells = self.ends.are_told()

        def submit_asked(jobs: Sequence[AskedJob]) -> list[str]:
            job_overrides = [overrides(job) for job in jobs]
            job_ids = submit(job_overrides, [job.num for job in jobs])
            if tells:
                given.update(zip(job_ids, job_overrides, strict=True))
            return job_ids

        def each_ended(job_id: str) -> None:
            self.ends.ended(job_id, given.pop(job_id), config, interrupts)

        runs_all = isinstance(self._source.conf.rerun, str)
        return Asking(
            self._source,
            study if runs_all else _OnlyEarlier(study),
            submit_asked,
            planned=study.planned,
            n_jobs=study.options.n_jobs,
            each_ended=each_ended if tells else None,
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


class _OnlyEarlier:
    """Asks for no new job, as only jobs with certain numbers are to run again."""

    is_over = True

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def earlier(self) -> Sequence[AskedJob]:
        return self._asker.earlier()

    def ask(self) -> AskedJob | None:
        return None

    def ended(self, job: Job) -> str | None:
        return self._asker.ended(job)
