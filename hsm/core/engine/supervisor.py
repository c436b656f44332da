"""Looking after one job's attempt from start to end; runs in a thread of the source's pool."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hsm.core.engine import kept_reports
from hsm.core.engine.backend import (
    Attempt,
    Backend,
    CannotStart,
    Ended,
    JobLost,
    Launch,
    PlaceGone,
    Started,
)
from hsm.core.engine.judgement import Stop, judge
from hsm.core.engine.ledger import JobDir, JobHandle, Ledger, NotWanted
from hsm.core.engine.observers import Observers
from hsm.core.engine.output import OutputFollower
from hsm.core.engine.policy import RetryPolicy, StopPolicy
from hsm.core.engine.time_limits import TimeLimits
from hsm.core.logger import get_logger
from hsm.core.program import reports
from hsm.core.program.params import variables
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal, JournalLost
from hsm.core.record.log_links import link_logs, unlink_logs
from hsm.core.settings.resolve import SweepConf

_log = get_logger(__name__)

#: Seconds between looks at a timeout that depends on how long other jobs take.
_LOOK_INTERVAL = 0.5


@dataclass(frozen=True)
class Supervisor:
    """Runs the jobs of a source, one per call of `run`.

    Attributes:
        stop: starts no more jobs and ends those that run, for a reason.
        retry_later: has `run` called again for a job in so many seconds.
    """

    conf: SweepConf
    backend: Backend
    ledger: Ledger
    observers: Observers
    output: OutputFollower
    time_limits: TimeLimits
    retries: RetryPolicy
    stops: StopPolicy
    retry_later: Callable[[JobHandle, float], None]
    stop: Callable[[str], None]

    def run(self, handle: JobHandle) -> None:
        """Run one attempt of a job; never raises.

        When this returns, observers and the journal know its ending, or that there will be another.
        """
        recorded = False  # whether the journal will tell of its ending without a line of its own
        try:
            ending = self._run(handle)
        except NotWanted as refusal:
            stop = refusal.stop
            ending = Ending(stop.state, reason=f"{handle.job.missed_attempt}: {stop.reason}")
            # The journal's last line says it for all of them.
            recorded = stop is self.ledger.stopped
        except JobLost as error:
            ending = Ending(JobState.FAILED, signal="SIGKILL", reason=str(error))
        except CannotStart as error:
            ending = Ending(JobState.FAILED, reason=str(error))
        except BaseException as error:
            _log.debug("job %d", handle.job.num, exc_info=True)
            ending = Ending(JobState.FAILED, reason=f"hsm could not run it: {error!r}")
        runs_again = False
        try:
            self._start_anyway(handle, ending)
            runs_again = self._retry(handle, ending)
            if not runs_again:
                self._end(handle, ending, recorded)
        except BaseException as error:
            _log.exception("job %d has ended, and hsm failed to deal with that", handle.job.num)
            if handle.job.state is JobState.PENDING:  # Of a retry that cannot be waited for.
                reason = f"{handle.job.missed_attempt}: {error!r}"
                self._end(handle, Ending(JobState.CANCELLED, reason=reason), recorded=False)
        finally:
            if not runs_again:  # Whatever went wrong: nobody may wait for it for ever.
                self.ledger.finish(handle)

    def _run(self, handle: JobHandle) -> Ending:
        self.backend.wait_for_room(lambda: self.ledger.is_wanted(handle), self.observers.message)
        self.ledger.check_wanted(handle)
        self._check_record(handle)
        launch = self._prepare(handle)
        attempt = self._launch(handle, launch)
        try:
            self._started(handle, attempt.started())
            ended = self._watch(handle, attempt)
        except JobLost:
            if handle.stop is None:
                raise
            ended = Ended(None, "SIGKILL", asked=True)
        finally:
            self.ledger.left(handle)
            attempt.close()
        if ended.lost is not None:
            self.observers.warn(f"job {handle.job.num}: {ended.lost}")
        is_function = handle.work.function is not None
        report = _report(ended, Path(launch.result)) if is_function else None
        return judge(ended, report, handle.stop, is_function=is_function)

    def _check_record(self, handle: JobHandle) -> None:
        """Start nothing in a sweep that another launcher has taken. Raises NotWanted."""
        if handle.journal.lost:
            raise NotWanted(Stop(JobState.CANCELLED, handle.journal.lost))

    def _prepare(self, handle: JobHandle) -> Launch:
        """Make the job's directory, and say how to start it."""
        job, paths = handle.job, handle.journal.paths
        number = len(job.attempts) + 1
        env = {
            "HSM_SWEEP_ID": handle.journal.sweep_id,
            "HSM_SWEEP_DIR": str(paths.sweep_dir),
            "HSM_JOB_ID": job.job_id,
            "HSM_JOB_NUM": str(job.num),
            "HSM_ATTEMPT": str(number),
            **variables(job.params, handle.journal.shelf),
        }
        if job.job_dir is not None:
            env["HSM_JOB_DIR"] = str(job.job_dir)
            try:
                os.mkdir(job.job_dir)
            except OSError:  # It is there, or what it is to be in is not.
                job.job_dir.mkdir(parents=True, exist_ok=True)
                unlink_logs(paths, job.job_dir)
        return Launch(
            num=job.num,
            env=env,
            root=str(paths.sweep_dir),
            stdout=str(paths.stdout(job.num)),
            stderr=str(paths.stderr(job.num)),
            cwd=handle.cwd,
            command=handle.work.command,
            argument=_pickled_argument(handle),
            result=str(kept_reports.make_room(paths, job.num, number)),
            grace=self.conf.kill_grace,
            header=_header(number) if job.attempts else None,
        )

    def _launch(self, handle: JobHandle, launch: Launch) -> Attempt:
        """Find a place for the job and have it started there."""
        while True:
            attempt = self.backend.attempt(handle.work, launch)
            try:
                self.ledger.launch(handle, attempt)
            except PlaceGone:
                attempt.close()  # Nothing is lost: take another.
            except BaseException:  # NotWanted, say
                attempt.close()
                raise
            else:
                return attempt

    def _started(self, handle: JobHandle, started: Started) -> None:
        self.ledger.started(handle, started.pid)
        # What earlier attempts have written was shown when they did.
        stdout, stderr = started.log_sizes
        self.output.add(handle.job, handle.journal.paths, stdout_start=stdout, stderr_start=stderr)
        self._record(handle, Journal.start)
        self.observers.job_started(handle.job)

    def _watch(self, handle: JobHandle, attempt: Attempt) -> Ended:
        """Wait for the end of a job, and end it when its time is over."""
        began = handle.began
        try:
            while True:
                limit = self.time_limits.timeout()
                ended = attempt.ended(self._next_look(began, limit))
                if ended is None and limit is not None and time.monotonic() >= began + limit[0]:
                    stop = Stop(JobState.TIMEOUT, limit[1])
                    self.ledger.end(handle, stop, self.conf.kill_grace)
                    ended = attempt.ended(None)
                if ended is not None:
                    return ended
        finally:
            handle.seconds = time.monotonic() - began

    def _next_look(self, began: float, limit: tuple[float, str] | None) -> float | None:
        """When to think again about a job that still runs, in monotonic seconds."""
        looks = [] if limit is None else [began + limit[0]]
        if self.time_limits.may_change:
            looks.append(time.monotonic() + _LOOK_INTERVAL)
        return min(looks, default=None)

    def _retry(self, handle: JobHandle, ending: Ending) -> bool:
        """Give the job another attempt, if it is to have one."""
        job = handle.job
        # A resumed sweep gives each job its retries anew.
        delay = self.retries.delay(ending, len(job.attempts) - handle.attempts_before)
        if delay is None:
            return False
        self.output.remove(job)
        if not self.ledger.retried(handle, ending):
            return False
        if self._record(handle, Journal.retry):
            kept_reports.drop(handle.journal.paths, job)
        self.observers.job_retried(job, delay)
        self.retry_later(handle, delay)
        return True

    def _start_anyway(self, handle: JobHandle, ending: Ending) -> None:
        """A job that hsm failed to give a process has had an attempt nevertheless."""
        if handle.job.state is JobState.PENDING and ending.state is not JobState.CANCELLED:
            self.ledger.started(handle, None)
            self._record(handle, Journal.start)

    def _end(self, handle: JobHandle, ending: Ending, recorded: bool) -> None:
        job = handle.job
        self.output.remove(job)
        self.ledger.ended(handle, ending)
        _link_logs(handle)
        if not recorded and self._record(handle, Journal.end) and handle.work.function is not None:
            kept_reports.keep(handle.journal.paths, job)
        if ending.state is JobState.COMPLETED and ending.reason is not None:
            self.observers.warn(f"job {job.num}: {ending.reason}")  # Its value is lost.
        large = ending.large.get("value")
        if large is not None and large.lost is not None:
            self.observers.warn(f"job {job.num}: its return value {large.why_not}; result() has it")
        self.observers.job_ended(job)
        if ending.state is JobState.COMPLETED:
            self.time_limits.completed(handle.seconds)
        reason = self.stops.note(job.num, ending.state)
        if reason is not None:
            self.stop(reason)

    def _record(self, handle: JobHandle, write: Callable[[Journal, Job], list[str]]) -> bool:
        """Write what a job has come to into its journal; whether it is there.

        A disk that does not take it is reported, and the sweep goes on.
        """
        journal = handle.journal
        was_behind = journal.is_behind
        try:
            handle.work.record_how(journal)  # where a fork server was replaced, say
            for loss in write(journal, handle.job):
                self.observers.warn(loss)
        except JournalLost:
            pass  # The source was told, and stops.
        except OSError as error:
            if not was_behind:  # Told once: it may last, and each job has several records.
                self.observers.warn(f"cannot write {journal.paths.journal}: {error.strerror}")
        else:
            return True
        return False


def _link_logs(handle: JobHandle) -> None:
    job, paths = handle.job, handle.journal.paths
    job_dir = paths.job_dir(job.num) if handle.directory is JobDir.USUAL else job.job_dir
    if job.attempts and job_dir is not None and handle.directory is not JobDir.SHARED:
        link_logs(paths, job.num, job_dir)


def _report(ended: Ended, path: Path) -> reports.Report | None:
    """What a function's job has reported; None if it did not get to that."""
    if ended.report is not None:
        with suppress(Exception):  # Its code may have written there, too.
            return reports.loads(ended.report, path)
    return reports.read(path)


def _pickled_argument(handle: JobHandle) -> bytes | None:
    """What a function's job is called with. Raises TypeError."""
    if handle.work.function is None:
        return None
    argument = reports.dumps(handle.argument)
    if argument is None:
        raise TypeError("its argument cannot be pickled")
    return argument


def _header(attempt: int) -> str:
    return f"---- attempt {attempt}, {time.strftime('%Y-%m-%d %H:%M:%S')} ----"
