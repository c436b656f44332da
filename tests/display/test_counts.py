"""How many jobs are in which state, and when the last one will have ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.displays import T0, ended, pending, running
from hsm.core.record.job import Ending, Job, JobState
from hsm.display.counts import Counts


def test_counts_follow_the_states() -> None:
    counts = Counts()
    jobs = [pending(num) for num in range(4)]
    counts.submitted(jobs, T0)
    for job in jobs[:3]:
        job.start(T0 + 1, 1)
        counts.started(job)
    jobs[0].end(T0 + 3, Ending(JobState.COMPLETED))
    jobs[1].end(T0 + 6, Ending(JobState.TIMEOUT))
    counts.ended_now(jobs[0])
    counts.ended_now(jobs[1])
    assert counts.by_state[JobState.PENDING] == counts.by_state[JobState.RUNNING] == 1
    assert (counts.total, counts.ended, counts.failed, counts.unfinished) == (4, 2, 1, 2)
    assert counts.failed_jobs == [1]
    assert counts.job_seconds == 2 + 5
    assert counts.wall_seconds(T0 + 20) == 20


def test_events_in_any_order_and_twice_count_once() -> None:
    counts = Counts()
    job = ended(0, started=T0, seconds=4)
    counts.ended_now(job)
    counts.submitted([job], T0 + 100)
    counts.ended_now(job)
    assert (counts.total, counts.ended, counts.job_seconds) == (1, 1, 4)
    assert counts.wall_seconds(T0 + 100) == 4


def test_a_sweep_is_taken_over_as_it_stands() -> None:
    counts = Counts()
    jobs = [
        ended(0, seconds=10),
        ended(1, JobState.FAILED, seconds=30),
        running(2, started=T0 + 30),
        pending(3),
    ]
    counts.submitted(jobs, T0 + 40)
    assert (counts.ended, counts.failed, counts.job_seconds) == (2, 1, 40)
    assert counts.wall_seconds(T0 + 50) == 50
    assert counts.eta([10.0], T0 + 40) == 10 + 20  # 20 s a job, one at a time


def test_all_attempts_are_work() -> None:
    job = running(0, started=T0)
    job.attempts[0].ended = T0 + 5
    job.state = JobState.PENDING
    job.start(T0 + 10, 2)
    counts = Counts()
    counts.started(job)
    job.end(T0 + 13, Ending(JobState.COMPLETED))
    counts.ended_now(job)
    assert counts.job_seconds == 5 + 3
    assert counts.wall_seconds(T0 + 99) == 13


def test_no_estimate_before_the_first_end_nor_after_the_last() -> None:
    counts = Counts()
    jobs = [running(0), pending(1)]
    counts.submitted(jobs, T0)
    assert counts.eta([5.0], T0 + 5) is None
    jobs[0].end(T0 + 8, Ending(JobState.COMPLETED))
    counts.ended_now(jobs[0])
    assert counts.eta([], T0 + 8) == 8
    jobs[1].end(T0 + 8, Ending(JobState.CANCELLED))
    counts.ended_now(jobs[1])
    assert counts.eta([], T0 + 8) is None


def test_the_estimate_is_work_left_over_slots() -> None:
    counts = Counts()
    jobs = [ended(0, seconds=10), ended(1, seconds=30), running(2), running(3)]
    counts.submitted([*jobs, *map(pending, range(4, 14))], T0 + 30)
    # 20 s a job: 10 pending, and halves of two running ones, in two slots.
    assert counts.eta([10.0, 10.0], T0 + 30) == (10 * 20 + 10 + 10) / 2


def test_at_the_end_the_youngest_job_decides() -> None:
    counts = Counts()
    counts.submitted([ended(0, seconds=10), running(1), running(2)], T0 + 10)
    assert counts.eta([8.0, 3.0], T0 + 10) == 7
    assert counts.eta([12.0, 11.0], T0 + 10) is None  # longer than any before: who knows


def test_of_short_jobs_the_pace_is_observed() -> None:
    counts = Counts()
    counts.submitted(list(map(pending, range(200))), T0)
    for num in range(100):  # each takes 2 ms, but one ends every 10 ms only
        counts.ended_now(ended(num, started=T0 + num / 100, seconds=0.002))
    eta = counts.eta([0.001], T0 + 1.0)
    assert eta == pytest.approx(1.0, rel=0.05)


def test_a_pause_between_batches_does_not_slow_the_estimate() -> None:
    counts = Counts()
    for batch, start in enumerate((T0, T0 + 3600)):
        counts.submitted([pending(batch * 100 + num) for num in range(50)], start)
        for num in range(50 if batch == 0 else 20):
            begin = start + num / 100
            counts.ended_now(ended(batch * 100 + num, started=begin, seconds=0.002))
    eta = counts.eta([], T0 + 3600.2)
    assert eta == pytest.approx(0.3, rel=0.1)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(list(JobState)))))
def test_counts_always_add_up(history: list[tuple[int, JobState]]) -> None:
    counts = Counts()
    jobs: dict[int, Job] = {}
    for num, state in history:
        job = jobs.setdefault(num, pending(num))
        if job.state is JobState.PENDING and state is not JobState.PENDING:
            job.start(T0, 1)
        if job.state is JobState.RUNNING and state.is_final:
            job.end(T0 + 1, Ending(state))
        if job.state.is_final:
            counts.ended_now(job)
        else:
            counts.started(job)
        assert sum(counts.by_state.values()) == counts.total == len(jobs)
        assert counts.ended == sum(job.state.is_final for job in jobs.values())
        assert min(counts.by_state.values()) >= 0
