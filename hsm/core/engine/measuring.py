"""Follows what running jobs report, and has it judged whether they are to end early.

    job --lines--> metrics/<n>.jsonl --Measuring's thread--> pruning(job, measurement) --> reason?
                   metrics/<n>.answer <----------------------------------------------------'

There is a thread only if a source has something that prunes; it reads every few milliseconds, as
jobs wait for its answer. Who only shows what jobs report has it read then. What is left when a job
has ended is read before its end is judged.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, TypeAlias

from hsm.core.engine.judgement import Stop
from hsm.core.engine.ledger import JobHandle, Ledger
from hsm.core.engine.observers import Observers
from hsm.core.engine.obstacles import start_thread
from hsm.core.engine.reported import Reported
from hsm.core.files import replace_below
from hsm.core.logger import get_logger
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.metrics import Measured, Measurement

_log = get_logger(__name__)

#: Called before a job's end is recorded, in the thread that has watched it: returns the ending,
#: with the objective, or a reason, that this sets.
Scoring: TypeAlias = Callable[[Job, Ending, Measured], Ending]
#: Called for each step that a job reports, in one thread: why the job is to end early, or None.
Pruning: TypeAlias = Callable[[Job, Measurement], "str | None"]
#: How a job ends early: it is told so when it asks, or hsm ends it.
PruneMode: TypeAlias = Literal["ask", "stop"]

#: Seconds between two looks at what jobs report, at least and at most; in between, a part of the
#: time since there was something.
_SHORTEST_PAUSE, _LONGEST_PAUSE, _PART = 0.01, 0.1, 0.05
#: Seconds that an ended job waits for `pruning`, which may hang: a study can be in a database.
_LONGEST_JUDGING = 30.0


class Measuring:
    """Follows the jobs of one source. Thread-safe.

    Args:
        ledger: ends jobs.
        observers: get warnings.
        grace: seconds between SIGTERM and SIGKILL for jobs that are ended.

    Attributes:
        scoring, pruning, prune_mode: see there; to be set before a job starts.
    """

    def __init__(self, ledger: Ledger, observers: Observers, grace: float) -> None:
        self.scoring: Scoring | None = None
        self.pruning: Pruning | None = None
        self.prune_mode: PruneMode = "ask"
        self._ledger = ledger
        self._observers = observers
        self._grace = grace
        self._never_asked = False  # whether that was told
        self._has_failed = False  # whether `pruning` has raised
        # Guards the attributes below. Never held while reading a file or calling `pruning`.
        self._changed = threading.Condition()
        self._followed: dict[str, tuple[JobHandle, Reported]] = {}
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    def begin(self, handle: JobHandle) -> None:
        """An attempt of a job is about to start. Raises NoRoom."""
        paths = handle.journal.paths
        # A new sweep has no such files: most jobs need not be asked for theirs.
        is_first = not handle.job.attempts and not handle.journal.has_resumed
        handle.reported = Reported(handle.job, paths, 0 if is_first else None)
        if self.pruning is None:
            return
        with self._changed:
            if self._thread is None and not self._is_stopped:
                self._thread = start_thread(self._follow, "metrics")
        with suppress(OSError):  # There is one if the journal lost an attempt.
            os.unlink(paths.answer_text(handle.job.num))

    def started(self, handle: JobHandle) -> None:
        """The attempt has a process."""
        if self.pruning is not None and handle.reported is not None:
            with self._changed:
                if not self._is_stopped:
                    self._followed[handle.job.job_id] = handle, handle.reported
                    self._changed.notify()

    def ended(self, handle: JobHandle) -> None:
        """The attempt is over: read what is left of what it has reported."""
        reported = handle.reported
        if reported is None:
            return
        with self._changed:
            is_followed = handle.job.job_id in self._followed
            if is_followed:
                reported.is_over = threading.Event()
                self._changed.notify()
            reported.is_ending = True
        if reported.is_over is None:
            reported.read()
        elif not reported.is_over.wait(_LONGEST_JUDGING):
            self._give_up(handle)
            reported.read()
        if reported.answer:
            with suppress(OSError):
                os.unlink(reported.paths.answer_text(handle.job.num))
        self._tell(handle.job, reported)

    def _give_up(self, handle: JobHandle) -> None:
        """Judging a job has taken too long: let it and all others end without."""
        if not self._has_failed:
            self._has_failed = True
            num, seconds = handle.job.num, _LONGEST_JUDGING
            self._observers.warn(
                f"no more jobs are pruned, as judging job {num} has taken more than {seconds:g} s"
            )
        with self._changed:
            self._followed.pop(handle.job.job_id, None)

    def _tell(self, job: Job, reported: Reported) -> None:
        """Warn of what is wrong with what a job has reported."""
        measured = reported.measured
        if measured.unusable:
            lines = "1 line" if measured.unusable == 1 else f"{measured.unusable} lines"
            where = reported.paths.metrics_text(job.num)
            self._observers.warn(f"job {job.num}: {lines} of its reports cannot be used: {where}")
        is_ignored = reported.reason is not None and not measured.asks
        if is_ignored and self.prune_mode == "ask" and not self._never_asked:
            self._never_asked = True
            self._observers.warn(
                f"job {job.num} did not look promising ({reported.reason}), but went on, as it "
                "never calls hsm.should_prune(); with prune=stop hsm ends such jobs"
            )

    def shown(self, handle: JobHandle) -> Measured:
        """What a running job has reported, for a display."""
        reported = handle.reported
        if reported is None:
            return Measured()
        return reported.shown(reads=handle.job.job_id not in self._followed)

    def stop(self) -> None:
        """End the thread. Idempotent."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_LONGEST_JUDGING)

    # --- the thread ---

    def _follow(self) -> None:
        try:
            latest = time.monotonic()  # when there was something
            while followed := self._wait(latest):
                for handle, reported in followed:
                    if self._take(handle, reported):
                        latest = time.monotonic()
        except Exception:  # a bug: nobody may wait for this thread then
            _log.exception("what jobs report is no longer judged")
        finally:
            with self._changed:
                self._is_stopped = True
                left = list(self._followed.values())
                self._followed.clear()
            for _, reported in left:
                if reported.is_over is not None:
                    reported.is_over.set()

    def _wait(self, latest: float) -> list[tuple[JobHandle, Reported]]:
        """Wait until it is time for a look; the jobs to look at, none if the thread is to end."""
        with self._changed:
            is_due = self._is_stopped or any(it.is_ending for _, it in self._followed.values())
            if not is_due:
                pause = min(_LONGEST_PAUSE, _PART * (time.monotonic() - latest))
                self._changed.wait(max(_SHORTEST_PAUSE, pause) if self._followed else None)
            while not self._followed and not self._is_stopped:
                self._changed.wait()
            return [] if self._is_stopped else list(self._followed.values())

    def _take(self, handle: JobHandle, reported: Reported) -> bool:
        """Judge what a job has reported since the last look; returns whether there was anything."""
        is_ending, before = reported.is_ending, reported.offset
        found = reported.read()
        for measurement in reported.new_steps(found):
            reason = self._judged(handle.job, measurement)
            if reason is not None and reported.reason is None and not is_ending:
                reported.reason = reason
                if self.prune_mode == "stop":
                    self._ledger.end(handle, Stop(JobState.PRUNED, reason), self._grace)
        if is_ending:
            with self._changed:
                self._followed.pop(handle.job.job_id, None)
            if reported.is_over is not None:
                reported.is_over.set()
        elif reported.measured.asks:
            _answer(reported)
        return reported.offset != before

    def _judged(self, job: Job, measurement: Measurement) -> str | None:
        if self.pruning is None or self._has_failed:
            return None
        try:
            return self.pruning(job, measurement)
        except Exception as error:
            self._has_failed = True
            _log.debug("job %d", job.num, exc_info=True)
            self._observers.warn(
                f"no more jobs are pruned, as judging job {job.num} failed: {error!r}"
            )
            return None


def _answer(reported: Reported) -> None:
    """Tell the job whether it is to end early, and how much of what it has reported says so."""
    answer = b"%d %d\n" % (reported.offset, reported.reason is not None)
    if answer != reported.answer:
        paths = reported.paths
        with suppress(OSError):  # then it goes on: it waits for a short time only
            replace_below(paths.sweep_dir, paths.answer_text(reported.job.num), answer)
            reported.answer = answer
