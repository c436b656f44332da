"""Which jobs a source has, which of them are running, and whether they still should run.

The ledger holds the live handles, under one lock, and dies with the process. What lasts is in `Job`
and the journal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from hsm.core.engine.backend import Attempt, Work
from hsm.core.engine.judgement import Stop
from hsm.core.engine.reported import Reported
from hsm.core.needs import NO_NEEDS
from hsm.core.program.reports import Report
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal

if TYPE_CHECKING:
    from hsm.core.gpu.grant import GpuGrant
    from hsm.core.gpu.need import GpuNeed


class NotWanted(Exception):
    """The job was cancelled, or the source stopped, before the job started."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.reason)
        self.stop = stop


@dataclass(eq=False, slots=True)
class _Watch:
    """Call `callback` when `left` more jobs have ended."""

    left: int
    callback: Callable[[], None]


class JobDir(Enum):
    """What is known about a job's directory before the job runs."""

    USUAL = "the one that `SweepPaths.job_dir` names"
    OWN = "the job reports it, and no other job uses it"
    SHARED = "the job reports it, and other jobs may use it too"


@dataclass(eq=False, slots=True)
class JobHandle:
    """A job with its live state, while a source has it.

    Attributes:
        job: the job as the journal knows it.
        work: what the job does.
        argument: the argument for its function.
        journal: the journal of its sweep.
        cwd: its working directory.
        ready: since when it waits only for what it needs, by `time.monotonic()`.
        began: when its latest attempt got a process, by `time.monotonic()`; moved on by the time
            for which it was paused.
        seconds: how long its latest attempt took by that clock, which nobody sets; None if it has
            not ended or had no process.
        attempt: the current attempt, from just before its process starts until it has ended.
        stop: why hsm wants the job to end; the first reason if there are several.
        is_cancelled: whether one of the reasons was a cancel, after which there is no retry.
        is_over: whether the job has ended and the journal and all observers know.
        priority: jobs of a higher one start before others.
        needs: what it takes of the sweep's resources while it runs, by name; jobs that need the
            same share it.
        gpu_need: what it needs of GPUs while it runs; None if it gets none of hsm.
        grant: the GPUs that its current attempt has; None if it has none.
        avoid: tokens of GPUs on which it shall not run again, as a driver's error killed it there.
        slot: the number of its place among those that run at once, from 0; None while it waits.
        port: the TCP port that its current attempt has for itself; None if it has none.
        age: when it first waited to be admitted: smaller is earlier; 0 if it has not yet.
        line: where it waits to be admitted, see `WaitingJobs`; None if it does not.
        paused_since: since when it is paused, by `time.monotonic()`; None if it is not.
        makes_room: whether it was ended for others, and will be queued again at no retry.
        directory: what is known about the job's directory before it runs.
        has_links: whether its directory has got links to the logs since its latest attempt ended.
        watches: callbacks waiting for the job to be over.
        unsaved: the latest attempt's report, if it could not be written to its file.
        reported: what its current attempt has reported; None if it has none.
        attempts_before: the number of attempts before the sweep was resumed.
    """

    job: Job
    work: Work
    argument: Any
    journal: Journal
    cwd: str
    ready: float = 0.0
    began: float = 0.0
    seconds: float | None = None
    attempt: Attempt | None = None
    stop: Stop | None = None
    is_cancelled: bool = False
    is_over: bool = False
    priority: int = 0
    needs: Mapping[str, int] = field(default_factory=lambda: NO_NEEDS)
    gpu_need: GpuNeed | None = None
    grant: GpuGrant | None = None
    avoid: frozenset[str] = frozenset()
    slot: int | None = None
    port: int | None = None
    age: int = 0
    line: object = None
    paused_since: float | None = None
    makes_room: bool = False
    directory: JobDir = JobDir.USUAL
    has_links: bool = False
    watches: tuple[_Watch, ...] = ()
    unsaved: Report | None = None
    reported: Reported | None = None
    attempts_before: int = field(init=False)

    def __post_init__(self) -> None:
        self.attempts_before = len(self.job.attempts)

    @property
    def has_run(self) -> bool:
        """Whether it has had an attempt since the sweep was started or resumed."""
        return len(self.job.attempts) > self.attempts_before

    def running_seconds(self) -> float:
        """For how long its latest attempt has run, without the time for which it was paused."""
        now = time.monotonic() if self.paused_since is None else self.paused_since
        return now - self.began


