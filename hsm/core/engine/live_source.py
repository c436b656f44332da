"""What a source tells of its jobs, and how they are changed while they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hsm.core.engine import kept_reports
from hsm.core.engine.compute_source import ComputeSource, RunningJob
from hsm.core.engine.control import Controller
from hsm.core.engine.ledger import Ledger
from hsm.core.engine.measuring import Measuring, PruneMode, Pruning, Scoring
from hsm.core.engine.scheduler import Scheduler
from hsm.core.engine.steering import Steering
from hsm.core.program.reports import Report
from hsm.core.record.controls import Change, Continue, Pause, Prioritize
from hsm.core.record.job import Job, JobFailed, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.paths import SweepPaths
from hsm.core.settings.resolve import SETTINGS, UNSET, argument


class LiveSource(ComputeSource):
    """The part of `SweepSource` that looks at its jobs and changes them.

    Attributes:
        _scheduler, _ledger: who runs the jobs, and who knows them.
        _steering, _controller: who changes how they run, and who has it recorded.
    """

    _scheduler: Scheduler
    _ledger: Ledger
    _steering: Steering
    _controller: Controller

    # --- judging jobs by what they report ---

    @property
    def scoring(self) -> Scoring | None:
        """Sets the objective of a job that has ended, before that is recorded."""
        return self._measuring.scoring

    @scoring.setter
    def scoring(self, scoring: Scoring | None) -> None:
        self._measuring.scoring = scoring

    @property
    def pruning(self) -> Pruning | None:
        """Says of a step that a job reports whether the job is to end early, and why."""
        return self._measuring.pruning

    @pruning.setter
    def pruning(self, pruning: Pruning | None) -> None:
        self._measuring.pruning = pruning

    @property
    def prune_mode(self) -> PruneMode:
        """How such a job ends: it asks ("ask"), or hsm ends it ("stop")."""
        return self._measuring.prune_mode

    @prune_mode.setter
    def prune_mode(self, mode: PruneMode) -> None:
        self._measuring.prune_mode = mode

    @property
    def _measuring(self) -> Measuring:
        return self._scheduler.measuring

    # --- asking ---

    def get_job_status(self, job_id: str) -> JobState:
        return self._steering.get_job_status(job_id)

    def job(self, job_id: str) -> Job:
        return self._ledger[job_id].job

    def jobs(self) -> list[Job]:
        return [handle.job for handle in self._ledger.all()]

    def paths(self, job_id: str) -> SweepPaths:
        return self._ledger[job_id].journal.paths

    def report(self, job_id: str) -> Report | None:
        """The report of a function's process; None for a command, or if there is no report.

        Raises KeyError.
        """
        handle = self._ledger[job_id]
        if handle.work.function is None:
            return None
        return handle.unsaved or kept_reports.read(handle.journal.paths, handle.job)

    def result(self, job_id: str) -> Any:
        """Wait for a job and return what its function returned (None for a command).

        Of a job that was pruned, what it has reported last.

        Raises:
            KeyError: no such job.
            JobFailed: the job did not complete, nor was it pruned; its cause is the job's own
                exception, if any.
            Exception: unpickling the value failed.
        """
        self.wait([job_id])
        handle = self._ledger[job_id]
        if not handle.job.state.has_succeeded:
            report = self.report(job_id)
            raise JobFailed(handle.job) from (report.load_error() if report else None)
        if handle.job.state is JobState.PRUNED:
            return None if handle.job.outcome is None else handle.job.outcome.objective
        if handle.work.function is None or handle.unsaved is not None:
            return handle.job.value
        return kept_reports.read_value(handle.journal.paths, handle.job)

    def running(self) -> list[RunningJob]:
        return self._scheduler.running()

    @property
    def is_stopped(self) -> bool:
        """Whether no more jobs start, as somebody or something has stopped the source."""
        return self._ledger.stopped is not None

    @property
    def why_stopped(self) -> str:
        """The reason for that; empty if no one has."""
        stopped = self._ledger.stopped
        return "" if stopped is None else stopped.reason

    @property
    def places(self) -> int:
        """How many jobs may run at once, as it is now."""
        return self._scheduler.places

    # --- ending ---

    def when_ended(self, job_ids: Sequence[str] | None, callback: Callable[[], None]) -> list[str]:
        return self._ledger.when_ended(job_ids, callback)

    def cancel_job(self, job_id: str) -> bool:
        return self._steering.cancel_job(job_id)

    def stop(self, reason: str, *, grace: float | None = None) -> None:
        self._scheduler.stop(reason, grace)

    # --- changing ---

    def pause(self, *, running: bool = False) -> None:
        self._controller.do(Pause(running))

    def unpause(self) -> None:
        self._controller.do(Continue())

    def change(
        self,
        *,
        max_parallel_jobs: int | str | None = None,
        timeout: float | None = UNSET,
        max_retries: int | None = None,
        gpu_ids: Sequence[int | str] | None = UNSET,
        now: bool = False,
    ) -> None:
        given = {
            "max_parallel_jobs": UNSET if max_parallel_jobs is None else max_parallel_jobs,
            "timeout": timeout,
            "max_retries": UNSET if max_retries is None else max_retries,
            "gpu_ids": gpu_ids,
        }
        values = {
            name: SETTINGS[name].check(value, argument(name))
            for name, value in given.items()
            if value is not UNSET
        }
        if values:
            self._controller.do(Change(values, now))

    def set_priority(self, job_ids: Sequence[str], priority: int) -> None:
        by_journal: dict[Journal, list[int]] = {}
        for job_id in job_ids:
            handle = self._ledger[job_id]
            by_journal.setdefault(handle.journal, []).append(handle.job.num)
        for journal, nums in by_journal.items():
            self._controller.prioritize(journal, Prioritize(tuple(nums), priority))

    def cancel_pending(self) -> int:
        return self._controller.cancel_pending()

    def explain(self, job_id: str | None = None) -> list[str]:
        return self._steering.explain(job_id)
