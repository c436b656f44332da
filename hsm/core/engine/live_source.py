"""What a source tells of its jobs, and how they are changed while they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hsm.core.engine import kept_reports
from hsm.core.engine.compute_source import ComputeSource, RunningJob
from hsm.core.engine.ledger import Ledger
from hsm.core.engine.scheduler import Scheduler
from hsm.core.program.reports import Report
from hsm.core.record.job import Job, JobFailed, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.settings.resolve import SETTINGS, UNSET


class LiveSource(ComputeSource):
    """The part of `SweepSource` that looks at its jobs and changes them.

    Attributes:
        _scheduler, _ledger: who runs the jobs, and who knows them.
    """

    _scheduler: Scheduler
    _ledger: Ledger

    # --- asking ---

    def get_job_status(self, job_id: str) -> JobState:
        return self._ledger[job_id].job.state

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

        Raises:
            KeyError: no such job.
            JobFailed: the job did not complete; its cause is the job's own exception, if any.
            Exception: unpickling the value failed.
        """
        self.wait([job_id])
        handle = self._ledger[job_id]
        if not handle.job.state.has_succeeded:
            report = self.report(job_id)
            raise JobFailed(handle.job) from (report.load_error() if report else None)
        if handle.work.function is None or handle.unsaved is not None:
            return handle.job.value
        return kept_reports.read_value(handle.journal.paths, handle.job)

    def running(self) -> list[RunningJob]:
        return self._scheduler.running()

    # --- ending ---

    def when_ended(self, job_ids: Sequence[str] | None, callback: Callable[[], None]) -> list[str]:
        return self._ledger.when_ended(job_ids, callback)

    def cancel_job(self, job_id: str) -> bool:
        return self._scheduler.cancel(self._ledger[job_id])

    def stop(self, reason: str, *, grace: float | None = None) -> None:
        self._scheduler.stop(reason, grace)

    # --- changing ---

    def pause(self, *, running: bool = False) -> None:
        self._scheduler.pause(running=running)

    def unpause(self) -> None:
        self._scheduler.unpause()

    def change(
        self,
        *,
        max_parallel_jobs: int | None = None,
        timeout: float | None = UNSET,
        max_retries: int | None = None,
        now: bool = False,
    ) -> None:
        given = {
            "max_parallel_jobs": UNSET if max_parallel_jobs is None else max_parallel_jobs,
            "timeout": timeout,
            "max_retries": UNSET if max_retries is None else max_retries,
        }
        values = {
            name: SETTINGS[name].check(value, "change")
            for name, value in given.items()
            if value is not UNSET
        }
        if "max_parallel_jobs" in values:  # first, as the backend may refuse it
            self._scheduler.set_limit(values["max_parallel_jobs"], now=now)
        if "timeout" in values:
            self._scheduler.set_timeout(values["timeout"])
        if "max_retries" in values:
            self._scheduler.set_retries(values["max_retries"])

    def set_priority(self, job_ids: Sequence[str], priority: int) -> None:
        self._scheduler.set_priority([self._ledger[job_id] for job_id in job_ids], priority)

    def cancel_pending(self) -> int:
        return self._scheduler.cancel_pending()

    def explain(self, job_id: str | None = None) -> list[str]:
        if job_id is None:
            return self._scheduler.explain_all()
        return [f"it waits for {self._scheduler.explain(self._ledger[job_id])}"]
