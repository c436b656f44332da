"""A study whose jobs another launcher runs: in batches, each of which waits for its slowest job.

Trials.ask --> a batch --Launcher.launch--> JobReturns --score, ended--> Trials
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from hsm.core.logger import get_logger
from hsm.core.plain_json import json_value
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.study.trials import AskedJob, Trials

log = get_logger(__name__)


class BatchedStudy:
    """Runs a study to its end.

    Args:
        study: the study.
        launcher: runs the jobs.
        overrides: those of a job.
    """

    def __init__(
        self, study: Trials, launcher: Launcher, overrides: Callable[[AskedJob], list[str]]
    ) -> None:
        self._study, self._launcher, self._overrides = study, launcher, overrides
        self._size = study.options.n_jobs or 1

    def run(self) -> str:
        """Run all jobs; returns why the sweep was stopped, if it was.

        Raises:
            HsmError: the study has failed.
            Exception: what the launcher raises.
        """
        name, size = type(self._launcher).__name__, self._size
        jobs = "one job at a time" if size == 1 else f"batches of {size} jobs (n_jobs)"
        log.info(
            "%s gets %s: the next are asked for when all of these have ended, and none is pruned, "
            "retried or resumed; hydra/launcher=hsm_local runs each as soon as there is a place",
            name,
            jobs,
        )
        while batch := self._batch():
            job_overrides = [self._overrides(job) for job in batch]
            returns = self._launcher.launch(job_overrides, initial_job_idx=batch[0].num)
            reason = ""
            for asked, words, returned in zip(batch, job_overrides, returns, strict=True):
                reason = self._tell(asked, words, returned) or reason
            if reason:
                return reason
        return ""

    def _batch(self) -> list[AskedJob]:
        batch: list[AskedJob] = []
        while len(batch) < self._size and (job := self._study.ask()) is not None:
            batch.append(job)
        return batch

    def _tell(self, asked: AskedJob, words: Sequence[str], returned: JobReturn) -> str | None:
        """Tell the study how a job has ended; returns why the sweep is to end, if it is."""
        job = Job(asked.num, str(asked.num), " ".join(words), dict(asked.point))
        now = time.time()
        job.start(now, None)
        ending = self._study.score(job, _ending(returned), None)
        job.end(now, ending)
        if ending.objective is None:
            log.warning("job %d (%s) failed: %s", job.num, job.label, ending.describe())
        return self._study.ended(job)


def _ending(returned: JobReturn) -> Ending:
    """How a job has ended, as far as a launcher tells."""
    value = returned._return_value
    if returned.status is JobStatus.COMPLETED:
        return Ending(JobState.COMPLETED, value=json_value(value))
    kind = type(value)
    place = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    name = f"{place}{kind.__qualname__}"
    return Ending(JobState.FAILED, error_type=name, error_message=str(value))
