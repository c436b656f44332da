"""Which jobs a source has, which of them run, and whether they still should.

These are the live handles, under one lock. What is for the record is in `Job` and in the journal;
this is what dies with the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hsm.core.engine.backend import Attempt, Work
from hsm.core.engine.judgement import Stop
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal


class NotWanted(Exception):
    """The job was cancelled, or everything was stopped, before it started."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.reason)
        self.stop = stop


@dataclass
class _Watch:
    """Calls `callback` when `left` more jobs have ended."""

    left: int
    callback: Callable[[], None]


class JobDir(Enum):
    """What is known of a job's directory before it runs."""

    USUAL = "the one that `SweepPaths.job_dir` names"
    OWN = "the job will tell, and has it for itself"
    SHARED = "the job will tell, and others may have the same"


@dataclass(eq=False)
class JobHandle:
    """A job while a source has it.

    Attributes:
        job: what is known of it for the record.
        work: what it does.
        argument: what its function is called with.
        journal: the record that it goes to.
        cwd: its working directory.
        began: when its latest attempt got a process, by `time.monotonic()`.
        seconds: what its latest attempt took by that clock, which nobody sets.
        attempt: where it runs; from just before its process is asked for until it has ended.
        stop: why hsm wants it to end; the first reason that there was.
        is_cancelled: one of the reasons was that nobody wants it any more: there is no retry.
        is_over: it has ended, and everybody who should know was told.
        directory: what is known of its directory before it runs.
        attempts_before: those that it had in earlier lives of its sweep.
    """

    job: Job
    work: Work
    argument: Any
    journal: Journal
    cwd: str
    began: float = 0.0
    seconds: float | None = None
    attempt: Attempt | None = None
    stop: Stop | None = None
    is_cancelled: bool = False
    is_over: bool = False
    directory: JobDir = JobDir.USUAL
    watches: list[_Watch] = field(default_factory=list)
    attempts_before: int = field(init=False)

    def __post_init__(self) -> None:
        self.attempts_before = len(self.job.attempts)


class Ledger:
    """The jobs of one source. Thread-safe.

    The lock is held for changes of handles and jobs only, never while anything else is told or
    waited for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: dict[str, JobHandle] = {}
        self._running: dict[str, JobHandle] = {}
        self._stop: Stop | None = None

    @property
    def stopped(self) -> Stop | None:
        """Why no job is to be started any more; None if jobs are."""
        return self._stop

    def add(self, handles: Iterable[JobHandle]) -> None:
        """New jobs."""
        with self._lock:
            self._handles.update((handle.job.job_id, handle) for handle in handles)

    def __getitem__(self, job_id: str) -> JobHandle:
        return self._handles[job_id]

    def all(self) -> list[JobHandle]:
        """Every handle, in the order in which they were added."""
        with self._lock:
            return list(self._handles.values())

    def running(self) -> list[JobHandle]:
        """Those whose process runs."""
        with self._lock:
            return [handle for handle in self._running.values() if not handle.job.state.is_final]

    def is_wanted(self, handle: JobHandle) -> bool:
        """Whether nobody has cancelled the job."""
        return handle.stop is None and self._stop is None

    # --- one job's way ---

    def check_wanted(self, handle: JobHandle) -> None:
        """Raises NotWanted."""
        with self._lock:
            self._check_wanted(handle)

    def _check_wanted(self, handle: JobHandle) -> None:
        handle.stop = handle.stop or self._stop
        if handle.stop is not None:
            raise NotWanted(handle.stop)

    def launch(self, handle: JobHandle, attempt: Attempt) -> None:
        """Have `attempt` start the job, unless it is not wanted any more.

        Whoever ends the job comes either before this, and then it is not started, or after it, and
        then finds the attempt.

        Raises:
            NotWanted, PlaceGone: it was not started.
        """
        with self._lock:
            self._check_wanted(handle)
            attempt.start()
            handle.attempt = attempt

    def started(self, handle: JobHandle, pid: int | None) -> None:
        """The job has a process, here with `pid`, or hsm failed to give it one."""
        with self._lock:
            handle.job.start(time.time(), pid)
            handle.began = time.monotonic()
            if handle.attempt is not None:
                self._running[handle.job.job_id] = handle

    def left(self, handle: JobHandle) -> None:
        """The job's attempt is over: nobody calls its `end` any more."""
        with self._lock:
            handle.attempt = None

    def retried(self, handle: JobHandle, ending: Ending) -> bool:
        """The attempt has ended and there is to be another one; False if the job is not wanted."""
        with self._lock:
            if self._stop is not None or handle.is_cancelled:
                return False
            handle.stop = None  # It was for that attempt: a timeout.
            self._running.pop(handle.job.job_id, None)
            handle.job.retry(time.time(), ending)
            return True

    def ended(self, handle: JobHandle, ending: Ending) -> None:
        """The job has ended."""
        with self._lock:
            self._running.pop(handle.job.job_id, None)
            handle.job.end(time.time(), ending)

    def finish(self, handle: JobHandle) -> None:
        """Everybody was told; wake those who wait."""
        with self._lock:
            handle.is_over = True
            watches, handle.watches = handle.watches, []
            for watch in watches:
                watch.left -= 1
            due = [watch.callback for watch in watches if watch.left == 0]
        for callback in due:
            callback()

    # --- from outside ---

    def end(self, handle: JobHandle, stop: Stop, grace: float) -> bool:
        """Have a job ended because of `stop`; False if it has ended already."""
        with self._lock:
            if handle.job.state.is_final:
                return False
            handle.stop = handle.stop or stop
            handle.is_cancelled |= stop.state is JobState.CANCELLED
            if handle.attempt is not None:
                # Under the lock: the attempt must not be closed between the look and the end.
                handle.attempt.end(grace)
        return True

    def stop(self, stop: Stop, grace: float) -> None:
        """Start no more jobs and have all that run ended. The first reason given stays."""
        with self._lock:
            self._stop = stop = self._stop or stop
            handles = [handle for handle in self._handles.values() if handle.attempt is not None]
        for handle in handles:
            self.end(handle, stop, grace)

    def when_ended(self, job_ids: Sequence[str] | None, callback: Callable[[], None]) -> list[str]:
        """Call `callback` once these jobs (None: all) are over, perhaps at once.

        Returns their ids. Raises KeyError.
        """
        with self._lock:
            ids = list(self._handles) if job_ids is None else list(job_ids)
            unfinished = [handle for job_id in ids if not (handle := self._handles[job_id]).is_over]
            watch = _Watch(len(unfinished), callback)
            for handle in unfinished:
                handle.watches.append(watch)
        if not unfinished:
            callback()
        return ids
