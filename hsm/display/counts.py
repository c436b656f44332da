"""Counts, times, and an estimate of the time left, for a display of a sweep."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from hsm.core.record.job import Attempt, Job, JobState
from hsm.core.record.job_table import JobTable

FAILURES = tuple(state for state in JobState if state.has_failed)

#: Seconds; for shorter jobs the estimate uses the rate of ends rather than durations.
_SHORT_JOB = 1.0
_MAX_RECENT_ENDS = 256
_MIN_RECENT_ENDS = 10
_MAX_NAMED_FAILURES = 20


class Counts:
    """Counts the jobs of a sweep; every update takes constant time. Not thread-safe.

    Counts depend on the state that a job is in, not on the number or order of its events: a job's
    start may be reported before its submission, and a sweep may be handed over halfway through. All
    times are Unix seconds, as in a job's attempts, so that an old sweep shows its own times. While
    a sweep runs, its display says how far the clock was set ahead meanwhile: `skew`, in seconds.

    Attributes:
        by_state: number of jobs in each state.
        job_seconds: sum of the durations of all attempts of the jobs that ended.
        is_paused: whether no jobs start because somebody asked for that.
        to_come: jobs that will be submitted later, or that never were; 0 if that is unknown.
        failed_jobs: the numbers of the first jobs that failed, 20 at most.
    """

    def __init__(self) -> None:
        self.by_state: dict[JobState, int] = dict.fromkeys(JobState, 0)
        self.job_seconds = 0.0
        self.is_paused = False
        self.to_come = 0
        self.failed_jobs: list[int] = []
        self._states: dict[str, JobState] = {}
        self._read = 0  # jobs that were only read, see `read`
        self._earlier: dict[str, int] = {}  # attempts before the sweep was resumed, by job id
        self._begin: float | None = None
        self._last_end: float | None = None
        self._took: float | None = None
        self._timed_jobs = 0  # jobs that ran until they ended by themselves,
        self._timed_seconds = 0.0  # and the sum of their durations
        self._recent_ends: deque[float] = deque(maxlen=_MAX_RECENT_ENDS)

    @property
    def total(self) -> int:
        """All jobs, those that are to come, too."""
        return self._submitted + self.to_come

    @property
    def _submitted(self) -> int:
        return len(self._states) + self._read

    @property
    def ended(self) -> int:
        return self._submitted - self.unfinished

    def states(self) -> dict[JobState, int]:
        """How many jobs are in each state, while a sweep runs; those to come are pending."""
        states = dict(self.by_state)
        states[JobState.PENDING] += self.to_come
        return states

    @property
    def failed(self) -> int:
        return sum(self.by_state[state] for state in FAILURES)

    @property
    def unfinished(self) -> int:
        return self.by_state[JobState.PENDING] + self.by_state[JobState.RUNNING]

    def submitted(self, jobs: Sequence[Job], now: float) -> None:
        """Add `jobs` to the sweep, each in the state that it is in."""
        if jobs and self._begin is None:
            self._begin = now
        for job in jobs:
            if job.state is JobState.PENDING and job.attempts:
                # It runs again in a resumed sweep, which does not count its earlier attempts.
                self._earlier[job.job_id] = len(job.attempts)
            self._update(job)

    def read(self, jobs: JobTable, now: float) -> None:
        """Add the jobs of a sweep that was read, which will not be told of again."""
        self.submitted(jobs.made(), now)
        tally = jobs.tally()
        self._read = sum(tally.states.values())
        if self._begin is None and self._read:
            self._begin = now
        if tally.began is not None:
            self._begin = min(tally.began, self._begin or tally.began)
        if tally.last_end is not None:
            self._last_end = max(tally.last_end, self._last_end or 0.0)
        for state, count in tally.states.items():
            self.by_state[state] += count
        self.job_seconds += tally.job_seconds
        self._timed_jobs += tally.timed
        self._timed_seconds += tally.job_seconds
        self.failed_jobs = sorted([*self.failed_jobs, *tally.failed])[:_MAX_NAMED_FAILURES]

    def waits_again(self, job: Job) -> None:
        """Count `job` as waiting for another attempt."""
        self._update(job)

    def started(self, job: Job, skew: float = 0.0) -> None:
        self._update(job, skew)

    def ended_now(self, job: Job, skew: float = 0.0) -> None:
        """Count `job` as ended just now; its end counts towards the current rate."""
        attempt = job.attempt
        has_changed = self._update(job, skew)
        if has_changed and attempt and attempt.started is not None and attempt.ended is not None:
            self._recent_ends.append(attempt.ended - skew)
        if not self.unfinished:
            # A sweeper pauses before its next batch; the pause says nothing about the jobs' pace.
            self._recent_ends.clear()

    def _update(self, job: Job, skew: float = 0.0) -> bool:
        """Count `job` under its state; False if it already was."""
        old, new = self._states.get(job.job_id), job.state
        if old is new:
            return False
        if old is not None:
            self.by_state[old] -= 1
        self.by_state[new] += 1
        self._states[job.job_id] = new
        attempts = self._attempts(job)
        if attempts and (began := _began(attempts, skew)) is not None:
            self._begin = began if self._begin is None else min(self._begin, began)
        if new.is_final:
            self._count_end(job, skew)
        return True

    def _count_end(self, job: Job, skew: float) -> None:
        attempt = job.attempt
        if attempt is not None and attempt.ended is not None:
            self._last_end = max(attempt.ended - skew, self._last_end or 0.0)
        self.job_seconds += sum(attempt.duration or 0.0 for attempt in self._attempts(job))
        if job.state in FAILURES and len(self.failed_jobs) < _MAX_NAMED_FAILURES:
            self.failed_jobs.append(job.num)
        if job.state is not JobState.CANCELLED and job.duration is not None:
            self._timed_jobs += 1
            self._timed_seconds += job.duration

    def _attempts(self, job: Job) -> Sequence[Attempt]:
        """The job's attempts since the sweep was started or last resumed."""
        return job.attempts[self._earlier.get(job.job_id, 0) :]

    def took(self, seconds: float) -> None:
        """The sweep is over, and its launcher knows how long it took."""
        self._took = seconds

    def wall_seconds(self, now: float) -> float:
        """Seconds since the sweep began, or from its begin to its last job's end if all ended."""
        if self._took is not None:
            return self._took
        if self._begin is None:
            return 0.0
        end = now if self.unfinished or self._last_end is None else self._last_end
        return max(0.0, end - self._begin)

    def eta(self, running: Sequence[float], now: float) -> float | None:
        """Estimate the seconds until the sweep ends.

        None if no job has ended yet, all have, or the sweep is paused.

        Args:
            running: for each running job, the seconds that it has run so far.
            now: Unix seconds.
        """
        if not self._timed_jobs or not self.unfinished or self.is_paused:
            return None
        duration = self._timed_seconds / self._timed_jobs
        left = [max(0.0, duration - elapsed) for elapsed in running]
        pending = self.by_state[JobState.PENDING] + self.to_come
        if not pending:
            return max(left, default=0.0) or None
        rate = self._observed_rate(now) if duration < _SHORT_JOB else None
        if rate is not None:
            return pending / rate
        return (pending * duration + sum(left)) / max(1, len(running))

    def _observed_rate(self, now: float) -> float | None:
        """Jobs per second that ended recently; None if too few did.

        A slot spends much of a short job's time on starting and reaping it, and how many of them
        run at this very moment is chance, so the rate of ends says more than durations do.
        """
        ends = self._recent_ends
        if len(ends) < _MIN_RECENT_ENDS or now <= ends[0]:
            return None
        return (len(ends) - 1) / (now - ends[0])


def _began(attempts: Sequence[Attempt], skew: float) -> float | None:
    """When the first of a job's `attempts` began; None if unknown.

    If the clock was set, only the latest time is known to be as far off as the clock is now.
    """
    latest = attempts[-1]
    if not skew or latest.started is None:
        return attempts[0].started
    now = latest.started if latest.ended is None else latest.ended
    return now - skew - sum(attempt.duration or 0.0 for attempt in attempts)