class Ledger:
    """The jobs of one source. Thread-safe.

    The lock is held only while handles and jobs change, never during callbacks or waits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: dict[str, JobHandle] = {}
        self._running: dict[str, JobHandle] = {}
        self._stop: Stop | None = None  # why no more jobs are started
        self._end: Stop | None = None  # why those that are running are ended
        self._is_paused = False  # whether those that are running are paused

    @property
    def stopped(self) -> Stop | None:
        """Why no more jobs are started; None if they are."""
        return self._stop

    def add(self, handles: Iterable[JobHandle]) -> None:
        """Add new jobs."""
        now = time.monotonic()
        with self._lock:
            for handle in handles:
                handle.ready = now
                self._handles[handle.job.job_id] = handle

    def clear(self) -> None:
        """Remove all jobs, of which nobody will ask any more."""
        with self._lock:
            self._handles.clear()

    def __getitem__(self, job_id: str) -> JobHandle:
        return self._handles[job_id]

    def all(self) -> list[JobHandle]:
        """All handles, in the order they were added."""
        with self._lock:
            return list(self._handles.values())

    def running(self) -> list[JobHandle]:
        """The jobs that have a process."""
        with self._lock:
            return [handle for handle in self._running.values() if not handle.job.state.is_final]

    @property
    def is_busy(self) -> bool:
        """Whether any job has a process."""
        return bool(self._running)

    def is_wanted(self, handle: JobHandle) -> bool:
        """Whether neither the job was cancelled nor the source stopped."""
        return handle.stop is None and self._stop is None

    # --- the life of a job ---

    def check_wanted(self, handle: JobHandle) -> None:
        """Raise NotWanted if the job should not start any more."""
        with self._lock:
            self._check_wanted(handle)

    def _check_wanted(self, handle: JobHandle) -> None:
        handle.stop = handle.stop or self._stop
        if handle.stop is not None:
            raise NotWanted(handle.stop)

    def launch(self, handle: JobHandle, attempt: Attempt) -> None:
        """Have `attempt` start the job, if it is still wanted.

        A call of `end` comes either before this, and then the job does not start, or after it, and
        then finds the attempt to end.

        Raises:
            NotWanted, PlaceGone: the job was not started.
        """
        with self._lock:
            self._check_wanted(handle)
            attempt.start()
            handle.attempt = attempt

    def started(self, handle: JobHandle, pid: int | None) -> None:
        """The job has a process (with `pid`, if on this machine), or was lost before it had one."""
        with self._lock:
            attempt = handle.job.start(time.time(), pid)
            attempt.metrics = 0 if handle.reported is None else handle.reported.start
            handle.began = time.monotonic()
            handle.paused_since = None
            if handle.grant is not None:
                attempt.slot, attempt.gpus = handle.slot, [gpu.id for gpu in handle.grant.gpus]
                attempt.waited = round(max(0.0, handle.began - handle.ready), 3)
            if handle.attempt is not None:
                self._running[handle.job.job_id] = handle
                if self._is_paused:
                    self._pause(handle)

    def make_room(self, handle: JobHandle, stop: Stop, grace: float) -> None:
        """End a running job, unless it ends anyway, so that it runs again later."""
        with self._lock:
            if handle.attempt is not None and handle.stop is None:
                handle.stop, handle.makes_room = stop, True
                handle.attempt.end(grace)

    def pause(self) -> None:
        """Pause the running jobs, and those that are just starting."""
        with self._lock:
            self._is_paused = True
            for handle in self._running.values():
                self._pause(handle)

    def _pause(self, handle: JobHandle) -> None:
        if handle.attempt is not None and handle.paused_since is None:
            handle.attempt.pause()
            handle.paused_since = time.monotonic()

    def unpause(self) -> None:
        """Let the paused jobs go on."""
        with self._lock:
            self._is_paused = False
            for handle in self._running.values():
                if handle.paused_since is not None:
                    handle.began += time.monotonic() - handle.paused_since
                    handle.paused_since = None
                    if handle.attempt is not None:
                        handle.attempt.unpause()

    def left(self, handle: JobHandle) -> None:
        """The job's attempt is over: from now on nobody calls its `end`."""
        with self._lock:
            handle.attempt = None

    def retried(self, handle: JobHandle, ending: Ending) -> bool:
        """The attempt has ended and will be retried; False if the job is no longer wanted."""
        with self._lock:
            if self._stop is not None or handle.is_cancelled:
                return False
            handle.stop = None  # It was for that attempt only.
            self._running.pop(handle.job.job_id, None)
            handle.job.retry(time.time(), ending)
            return True

    def ended(self, handle: JobHandle, ending: Ending) -> None:
        """The job has ended."""
        with self._lock:
            self._running.pop(handle.job.job_id, None)
            handle.job.end(time.time(), ending)

    def end_unstarted(self, handles: Iterable[JobHandle], stop: Stop) -> None:
        """These jobs, which wait for their first attempt, have ended because of `stop`."""
        now = time.time()
        endings: dict[str, Ending] = {}  # which most of them share
        with self._lock:
            for handle in handles:
                handle.stop, missed = stop, handle.job.missed_attempt
                if missed not in endings:
                    endings[missed] = Ending(stop.state, reason=f"{missed}: {stop.reason}")
                handle.job.end(now, endings[missed])

    def finish(self, handles: Iterable[JobHandle]) -> None:
        """The journal and observers know that the jobs have ended: call their waiting callbacks."""
        due = []
        with self._lock:
            for handle in handles:
                handle.is_over = True
                watches, handle.watches = handle.watches, ()
                for watch in watches:
                    watch.left -= 1
                    if watch.left == 0:
                        due.append(watch.callback)
        for callback in due:
            callback()

    # --- requests from outside ---

    def end(self, handle: JobHandle, stop: Stop, grace: float) -> bool:
        """End a job because of `stop`; False if it has already ended."""
        with self._lock:
            if handle.job.state.is_final:
                return False
            self._end_because(handle, stop, grace)
        return True

    def end_pending(self, stop: Stop, grace: float) -> list[JobHandle]:
        """Have the jobs that wait, for a retry too, start no more; returns them.

        Leaves out those that were cancelled before.
        """
        with self._lock:
            found = [
                handle
                for handle in self._handles.values()
                if handle.job.state is JobState.PENDING and not handle.is_cancelled
            ]
            for handle in found:
                self._end_because(handle, stop, grace)
        return found

    def _end_because(self, handle: JobHandle, stop: Stop, grace: float) -> None:
        handle.stop = handle.stop or stop
        handle.is_cancelled |= stop.state is JobState.CANCELLED
        if handle.attempt is not None:
            # Under the lock, so that nobody closes the attempt between the check and the call.
            handle.attempt.end(grace)

    def stop(self, stop: Stop, grace: float | None) -> bool:
        """Start no more jobs and end the running ones, or let them end if there is no `grace`.

        If called again, the first reason stays. Returns whether this was the first call.
        """
        with self._lock:
            is_first = self._stop is None
            self._stop = self._stop or stop
            if grace is None:
                return is_first
            self._end = stop = self._end or stop
            handles = [handle for handle in self._handles.values() if handle.attempt is not None]
        for handle in handles:
            self.end(handle, stop, grace)
        return is_first

    def when_ended(self, job_ids: Sequence[str] | None, callback: Callable[[], None]) -> list[str]:
        """Call `callback` once these jobs (None: all) are over, which may be now.

        Returns their ids. Raises KeyError.
        """
        with self._lock:
            ids = list(self._handles) if job_ids is None else list(job_ids)
            unfinished = [handle for job_id in ids if not (handle := self._handles[job_id]).is_over]
            watch = _Watch(len(unfinished), callback)
            longer: dict[tuple[_Watch, ...], tuple[_Watch, ...]] = {}  # of many jobs, the same
            for handle in unfinished:
                watches = handle.watches
                handle.watches = longer.get(watches) or longer.setdefault(
                    watches, (*watches, watch)
                )
        if not unfinished:
            callback()
        return ids
