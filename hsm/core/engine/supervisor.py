"""Runs one attempt of a job from start to end, in a thread of the scheduler's pool."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hsm.core.engine import kept_reports
from hsm.core.engine.after_attempt import AfterAttempt
from hsm.core.engine.backend import (
    Attempt,
    Backend,
    CannotStart,
    Ended,
    JobLost,
    Launch,
    NoRoom,
    NothingStarts,
    PlaceGone,
    Started,
)
from hsm.core.engine.judgement import Stop, gpu_use, judge
from hsm.core.engine.launching import describe_launch, free_port, link_job_logs
from hsm.core.engine.ledger import JobHandle, Ledger, NotWanted
from hsm.core.engine.measuring import Measuring
from hsm.core.engine.observers import Observers
from hsm.core.engine.output import OutputFollower
from hsm.core.engine.policy import RetryPolicy, StopPolicy
from hsm.core.engine.time_limits import TimeLimits
from hsm.core.logger import get_logger
from hsm.core.program import reports
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal, JournalLost
from hsm.core.settings.resolve import SweepConf

if TYPE_CHECKING:
    from hsm.core.program.refused_arguments import Refusal


_log = get_logger(__name__)

#: Seconds between checks of a timeout that depends on how long other jobs take.
_CHECK_INTERVAL = 0.5


@dataclass(frozen=True)
class Supervisor:
    """Runs the jobs of a source, one per call of `run`.

    Attributes:
        stop: ends the running jobs and starts no more; takes the reason, and returns whether this
            was the first one.
        start_no_more: lets the running jobs end, and starts no more; takes what is in the way.
        after: looks after what attempts leave behind.
        retry_later: has `run` called again for a job after a delay in seconds. What it has is given
            back first.
        put_back: has `run` called again for a job once there may be what it lacked, in one line.
        has_started: told of each job that has got a process.
        lacks: why jobs of a study gave no objective, as far as it has been told.
    """

    conf: SweepConf
    backend: Backend
    ledger: Ledger
    observers: Observers
    output: OutputFollower
    measuring: Measuring
    time_limits: TimeLimits
    retries: RetryPolicy
    stops: StopPolicy
    after: AfterAttempt
    retry_later: Callable[[JobHandle, float], None]
    put_back: Callable[[JobHandle, str], None]
    has_started: Callable[[JobHandle], None]
    stop: Callable[[str], bool]
    start_no_more: Callable[[str], None]
    lacks: set[str] = field(default_factory=set)

    def run(self, handle: JobHandle) -> bool:
        """Run one attempt of a job; never raises.

        When this returns, observers and the journal know the job's ending, or that it is retried,
        or it waits again, as there was no room for it.

        Returns whether it has been, or will be, queued again; it may run again by now.
        """
        handle.seconds, handle.has_links = None, False
        try:
            ending, recorded = self._attempt(handle)
        except NoRoom as shortage:
            self.put_back(handle, str(shortage))
            return True
        runs_again = False
        try:
            refusal = self._refusal(handle, ending)
            if refusal is not None:
                ending = replace(ending, reason=f"refused its arguments: {refusal.line}")
            self._count_lost_start(handle, ending)
            if gone := self.after.ended(handle, ending):
                self.start_no_more(gone)
            runs_again = refusal is None and self._retry(handle, ending)
            if not runs_again:
                self._end(handle, self._scored(handle, ending), recorded)
            if refusal is not None:
                self._refused(handle, refusal)
        except BaseException as error:
            _log.exception("job %d has ended, but hsm failed to handle that", handle.job.num)
            if handle.job.state is JobState.PENDING:  # The retry could not be scheduled.
                self._end(handle, _never_ran(handle, repr(error)), recorded=False)
        finally:
            if not runs_again:  # Even after an error, or its waiters would wait forever.
                handle.reported = None  # It may be much, and the handle stays.
                self.ledger.finish([handle])
        return runs_again

    def _attempt(self, handle: JobHandle) -> tuple[Ending, bool]:
        """Run one attempt; returns its ending, and whether the journal needs no line for that.

        Raises:
            NoRoom: nothing was started.
        """
        try:
            return self._run(handle), False
        except NoRoom:
            raise
        except NotWanted as refusal:
            stop = refusal.stop
            # One line at the end of the journal says it for all jobs that never started.
            return _never_ran(handle, stop.reason, stop.state), stop is self.ledger.stopped
        except NothingStarts as error:
            self.start_no_more(str(error))
            return _never_ran(handle, str(error)), False
        except CannotStart as error:
            ending = _never_ran(handle, str(error))
            self.observers.warn(f"job {handle.job.num} {ending.reason}")
            return ending, False
        except JobLost as error:
            lost = Ending(JobState.FAILED, signal="SIGKILL", reason=str(error))
            return replace(lost, seconds=handle.seconds, **gpu_use(handle.grant)), False
        except BaseException as error:
            _log.debug("job %d", handle.job.num, exc_info=True)
            reason = f"hsm could not run it: {error!r}"
            if handle.job.state is JobState.PENDING:  # It has no process, so it has not failed.
                return _never_ran(handle, reason), False
            return Ending(JobState.FAILED, reason=reason, seconds=handle.seconds), False
        finally:
            free_port(handle)

    def _run(self, handle: JobHandle) -> Ending:
        try:
            attempt, started = self._start(handle)
            try:
                self._started(handle, started)
                self.has_started(handle)
                ended = self._watch(handle, attempt)
            finally:
                self._leave(handle, attempt)
                self.measuring.ended(handle)
                self.after.job_ended(handle)
        except JobLost:
            if handle.stop is None:
                raise
            ended = Ended(None, "SIGKILL", asked=True)
        handle.has_links = ended.has_links
        if ended.lost is not None:
            self.observers.warn(f"job {handle.job.num}: {ended.lost}")
        is_function = handle.work.function is not None
        report = _report(ended, handle) if is_function else None
        handle.unsaved = report if report is not None and report.unsaved else None
        assert handle.reported is not None
        return judge(
            ended,
            report,
            handle.stop,
            is_function=is_function,
            seconds=handle.seconds,
            measured=handle.reported.measured,
            prune_reason=handle.reported.reason,
            gpu_error=self.after.error(handle, ended, report),
            grant=handle.grant,
        )

    def _start(self, handle: JobHandle) -> tuple[Attempt, Started]:
        """Start a process for the job.

        Raises:
            NotWanted, CannotStart, JobLost: it has none.
            NoRoom: it has none yet.
        """
        self.backend.get_ready(lambda: self.ledger.is_wanted(handle), self.observers.message)
        self.ledger.check_wanted(handle)
        self._check_record(handle)
        self.output.get_ready()
        self.measuring.begin(handle)
        prunes = self.measuring.pruning is not None
        found = self.backend.found_gpus()
        launch = describe_launch(
            handle,
            self.conf,
            prunes=prunes,
            found=found,
            makes_folders=self.backend.makes_folders,
        )
        return self._launch(handle, launch)

    def _check_record(self, handle: JobHandle) -> None:
        """Raise NotWanted if another launcher has taken over the sweep."""
        if handle.journal.lost:
            raise NotWanted(Stop(JobState.CANCELLED, handle.journal.lost))

    def _launch(self, handle: JobHandle, launch: Launch) -> tuple[Attempt, Started]:
        """Find a place for the job and start it there."""
        while True:
            attempt = self.backend.attempt(handle.work, launch)
            try:
                self.ledger.launch(handle, attempt)
                return attempt, attempt.started()
            except PlaceGone:
                self._leave(handle, attempt)  # Nothing was started: try another place.
            except BaseException:  # E.g. NotWanted.
                self._leave(handle, attempt)
                raise

    def _leave(self, handle: JobHandle, attempt: Attempt) -> None:
        self.ledger.left(handle)
        attempt.close()

    def _started(self, handle: JobHandle, started: Started) -> None:
        self.ledger.started(handle, started.pid)
        # Skip the output of earlier attempts, which has been shown already.
        stdout, stderr = started.log_sizes
        self.output.add(handle.job, handle.journal.paths, stdout_start=stdout, stderr_start=stderr)
        self.measuring.started(handle)
        self._record(handle, Journal.start)
        self.observers.job_started(handle.job)

    def _watch(self, handle: JobHandle, attempt: Attempt) -> Ended:
        """Wait for the job to end, and end it when it reaches its time limit."""
        try:
            while True:
                limit = self.time_limits.timeout()
                ended = attempt.ended(self._next_check(handle, limit))
                if ended is None and self.end_late(handle):
                    ended = attempt.ended(None)
                if ended is not None:
                    return ended
        finally:
            handle.seconds = round(handle.running_seconds(), 6)

    def end_late(self, handle: JobHandle) -> bool:
        """End a job if it runs beyond its time limit; returns whether it does."""
        limit = self.time_limits.timeout()
        if limit is None or handle.paused_since is not None or handle.running_seconds() < limit[0]:
            return False
        self.ledger.end(handle, Stop(JobState.TIMEOUT, limit[1]), self.conf.kill_grace)
        return True

    def _next_check(self, handle: JobHandle, limit: tuple[float, str] | None) -> float | None:
        """When to check the limit of a running job next, in monotonic seconds; None: never."""
        if limit is None and not self.time_limits.may_change:
            return None
        soon = time.monotonic() + _CHECK_INTERVAL
        if limit is None or handle.paused_since is not None:
            return soon
        end = handle.began + limit[0]
        return min(end, soon) if self.time_limits.may_change else end

    def _retry(self, handle: JobHandle, ending: Ending) -> bool:
        """Schedule a retry if the job gets one; returns whether it does."""
        job, delay = handle.job, self._retry_delay(handle, ending)
        if delay is None:
            return False
        self.output.remove(job)
        if not self.ledger.retried(handle, ending):
            return False
        if self._record(handle, Journal.retry):
            kept_reports.drop(handle.journal.paths, job)
        self.observers.job_retried(job, delay)
        handle.ready = time.monotonic() + delay
        self.retry_later(handle, delay)
        return True

    def _retry_delay(self, handle: JobHandle, ending: Ending) -> float | None:
        """Seconds until the job's next attempt; None if it gets none."""
        made_room, handle.makes_room = handle.makes_room, False
        made_room = made_room and ending.state is JobState.CANCELLED
        if made_room or self.after.moves(handle, ending):
            handle.attempts_before += 1  # It was no fault of its own, so it costs no retry.
            return 0.0
        # In a resumed sweep each job gets its full number of retries again.
        delay = self.retries.delay(ending, len(handle.job.attempts) - handle.attempts_before)
        if delay is not None:
            self.after.retried(handle, ending)
        return delay

    def _refusal(self, handle: JobHandle, ending: Ending) -> Refusal | None:
        """Whether the job refused arguments that no job has taken yet, so that none will."""
        work, code = handle.work, ending.exit_code
        if work.refusals is None or code is None or ending.state is not JobState.FAILED:
            return None
        if self.stops.has_completed or work.command is None:
            return None
        stderr = handle.journal.paths.stderr(handle.job.num)
        return work.refusals.refusal(code, stderr, work.command)

    def _refused(self, handle: JobHandle, refusal: Refusal) -> None:
        if self.stop(f"job {handle.job.num} refused its arguments: {refusal.line}"):
            self.observers.warn(refusal.message)

    def _count_lost_start(self, handle: JobHandle, ending: Ending) -> None:
        """Record an attempt for a job that was lost while it was being started."""
        if handle.job.state is JobState.PENDING and ending.state is not JobState.CANCELLED:
            self.ledger.started(handle, None)
            self._record(handle, Journal.start)

    def _scored(self, handle: JobHandle, ending: Ending) -> Ending:
        """The ending of an attempt, with what `Measuring.scoring` makes of it."""
        job, scoring = handle.job, self.measuring.scoring
        if scoring is None or handle.reported is None or job.state is not JobState.RUNNING:
            return ending
        job_dir = ending.whole("job_dir")
        if job_dir is not None:
            job.job_dir = Path(job_dir)
        try:
            return scoring(job, ending, handle.reported.measured)
        except Exception as error:
            _log.debug("job %d", job.num, exc_info=True)
            self.observers.warn(f"job {job.num}: its result cannot be found: {error!r}")
            return ending

    def _end(self, handle: JobHandle, ending: Ending, recorded: bool) -> None:
        job = handle.job
        self.output.remove(job)
        self.ledger.ended(handle, ending)
        link_job_logs(handle)
        if not recorded and self._record(handle, Journal.end) and handle.work.function is not None:
            kept_reports.keep(handle.journal.paths, job)
        if ending.state is JobState.COMPLETED and ending.reason is not None:
            self._tell_lack(job.num, ending.reason)
        large = ending.large.get("value")
        if large is not None and large.lost is not None:
            self.observers.warn(f"job {job.num}: its return value {large.why_not}; result() has it")
        self.observers.job_ended(job)
        if ending.state is JobState.COMPLETED:
            self.time_limits.completed(handle.seconds)
        reason = self.stops.note(job.num, ending.state)
        if reason is not None:
            self.stop(reason)

    def _tell_lack(self, num: int, reason: str) -> None:
        """Warn of what a job lacks although it completed: its return value, or an objective."""
        if self.measuring.scoring is None:
            self.observers.warn(f"job {num}: {reason}")
        elif reason not in self.lacks:  # All jobs of a study may lack the same metric.
            self.lacks.add(reason)
            self.observers.warn(f"job {num}: {reason} (further such jobs are not told)")

    def _record(self, handle: JobHandle, write: Callable[[Journal, Job], list[str]]) -> bool:
        """Write the job's new state to its journal; returns whether that worked.

        If the disk refuses it, observers get a warning and the sweep continues.
        """
        journal = handle.journal
        was_behind = journal.is_behind
        try:
            handle.work.record_how(journal)  # E.g. a fork server may have been replaced.
            for loss in write(journal, handle.job):
                self.observers.warn(loss)
        except JournalLost:
            pass  # The journal has told the source, which stops.
        except OSError as error:
            if not was_behind:  # Warn once: it may last, and each job writes several records.
                self.observers.warn(f"cannot write {journal.paths.journal}: {error.strerror}")
        else:
            return True
        return False


def _never_ran(handle: JobHandle, reason: str, state: JobState = JobState.CANCELLED) -> Ending:
    """The ending of a job that has had no process, in this attempt at least."""
    return Ending(state, reason=f"{handle.job.missed_attempt}: {reason}")


def _report(ended: Ended, handle: JobHandle) -> reports.Report | None:
    """The report of a function's job; None if the job did not get that far."""
    path = handle.journal.paths.attempt_result(handle.job.num, len(handle.job.attempts))
    if ended.report is not None:
        with suppress(Exception):  # The job's own code may have written to that channel, too.
            return reports.loads(ended.report, path)
    return reports.read(path)
