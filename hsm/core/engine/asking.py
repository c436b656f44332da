"""Asking for the next job whenever one can start, of somebody who learns from those that ended.

    Asker.ask --AskedJob--> submit --> jobs in flight --each end--> Asker.ended
        ^                                                               |
        `------------------- a place is free, no job waits -------------'

So each job is chosen with all results so far, and no place waits for the slowest job of a batch.
All calls of the asker come from the thread that waits for the jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hsm.core.engine.compute_source import SweepObserver
from hsm.core.engine.in_flight import Fed, InFlight
from hsm.core.engine.interrupts import Interrupts
from hsm.core.errors import HsmError
from hsm.core.record.job import Job, JobState


class AskedJob(Protocol):
    """A job that is to run."""

    @property
    def num(self) -> int:
        """Its number in the sweep."""

    @property
    def point(self) -> Mapping[str, Any]:
        """Its parameters."""


class Asker(Protocol):
    """Chooses jobs, and learns what became of them; see `hsm.core.study.trials.Trials`."""

    def earlier(self) -> Sequence[AskedJob]:
        """The jobs that a resumed sweep has had: those that are over, and those that run again."""

    def ask(self) -> AskedJob | None:
        """The next job; may take long. None: none now, but for `is_over` perhaps after an end."""

    @property
    def is_over(self) -> bool:
        """Whether no further job will be asked for."""

    def ended(self, job: Job) -> str | None:
        """A job has ended, just now or in an earlier run of the sweep: the latter may be known.

        Not called for jobs that were cancelled as the whole sweep was. Returns why the whole sweep
        should stop, if it should.
        """


class AskedSource(Fed, Protocol):
    """The source of an `Asking`: a `SpecSource`."""

    @property
    def observers(self) -> list[SweepObserver]: ...

    def job(self, job_id: str) -> Job: ...

    def stop(self, reason: str) -> None: ...


class Asking(InFlight):
    """The jobs that have been asked for, and those that will be.

    Args:
        source: runs the jobs.
        asker: chooses them.
        submit: hands over jobs; returns their ids. Called at least once, perhaps with none.
        planned: how many there will be; None if that is not known.
        n_jobs: how many run at once at most; None for as many as there are places.
        each_ended: called with each job that has ended.
    """

    def __init__(
        self,
        source: AskedSource,
        asker: Asker,
        submit: Callable[[Sequence[AskedJob]], Sequence[str]],
        *,
        planned: int | None = None,
        n_jobs: int | None = None,
        each_ended: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(source, keeps_ended=True)
        self._asked, self._asker, self._submit = source, asker, submit
        self._planned, self._n_jobs, self._each_ended = planned, n_jobs, each_ended
        self._error: Exception | None = None
        self._is_idle = False  # whether the asker has no job until another one has ended
        self._is_finished = False  # whether no job comes whatever happens
        self._is_cut = False  # whether a signal has ended a call of the asker, who knows what of
        self._waiting: set[int] = set()  # jobs that have not started yet
        self._retried: set[int] = set()  # jobs that wait for a further attempt

    def begin(self, interrupts: Interrupts) -> None:
        """Hand over the jobs of an earlier run, and the first new one if it can start.

        Raises:
            Exception: what the asker raised before the first job, or `submit`.
        """
        self._source.begin_feed(self)
        self._asked.observers.append(_Places(self))
        self._give(self._asker.earlier())
        self._tell_ended()
        if self._can_ask():  # else jobs that run again come first, and what they return counts
            self._ask(interrupts)
        if self.job_ids:
            return
        if self._error is not None:
            raise self._error
        self._submit([])

    def run(self, interrupts: Interrupts) -> None:
        """Ask for all others, and wait for all jobs; no more are asked for if the source stops.

        Raises:
            Exception: what the asker or `submit` raised, once all jobs before it have ended.
        """
        while True:
            self._tell_ended()
            while self._can_ask() and self._ask(interrupts):
                self._tell_ended()
            with self._lock:
                is_over = self._is_last or self._is_idle
                if is_over and not self._in_flight and not self._ended:
                    self._is_finished = True
                    break
            interrupts.wait(self, None)
        if self._error is not None:
            raise self._error

    def drop(self) -> int:
        """Ask for no more jobs; see `Feeding.drop`."""
        with self._lock:
            was_last, self._is_last = self._is_last, True
            self._is_finished = True
        self.look()
        return 0 if was_last else self._to_come() or 0

    def more(self) -> bool:
        """The asker may have a job again; returns whether it will be asked. Thread-safe."""
        with self._lock:
            if self._is_finished or self._source.is_stopped:
                return False
            self._is_last = self._is_idle = False
        self.look()
        return True

    def started(self, num: int) -> None:
        """A job runs, so the next one may be asked for. Thread-safe."""
        with self._lock:
            self._waiting.discard(num)
            self._retried.discard(num)
        self.look()

    def retried(self, num: int) -> None:
        """A job waits for a further attempt, and its place is free meanwhile. Thread-safe."""
        with self._lock:
            self._retried.add(num)
        self.look()

    def _to_come(self) -> int | None:
        return None if self._planned is None else max(0, self._planned - len(self.job_ids))

    @property
    def _few(self) -> int:
        places = self._source.places
        return min(places, self._n_jobs or places) - 1

    def _is_due(self, few: int) -> bool:
        if self._ended:
            return True
        if self._is_last or self._is_idle:
            return not self._in_flight
        return self._may_ask(few)

    def _may_ask(self, few: int) -> bool:
        """Whether a further job could start; called with the lock."""
        return not self._waiting and self._in_flight - len(self._retried) <= few

    def _can_ask(self) -> bool:
        few = self._few
        with self._lock:
            return not self._is_last and not self._is_idle and self._may_ask(few)

    def _ask(self, interrupts: Interrupts) -> bool:
        """Ask for a job and hand it over; returns whether there was one."""
        job: AskedJob | None = None
        if not self._stops(interrupts):
            try:
                with interrupts.raised():  # It may take long.
                    job = self._asker.ask()
            except Exception as error:
                self._fail(error)
            self._is_cut = job is None and interrupts.first is not None
        if self._stops(interrupts):
            job = None
        if job is not None:
            self._tell_to_come(1)  # first, since it may start at once
            self._give([job])
            return True
        if self._asker.is_over or self._stops(interrupts):
            self._is_last = True
        else:
            self._is_idle = True
        self._tell_to_come(0)
        return False

    def _tell_to_come(self, given: int) -> None:
        """Tell how many jobs are to come besides those that were given just now."""
        to_come = self._to_come()
        if self._is_last and self._error is None:
            to_come = 0
        self._source.jobs_to_come(None if to_come is None else max(0, to_come - given))

    def _stops(self, interrupts: Interrupts) -> bool:
        return self._is_last or self._source.is_stopped or interrupts.first is not None

    def _give(self, jobs: Sequence[AskedJob]) -> None:
        if not jobs:
            return
        with self._lock:
            self._waiting.update(job.num for job in jobs)  # first: one may start at once
        try:
            job_ids = self._submit(jobs)
        except Exception as error:
            if not self.job_ids:
                raise
            self._is_last = True
            if not (self._source.is_stopped and isinstance(error, HsmError)):
                self._fail(error)  # else it was stopped just now, and takes no more
            return
        self._watch(job_ids)

    def _fail(self, error: Exception) -> None:
        self._error, self._is_last, self._is_finished = error, True, True
        self._source.feed_failed(error)

    def _tell_ended(self) -> None:
        """Tell the asker of the jobs that have ended."""
        while self._ended:
            job_id = self.job_ids[self._ended.popleft()]
            job = self._asked.job(job_id)
            with self._lock:
                self._waiting.discard(job.num)
                self._retried.discard(job.num)
            self._is_idle = False
            self._tell(job)
            if self._each_ended is not None:
                self._each_ended(job_id)

    def _tell(self, job: Job) -> None:
        """Tell the asker of a job that has ended; a resume tells it of those that are left out."""
        ends_with_all = self._source.is_stopped and job.state is JobState.CANCELLED
        if self._is_cut or ends_with_all:
            return
        try:
            reason = self._asker.ended(job)
        except Exception as error:
            if self._error is None:
                self._fail(error)
            return
        if reason is not None:
            self._asked.stop(reason)


class _Places(SweepObserver):
    """Tells an `Asking` which of its jobs have started or wait for a further attempt."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def job_started(self, job: Job) -> None:
        self._asking.started(job.num)

    def job_retried(self, job: Job, delay: float) -> None:
        self._asking.retried(job.num)
