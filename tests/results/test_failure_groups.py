"""Jobs that failed for the same reason are one group."""

from __future__ import annotations

import pytest

from hsm.core.record.job import Ending, Job, JobState
from hsm.core.results.failure_groups import failure_groups, kind_of_failure


def job(num: int, state: JobState = JobState.FAILED, reason: str = "boom") -> Job:
    job = Job(num, f"s_{num}")
    job.start(1.0, 1)
    job.end(2.0, Ending(state, reason=reason))
    return job


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("the rate 0.5 is too high", "the rate -1e-05 is too high"),
        ("no file '/tmp/a1/x.csv'", "no file './b/y'"),
        ("<Net object at 0x7f1234>", "<Net object at 0x7fabcd>"),
        ("run deadbeef01 is gone", "run 0123456789 is gone"),
        ("CUDA out of memory: 1,024 MiB of 40.5 GiB", "CUDA out of memory: 12 MiB of 8 GiB"),
    ],
)
def test_what_differs_between_jobs_is_not_compared(first: str, second: str) -> None:
    assert kind_of_failure(job(0), first) == kind_of_failure(job(1), second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("KeyError: 'lr'", "KeyError: 'seed'"),
        ("ValueError: boom", "TypeError: boom"),
        ("killed by SIGKILL", "killed by SIGSEGV"),
    ],
)
def test_other_words_are_another_kind(first: str, second: str) -> None:
    assert kind_of_failure(job(0), first) != kind_of_failure(job(1), second)


def test_the_largest_group_comes_first_and_is_named_after_its_first_job() -> None:
    jobs = [
        job(0, JobState.COMPLETED),
        job(1, reason="other"),
        job(2, reason="code 7"),
        job(3, JobState.TIMEOUT, "code 7"),
        job(4, reason="code 8"),
        job(5, JobState.CANCELLED),
    ]
    groups = failure_groups(jobs, Job.ending)
    told = [(group.state, group.message, [job.num for job in group.jobs]) for group in groups]
    assert told == [
        ("FAILED", "code 7", [2, 4]),
        ("FAILED", "other", [1]),
        ("TIMEOUT", "code 7", [3]),
    ]


def test_a_message_of_any_length_is_read_once() -> None:
    assert kind_of_failure(job(0), "z" * 10_000_000) == f"FAILED {'z' * 300}"
