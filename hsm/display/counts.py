"""What a display knows of a sweep: counts, times, and an estimate of the time that is left."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from hsm.core.record.job import Attempt, Job, JobState

FAILURES = (JobState.FAILED, JobState.TIMEOUT, JobState.OUT_OF_MEMORY)

_SHORT_JOB = 1.0
_RECENT_ENDS = 256
_NAMED_FAILURES = 20


class Counts:
    """Follows the jobs of a sweep; every step takes constant time. Not thread-safe.

    What counts is the state that a job is in, not how often or in what order its events arrive: a
    job's start may be reported before its submission is, and a sweep that somebody begins to watch
    late may be handed over as it stands. All times are Unix seconds, as in a job's attempts, so
    that a sweep of the past shows its own.

    Attributes:
        by_state: number of jobs in each state.
        job_seconds: sum of the durations of all attempts of the jobs that ended.
        failed_jobs: the numbers of the first jobs that failed.
    """

    def __init__(self) -> None:
        self.by_state: dict[JobState, int] = dict.fromkeys(JobState, 0)
        self.job_seconds = 0.0
        self.failed_jobs: list[int] = []
        self._states: dict[str, JobState] = {}
        self._earlier: dict[str, int] = {}  # attempts before this life of the sweep, by job id
        self._begin: float | None = None
        self._last_end: float | None = None
        self._ran = 0
        self._ran_seconds = 0.0
        self._recent_ends: deque[float] = deque(maxlen=_RECENT_ENDS)

    @property
    def total(self) -> int:
        return len(self._states)

    @property
    def ended(self) -> int:
        return self.total - self.unfinished

    @property
    def failed(self) -> int:
        return sum(self.by_state[state] for state in FAILURES)

    @property
    def unfinished(self) -> int:
        return self.by_state[JobState.PENDING] + self.by_state[JobState.RUNNING]

    def submitted(self, jobs: Sequence[Job], now: float) -> None:
        """`jobs` belong to the sweep, each in whatever state it is in."""
        if jobs and self._begin is None:
            self._begin = now
        for job in jobs:
            if job.state is JobState.PENDING and job.attempts:
                # It runs again in a resumed sweep: what it did in an earlier life is not of this.
                self._earlier[job.job_id] = len(job.attempts)
            self._see(job)

    def waits_again(self, job: Job) -> None:
        """`job` is to have another attempt."""
        self._see(job)

    def started(self, job: Job) -> None:
        self._see(job)

    def ended_now(self, job: Job) -> None:
        """`job` has ended while somebody watched."""
        attempt = job.attempt
        if self._see(job) and attempt and attempt.started is not None and attempt.ended is not None:
            self._recent_ends.append(attempt.ended)
        if not self.unfinished:
            # A sweeper's next batch comes after a pause, which says nothing of the jobs' pace.
            self._recent_ends.clear()

    def _see(self, job: Job) -> bool:
        """Count `job` under its state; False if it was counted there."""
        old, new = self._states.get(job.job_id), job.state
        if old is new:
            return False
        if old is not None:
            self.by_state[old] -= 1
        self.by_state[new] += 1
        self._states[job.job_id] = new
        attempts = self._attempts(job)
        if attempts and (started := attempts[0].started) is not None:
            self._begin = started if self._begin is None else min(self._begin, started)
        if new.is_final:
            self._count_end(job)
        return True

    def _count_end(self, job: Job) -> None:
        attempt = job.attempt
        if attempt is not None and attempt.ended is not None:
            self._last_end = max(attempt.ended, self._last_end or 0.0)
        self.job_seconds += sum(attempt.duration or 0.0 for attempt in self._attempts(job))
        if job.state in FAILURES and len(self.failed_jobs) < _NAMED_FAILURES:
            self.failed_jobs.append(job.num)
        if job.state is not JobState.CANCELLED and job.duration is not None:
            self._ran += 1
            self._ran_seconds += job.duration

    def _attempts(self, job: Job) -> Sequence[Attempt]:
        """Those that belong to this life of the sweep."""
        return job.attempts[self._earlier.get(job.job_id, 0) :]

    def wall_seconds(self, now: float) -> float:
        """Seconds since the sweep began; up to its last job's end if none is left to end."""
        if self._begin is None:
            return 0.0
        end = now if self.unfinished or self._last_end is None else self._last_end
        return max(0.0, end - self._begin)

    def eta(self, running: Sequence[float], now: float) -> float | None:
        """Seconds until the sweep is done, from the durations so far; None if nothing can be said.

        Args:
            running: for how many seconds each of the running jobs has run.
            now: Unix seconds.
        """
        if not self._ran or not self.unfinished:
            return None
        duration = self._ran_seconds / self._ran
        left = [max(0.0, duration - elapsed) for elapsed in running]
        pending = self.by_state[JobState.PENDING]
        if not pending:
            return max(left, default=0.0) or None
        rate = self._observed_rate(now) if duration < _SHORT_JOB else None
        if rate is not None:
            return pending / rate
        return (pending * duration + sum(left)) / max(1, len(running))

    def _observed_rate(self, now: float) -> float | None:
        """Jobs that end in a second, lately.

        Short jobs spend much of a slot's time outside of themselves, in being started and reaped,
        and which of them run at this moment is chance: there the ends tell more than durations do.
        """
        ends = self._recent_ends
        if len(ends) < 10 or now <= ends[0]:
            return None
        return (len(ends) - 1) / (now - ends[0])
