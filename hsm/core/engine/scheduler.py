"""Decides which job runs when: admission, a thread per running job, and a timer for retries.

SweepSource --handles--> Scheduler: Admission --threads--> Supervisor.run, once per attempt
|          ^ Timer: retries                                  `--> Backend
`-- Ledger, OutputFollower
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial

from hsm.core.engine.admission import Admission
from hsm.core.engine.after_attempt import AfterAttempt
from hsm.core.engine.backend import Backend
from hsm.core.engine.compute_source import RunningJob
from hsm.core.engine.explaining import Explaining
from hsm.core.engine.judgement import Stop
from hsm.core.engine.ledger import JobHandle, Ledger
from hsm.core.engine.measuring import Measuring
from hsm.core.engine.observers import Observers
from hsm.core.engine.output import OutputFollower
from hsm.core.engine.policy import RetryPolicy, StopPolicy
from hsm.core.engine.supervisor import Supervisor
from hsm.core.engine.time_limits import TimeLimits
from hsm.core.engine.timer import Timer
from hsm.core.errors import HsmError
from hsm.core.own_threads import OWN_THREADS
from hsm.core.record.job import JobState
from hsm.core.settings.resolve import SweepConf
from hsm.core.units import format_duration

#: The pool makes a thread only for a job that has been admitted, so this bounds nothing.
_MOST_THREADS = 1 << 20
#: Seconds between looks for jobs that time alone may let start, at most.
_LONGEST_PAUSE = 0.25
_CANCELLED = Stop(JobState.CANCELLED, "cancelled")


class Scheduler:
    """Runs job handles. Thread-safe.

    Args:
        conf: the settings for all jobs.
        backend: where the jobs run.
        observers: get the jobs' events.
    """

    def __init__(self, conf: SweepConf, backend: Backend, observers: Observers) -> None:
        #: How many jobs somebody wants to run at once: a number, or "auto".
        self.asked: int | str = conf.max_parallel_jobs
        conf = self._conf = replace(conf)  # what changes while it runs changes here alone
        self.ledger = Ledger()
        self._backend = backend
        self._observers = observers
        self._output = OutputFollower(observers.job_output, every_line=conf.show_output)
        self.measuring = Measuring(self.ledger, observers, conf.kill_grace)
        self._timer = Timer()
        self._time_limits = TimeLimits(conf)
        self._stops = StopPolicy(conf)
        self._admission = Admission(
            conf.max_parallel_jobs,
            resources=conf.resources,
            gpus=backend.gpus,
            start_delay=conf.start_delay,
            lack=backend.lack,
            notice=lambda text: observers.message(f"jobs wait: {text}"),
            tell=observers.message,
        )
        self.explaining = Explaining(self.ledger, self._admission, backend)
        after = AfterAttempt()
        if backend.gpus is not None:
            from hsm.core.engine.after_gpus import AfterGpus  # as few sweeps need it

            backend.gpus.when_seen(self._gpus_seen)
            after = AfterGpus(backend.gpus, self.ledger, self._admission.alter)
        self._supervisor = Supervisor(
            conf=conf,
            backend=backend,
            ledger=self.ledger,
            observers=observers,
            output=self._output,
            measuring=self.measuring,
            time_limits=self._time_limits,
            retries=RetryPolicy(conf),
            stops=self._stops,
            after=after,
            retry_later=self._retry_later,
            put_back=self._put_back,
            has_started=self._has_started,
            stop=self.stop,
            start_no_more=self.start_no_more,
        )
        self._pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix=f"{OWN_THREADS}slot")
        self._has_thread = False
        self._mutex = threading.Lock()  # guards the next one
        self._is_looking = False  # whether a thread looks for jobs again and again

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
            elapsed, last_line = handle.running_seconds(), self._output.last_line(handle.job)
            measured = self.measuring.shown(handle)
            grant = handle.grant
            gpus = () if grant is None else tuple(gpu.id for gpu in grant.gpus)
            memory = None if grant is None else grant.peak_memory
            found.append(
                RunningJob.of(handle.job, elapsed, usage, last_line, measured, gpus, memory)
            )
        return sorted(found, key=lambda running: running.num)

    def cancel(self, handle: JobHandle) -> bool:
        """End one job; False if it has already ended."""
        if not self.ledger.end(handle, _CANCELLED, self._conf.kill_grace):
            return False
        self._end_now([handle])
        return True

    def _end_now(self, cancelled: Iterable[JobHandle]) -> None:
        """End jobs that wait at once, not when their turn or their retry comes."""
        for handle in cancelled:
            if self._admission.remove(handle) or self._timer.cancel(handle):
                self._supervisor.run(handle)

    def stop(self, reason: str, grace: float | None = None) -> bool:
        """Start no more jobs and end the running ones; returns at once: whether it was news."""
        stop = Stop(JobState.CANCELLED, reason)
        is_first = self.ledger.stop(stop, self._conf.kill_grace if grace is None else grace)
        self._timer.hurry()
        self._end_waiting_elsewhere()
        return is_first

    def start_no_more(self, why: str) -> None:
        """Start no more jobs, since none can be, and let the running ones end; returns at once."""
        stop = Stop(JobState.CANCELLED, f"jobs cannot be started: {why}")
        if self.ledger.stop(stop, None):
            self._observers.warn(f"no more jobs start: {why}; a resume runs the others")
        self._timer.hurry()
        self._end_waiting_elsewhere()

    # --- changes while jobs run ---

    def pause(self, *, running: bool) -> None:
        """Start no more jobs; with `running`, the processes of running jobs stand still, too."""
        self._admission.is_paused = True
        if running:
            self.ledger.pause()

    def unpause(self) -> None:
        """End a pause."""
        self._admission.is_paused = False
        self.ledger.unpause()
        self._check_time_limits()
        self._start_admitted()

    @property
    def places(self) -> int:
        """How many jobs may run at once."""
        return self._admission.limit

    def set_limit(self, limit: int | str, *, now: bool) -> None:
        """Run so many jobs at once, as far as the place can.

        Args:
            limit: the number, or "auto".
            now: end the youngest of the running jobs that are too many, and queue them again.
        """
        self.asked = limit
        limit = self._admission.limit = self._backend.allow(limit)
        if now:
            stop = Stop(JobState.CANCELLED, f"ended as only {limit} may run at once; runs again")
            oldest_first = sorted(self.ledger.running(), key=lambda handle: handle.began)
            for handle in oldest_first[limit:]:
                self.ledger.make_room(handle, stop, self._conf.kill_grace)
        self._start_admitted()

    def set_gpu_ids(self, ids: tuple[int | str, ...] | None) -> None:
        """Give jobs that start from now on no GPUs but these. Raises HsmError if it cannot."""
        gpus = self._backend.gpus
        if gpus is None:
            raise HsmError("hsm gives the jobs of this sweep no GPUs: gpus was not set for it")
        if ids is not None:
            from hsm.core.gpu.gpu_checks import check_left  # as few sweeps need it

            waiting = (each for each in self.ledger.all() if each.job.state is JobState.PENDING)
            check_left(ids, list(gpus.choose(ids)), (handle.gpu_need for handle in waiting))
        self._admission.alter(partial(gpus.restrict, ids))
        self._admission.limit = self._backend.allow(self.asked)
        self._start_admitted()

    def set_timeout(self, timeout: float | None) -> None:
        """Give all jobs another time limit in seconds, the running ones too; None for none."""
        self._conf.timeout = timeout
        self._check_time_limits()

    def set_retries(self, max_retries: int) -> None:
        """Give each job another number of retries."""
        self._conf.max_retries = max_retries

    def _check_time_limits(self) -> None:
        """Have running jobs end at the current limit: their threads may know an older one."""
        limit = self._time_limits.timeout()
        if limit is not None:
            for handle in self.ledger.running():
                left = max(0.0, limit[0] - handle.running_seconds())
                self._timer.later(
                    left, (handle, "limit"), partial(self._supervisor.end_late, handle)
                )

    def set_priority(self, handles: Iterable[JobHandle], priority: int) -> None:
        """Give jobs another priority."""
        for handle in handles:
            self._admission.prioritise(handle, priority)
        self._start_admitted()

    def cancel_pending(self) -> int:
        """Cancel the jobs that wait, for a retry too; returns how many these are.

        None of them starts any more. That they have ended is recorded and told elsewhere: of very
        many this takes long.
        """
        cancelled = self.ledger.end_pending(_CANCELLED, self._conf.kill_grace)
        try:
            self._pool.submit(self._end_now, cancelled)
        except RuntimeError:
            self._end_now(cancelled)
        return len(cancelled)

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
            stack.callback(self.measuring.stop)
            stack.callback(self._pool.shutdown, wait=True)

    def _gpus_seen(self) -> None:
        self._admission.look()
        if self.ledger.stopped is None:
            self._start_admitted()

    def _retry_later(self, handle: JobHandle, delay: float) -> None:
        self._admission.release(handle)  # It may be admitted again at once.
        self._timer.later(delay, handle, lambda: self._enqueue([handle]))
        if not self.ledger.is_wanted(handle) and self._timer.cancel(handle):
            # It was cancelled, or the source stopped, just before the timer had it.
            self._enqueue([handle])

    def _enqueue(self, handles: Sequence[JobHandle]) -> None:
        self._admission.add(handles)
        if self.ledger.stopped is None:
            self._start_admitted()
        else:
            self._end_waiting_elsewhere()

    def _has_started(self, handle: JobHandle) -> None:
        if self._admission.started(handle):
            self._start_admitted()

    def _put_back(self, handle: JobHandle, shortage: str) -> None:
        """Have a job wait again, as there was no room for it."""
        waited = self._admission.put_back(handle, shortage, is_busy=self.ledger.is_busy)
        if waited is not None:
            self.start_no_more(f"{shortage}, for {format_duration(waited)} in which no job ran")
        if not self.ledger.is_wanted(handle) and self._admission.remove(handle):
            self._supervisor.run(handle)  # It was cancelled just before it was put back.

    def _start_admitted(self) -> None:
        """Have each job that can start now run in a thread of its own."""
        while (handle := self._admission.admit()) is not None:
            chosen = [handle]
            try:
                self._pool.submit(self._run_jobs, chosen)
                self._has_thread = True
            except RuntimeError as error:
                self._no_thread(chosen, f"cannot start a thread: {error}")
                return
        if self._admission.looks_again() is not None:
            self._look_in_a_thread()

    def _no_thread(self, chosen: list[JobHandle], why: str) -> None:
        """No new thread could be started. If the pool has one already, that one takes the jobs."""
        if not self._has_thread:
            self.start_no_more(why)
        with suppress(IndexError):  # A thread of the pool has just become free, and taken it.
            handle = chosen.pop()
            self._admission.release(handle)
            self._admission.add([handle])
        if self.ledger.stopped is not None:
            self._end_waiting_elsewhere()

    def _look_in_a_thread(self) -> None:
        """Have a thread of the pool look for jobs that time alone may let start."""
        with self._mutex:  # Or it may be just about to stop.
            if self._is_looking:
                return
        try:
            self._pool.submit(self._run_jobs, [])
            self._has_thread = True
        except RuntimeError as error:
            if not self._has_thread:  # else one of those that there are looks when it is free
                self.start_no_more(f"cannot start a thread: {error}")

    def _run_jobs(self, chosen: list[JobHandle]) -> None:
        """Run a job that was chosen, and then one after another as they are admitted."""
        try:
            handle: JobHandle | None = chosen.pop()
        except IndexError:  # It only looks, or see `_no_thread`.
            handle = self._admission.admit()
        while handle is not None or (handle := self._look()) is not None:
            if not self._supervisor.run(handle):
                self._admission.release(handle)
            if self.ledger.stopped is not None:
                self._end_waiting()
            handle = self._admission.admit()
            if handle is not None and not self._admission.is_full and len(self._admission):
                self._start_admitted()  # What the last one had may be enough for several.

    def _look(self) -> JobHandle | None:
        """Look for a job as long as time alone may let one start; one thread does that at a time.

        Not the timer: where processes and threads are few, its thread may be the one too many.
        """
        is_looking = False  # whether this thread is the one
        while True:
            if why := self._admission.gives_up():
                self.start_no_more(why)
            with self._mutex:  # Whoever finds that a thread is looking relies on its next look.
                delay = self._admission.looks_again()
                if delay is None or (self._is_looking and not is_looking):
                    self._is_looking = self._is_looking and not is_looking
                    return None
                self._is_looking = is_looking = True
            time.sleep(min(delay, max(_LONGEST_PAUSE, self._admission.rest)))
            if (handle := self._admission.admit()) is not None:
                self._is_looking = False
                if len(self._admission):
                    self._start_admitted()
                return handle

    def _end_waiting_elsewhere(self) -> None:
        """End the waiting jobs, now that the source is stopped, in a thread of the pool."""
        if len(self._admission):
            try:
                self._pool.submit(self._end_waiting)
            except RuntimeError:
                self._end_waiting()

    def _end_waiting(self) -> None:
        """End the jobs that wait to be admitted, now that the source is stopped.

        There may be very many. Those that had no attempt, which need no line in the journal (see
        `Supervisor`), are ended together.
        """
        stop = self.ledger.stopped
        unstarted = []
        for handle in self._admission.take_all():
            if stop is None or handle.stop is not None or handle.has_run:
                self._supervisor.run(handle)
            else:
                unstarted.append(handle)
        if stop is not None and unstarted:
            self.ledger.end_unstarted(unstarted, stop)
            self._observers.jobs_ended([handle.job for handle in unstarted])
            self.ledger.finish(unstarted)
