"""What a display makes of jobs that have more than one attempt."""

from __future__ import annotations

import io
from pathlib import Path

from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.display import make_display
from hsm.display.counts import Counts


def job_that_failed(start: float, end: float) -> Job:
    job = Job(3, "sweep_3", "lr=0.1", {"lr": 0.1})
    job.start(start, 42)
    job.end(end, Ending(JobState.FAILED, exit_code=3))
    return job


def test_an_attempt_that_is_followed_by_another_is_told(tmp_path: Path) -> None:
    out = io.StringIO()
    display = make_display(
        "plain", show_output=False, paths=SweepPaths(tmp_path), running=list, stream=out
    )
    job = Job(3, "sweep_3", "lr=0.1", {"lr": 0.1})
    with display:
        display.jobs_submitted([job])
        job.start(100.0, 42)
        display.job_started(job)
        job.retry(104.0, Ending(JobState.FAILED, exit_code=3))
        display.job_retried(job, 2.0)
    lines = out.getvalue().splitlines()
    expected = "job 3 attempt 1 ended after 4.0 s: exit code 3; next attempt in 2.0 s (lr=0.1)"
    assert lines[-1] == expected


def test_a_job_that_waits_for_its_next_attempt_is_not_counted_as_running() -> None:
    counts = Counts()
    job = Job(3, "sweep_3", "lr=0.1", {"lr": 0.1})
    counts.submitted([job], 100.0)
    job.start(100.0, 42)
    counts.started(job)
    job.retry(104.0, Ending(JobState.FAILED, exit_code=3))
    counts.waits_again(job)
    assert (counts.by_state[JobState.PENDING], counts.by_state[JobState.RUNNING]) == (1, 0)


def test_times_of_an_earlier_life_of_the_sweep_do_not_count() -> None:
    counts = Counts()
    job = job_that_failed(100.0, 160.0)
    job.requeue()
    counts.submitted([job], 1000.0)
    job.start(1001.0, 43)
    counts.started(job)
    job.end(1005.0, Ending(JobState.COMPLETED, exit_code=0))
    counts.ended_now(job)
    assert counts.wall_seconds(2000.0) == 5.0
    assert counts.job_seconds == 4.0
