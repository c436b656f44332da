"""Decides which job runs when: a queue, a thread per slot, and a timer for retries.

SweepSource --handles--> Scheduler: JobQueue --threads of the slots--> Supervisor.run, once per
|          ^ Timer: retries                   attempt --> Backend
`-- Ledger, OutputFollower
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from hsm.core.engine.backend import Backend
from hsm.core.engine.compute_source import RunningJob
from hsm.core.engine.judgement import Stop
from hsm.core.engine.ledger import JobHandle, Ledger
from hsm.core.engine.observers import Observers
from hsm.core.engine.output import OutputFollower
from hsm.core.engine.own_threads import OWN_THREADS
from hsm.core.engine.policy import RetryPolicy, StopPolicy
from hsm.core.engine.queue import JobQueue
from hsm.core.engine.room import Room
from hsm.core.engine.supervisor import Supervisor
from hsm.core.engine.time_limits import TimeLimits
from hsm.core.engine.timer import Timer
from hsm.core.record.job import JobState
from hsm.core.settings.resolve import SweepConf


class Scheduler:
    """Runs job handles. Thread-safe.

    Args:
        conf: the settings for all jobs.
        backend: where the jobs run.
        observers: get the jobs' events.
    """

    def __init__(self, conf: SweepConf, backend: Backend, observers: Observers) -> None:
        self._conf = conf
        self.ledger = Ledger()
        self._backend = backend
        self._observers = observers
        self._output = OutputFollower(observers.job_output, every_line=conf.show_output)
        self._timer = Timer()
        self._time_limits = TimeLimits(conf)
        self._stops = StopPolicy(conf)
        self._supervisor = Supervisor(
            conf=conf,
            backend=backend,
            ledger=self.ledger,
            observers=observers,
            output=self._output,
            room=Room(lambda: self.ledger.is_busy, observers.message),
            time_limits=self._time_limits,
            retries=RetryPolicy(conf),
            stops=self._stops,
            retry_later=self._retry_later,
            stop=self.stop,
            start_no_more=self.start_no_more,
        )
        self._pool = ThreadPoolExecutor(
            conf.max_parallel_jobs, thread_name_prefix=f"{OWN_THREADS}slot"
        )
        self._queue = JobQueue()
        self._mutex = threading.Lock()  # guards the next one
        self._asked = 0  # threads of the pool that look for jobs, or will as soon as there are any
        self._has_thread = False

    def run(self, handles: Iterable[JobHandle]) -> None:
        """Queue jobs that the ledger already knows; finished ones only feed limits and policies."""
        waiting = []
        for handle in handles:
            if not handle.is_over:
                waiting.append(handle)
            elif handle.job.state is JobState.COMPLETED:
                self._time_limits.completed(handle.job.duration)
                self._stops.has_completed = True
        self._enqueue(waiting)

    def running(self) -> list[RunningJob]:
        """The running jobs, by number, with a sample of their CPU and memory use."""
        found = []
        for handle in self.ledger.running():
            attempt = handle.attempt
            usage = (None, None) if attempt is None else attempt.usage()
            elapsed, last_line = time.monotonic() - handle.began, self._output.last_line(handle.job)
            found.append(RunningJob.of(handle.job, elapsed, usage, last_line))
        return sorted(found, key=lambda running: running.num)

    def cancel(self, handle: JobHandle) -> bool:
        """End one job; False if it has already ended."""
        stop = Stop(JobState.CANCELLED, "cancelled")
        if not self.ledger.end(handle, stop, self._conf.kill_grace):
            return False
        if self._queue.remove(handle) or self._timer.cancel(handle):
            self._supervisor.run(handle)  # End it now, not when a slot or its retry comes up.
        return True

    def stop(self, reason: str, grace: float | None = None) -> bool:
        """Start no more jobs and end the running ones; returns at once: whether it was news."""
        stop = Stop(JobState.CANCELLED, reason)
        is_first = self.ledger.stop(stop, self._conf.kill_grace if grace is None else grace)
        self._timer.hurry()
        return is_first

    def start_no_more(self, why: str) -> None:
        """Start no more jobs, since none can be, and let the running ones end; returns at once."""
        stop = Stop(JobState.CANCELLED, f"jobs cannot be started: {why}")
        if self.ledger.stop(stop, None):
            self._observers.warn(f"no more jobs start: {why}; a resume runs the others")
        self._timer.hurry()

    def wait(self) -> None:
        """Wait until every job has ended, including those waiting for a retry."""
        ended = threading.Event()
        self.ledger.when_ended(None, ended.set)
        ended.wait()

    def close(self) -> None:
        """Free everything, including the backend. Jobs that are still running are ended."""
        with ExitStack() as stack:  # Calls them in reverse order, all of them even if one raises.
            stack.callback(self._backend.close)
            stack.callback(self._output.stop)
            stack.callback(self._pool.shutdown, wait=True)

    def _retry_later(self, handle: JobHandle, delay: float) -> None:
        self._timer.later(delay, handle, lambda: self._enqueue([handle]))
        if not self.ledger.is_wanted(handle) and self._timer.cancel(handle):
            # It was cancelled, or the source stopped, just before the timer had it.
            self._enqueue([handle])

    def _enqueue(self, handles: Sequence[JobHandle]) -> None:
        self._queue.add(handles)
        try:
            for _ in handles:
                if not self._ask_for_thread():
                    return
        except RuntimeError as error:
            # No new thread could be started. If the pool has one already, that one takes the jobs.
            if not self._has_thread:
                with self._mutex:
                    self._asked -= 1
                self.start_no_more(f"cannot start a thread: {error}")
                self._end_waiting()

    def _ask_for_thread(self) -> bool:
        """Have one more thread of the pool look for jobs; False if all of them do."""
        with self._mutex:
            if self._asked == self._conf.max_parallel_jobs:
                return False
            self._asked += 1
        self._pool.submit(self._run_jobs)
        self._has_thread = True
        return True

    def _run_jobs(self) -> None:
        """Run one job after another until none is waiting, in a slot's thread."""
        while (handle := self._next()) is not None:
            self._supervisor.run(handle)
            if self.ledger.stopped is not None:
                self._end_waiting()

    def _next(self) -> JobHandle | None:
        """The next job; None if there is none, and then another thread is asked for the next."""
        with self._mutex:
            handle = self._queue.take()
            if handle is None:
                self._asked -= 1
        return handle

    def _end_waiting(self) -> None:
        """End the jobs that wait for a slot, now that the source is stopped.

        There may be very many. Those that had no attempt, which need no line in the journal (see
        `Supervisor`), are ended together.
        """
        stop = self.ledger.stopped
        unstarted = []
        for handle in self._queue.take_all():
            has_run = len(handle.job.attempts) > handle.attempts_before
            if stop is None or handle.stop is not None or has_run:
                self._supervisor.run(handle)
            else:
                unstarted.append(handle)
        if stop is not None and unstarted:
            self.ledger.end_unstarted(unstarted, stop)
            self._observers.jobs_ended([handle.job for handle in unstarted])
            self.ledger.finish(unstarted)
