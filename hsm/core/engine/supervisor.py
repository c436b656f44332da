"""Looking after one job's process from start to end; runs in a thread of the source's pool."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hsm.core.config import LocalConf
from hsm.core.engine import kept_reports
from hsm.core.engine.judgement import Stop, judge
from hsm.core.engine.ledger import JobDir, JobHandle, Ledger, NotWanted
from hsm.core.engine.output import OutputFollower
from hsm.core.engine.policy import RetryPolicy, StopPolicy
from hsm.core.errors import HsmError
from hsm.core.job import Ending, JobState
from hsm.core.journal import JournalLost
from hsm.core.local.forkserver import ForkServer
from hsm.core.local.leftovers import kill_leftovers
from hsm.core.local.limits import Limits
from hsm.core.local.oom import OomKill, OomKills
from hsm.core.local.scratch import Scratch
from hsm.core.local.servers import Servers
from hsm.core.local.slot import CannotStart, KeeperStuck, Slot, SlotLost
from hsm.core.local.wire import Ended, Start, Started
from hsm.core.log_links import link_logs, unlink_logs
from hsm.core.logger import get_logger
from hsm.core.program import report as reports
from hsm.core.program.points import variables

_log = get_logger(__name__)

#: Seconds between looks at a timeout that depends on how long other jobs take.
_LOOK_INTERVAL = 0.5


class JobLost(HsmError):
    """A job was killed together with the process that looks after it on hsm's side."""


@dataclass(frozen=True)
class Supervisor:
    """Runs the jobs of a source, one per call of `run`.

    Attributes:
        stop: starts no more jobs and ends those that run, for a reason.
        retry_later: has `run` called again for a job in so many seconds.
        tell: calls a `SweepObserver` method, by name, of all observers.
        warn: tells a line that somebody has to see.
    """

    conf: LocalConf
    ledger: Ledger
    servers: Servers
    scratch: Scratch
    output: OutputFollower
    limits: Limits
    retries: RetryPolicy
    stops: StopPolicy
    retry_later: Callable[[JobHandle, float], None]
    stop: Callable[[str], None]
    tell: Callable[..., None]
    warn: Callable[[str], None]

    def run(self, handle: JobHandle) -> None:
        """Run one attempt of a job; never raises.

        When this returns, observers and the journal know its ending, or that there will be another.
        """
        recorded = False  # whether the journal will tell of its ending without a line of its own
        try:
            ending = self._run(handle)
        except NotWanted as refusal:
            stop = refusal.stop
            ending = Ending(stop.state, reason=f"{handle.job.what_it_misses}: {stop.reason}")
            # The journal's last line says it for all of them.
            recorded = stop is self.ledger.stopped
        except JobLost as error:
            ending = Ending(JobState.FAILED, signal="SIGKILL", reason=str(error))
        except (SlotLost, CannotStart) as error:
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
            _log.exception("job %d: what follows its end failed", handle.job.num)
            if handle.job.state is JobState.PENDING:  # Of a retry that cannot be waited for.
                reason = f"{handle.job.what_it_misses}: {error!r}"
                self._end(handle, Ending(JobState.CANCELLED, reason=reason), recorded=False)
        finally:
            if not runs_again:  # Whatever went wrong: nobody may wait for it for ever.
                self.ledger.finish(handle)

    def _run(self, handle: JobHandle) -> Ending:
        self.limits.wait_for_memory(lambda: self.ledger.is_wanted(handle))
        self.ledger.check_wanted(handle)
        self._check_record(handle)
        start = self._prepare(handle)
        kills_before = OomKills.now()
        server, slot = self._launch(handle, start)
        pid = None
        try:
            started = slot.started()
            pid = started.pid
            self._started(handle, started)
            ended = self._watch(handle, slot, pid)
            is_lost = False
        except CannotStart:
            server.give_back(slot)
            raise
        except SlotLost as error:
            server.drop(slot)
            kill_leftovers(start.env, pid)
            if handle.stop is None:
                raise _job_lost(server, error) from error
            ended, is_lost = Ended(signal.SIGKILL, True, 0.0, 0), True
        except BaseException:
            # The fault is hsm's own. The job runs all the same, and nobody would look after it.
            slot.end_at_once()
            server.drop(slot)
            raise
        finally:
            self.ledger.left(handle)
        if not is_lost:
            server.give_back(slot)
        if ended.lost is not None:
            self.warn(f"job {handle.job.num}: {ended.lost}")
        is_function = handle.work.function is not None
        report = _report(ended, Path(start.result)) if is_function else None
        kill = kills_before.since() if ended.status else OomKill.NONE
        return judge(ended, report, handle.stop, is_function=is_function, oom_kill=kill)

    def _check_record(self, handle: JobHandle) -> None:
        """Start nothing in a sweep that another launcher has taken. Raises NotWanted."""
        if handle.journal.lost:
            raise NotWanted(Stop(JobState.CANCELLED, handle.journal.lost))

    def _prepare(self, handle: JobHandle) -> Start:
        """Make the job's directories, and say how to start it."""
        job, paths = handle.job, handle.journal.paths
        env = {
            "HSM_SWEEP_ID": handle.journal.sweep_id,
            "HSM_SWEEP_DIR": str(paths.sweep_dir),
            "HSM_JOB_ID": job.job_id,
            "HSM_JOB_NUM": str(job.num),
            "HSM_ATTEMPT": str(len(job.attempts) + 1),
            **variables(job.params, handle.journal.shelf),
            "TMPDIR": str(self.scratch.make(job.num)),
        }
        if job.job_dir is not None:
            env["HSM_JOB_DIR"] = str(job.job_dir)
            try:
                os.mkdir(job.job_dir)
            except OSError:  # It is there, or what it is to be in is not.
                job.job_dir.mkdir(parents=True, exist_ok=True)
                unlink_logs(paths, job.job_dir)
        result = kept_reports.make_room(paths, job.num, len(job.attempts) + 1)
        return Start(
            env=env,
            root=str(paths.sweep_dir),
            stdout=str(paths.stdout(job.num)),
            stderr=str(paths.stderr(job.num)),
            cwd=handle.cwd,
            command=handle.work.command,
            argument=None,
            result=str(result),
            grace=self.conf.kill_grace,
            header=_header(len(job.attempts) + 1) if job.attempts else None,
        )

    def _for_server(self, handle: JobHandle, start: Start, server: ForkServer) -> Start:
        """`start` with what a function's job needs there: its argument, or what it execs instead.

        One server may be another's successor, and of the other kind.
        """
        work = handle.work
        if work.function is None:
            return start
        argument = reports.dumps(handle.argument)
        if argument is None:
            raise TypeError("its argument cannot be pickled")
        if server.carries_function:
            return replace(start, argument=argument)
        assert work.payload is not None
        path = self.scratch.path / f"argument-{handle.job.num}"
        path.write_bytes(argument)
        return replace(start, command=work.payload.command(path, Path(start.result)))

    def _launch(self, handle: JobHandle, start: Start) -> tuple[ForkServer, Slot]:
        """Find a slot and have it start the job."""
        while True:
            server, slot = self.servers.slot(handle.work)
            try:
                self.ledger.launch(handle, slot, self._for_server(handle, start, server))
                return server, slot
            except SlotLost:
                server.drop(slot)  # It died while idle: nothing is lost, take another.
            except BaseException:  # NotWanted, say
                server.give_back(slot)
                raise

    def _started(self, handle: JobHandle, started: Started) -> None:
        self.ledger.started(handle, started.pid)
        # What earlier attempts have written was shown when they did.
        stdout, stderr = started.log_sizes
        self.output.add(handle.job, handle.journal.paths, stdout_start=stdout, stderr_start=stderr)
        self._record(handle, "start")
        self.tell("job_started", handle.job)

    def _watch(self, handle: JobHandle, slot: Slot, pid: int) -> Ended:
        """Wait for the end of a job, while its limits hold."""
        self.limits.watch(pid)
        try:
            ended = self._wait(handle, slot)
        finally:
            handle.seconds = time.monotonic() - handle.began
            peak = self.limits.peak(pid)
        return replace(ended, max_memory=max(ended.max_memory, peak))

    def _wait(self, handle: JobHandle, slot: Slot) -> Ended:
        """Wait for the end of a job, and end it when its time is over."""
        began = handle.began
        while True:
            limit = self.limits.timeout()
            ended = slot.ended(self._next_look(began, limit))
            if ended is not None:
                return ended
            if limit is not None and time.monotonic() >= began + limit[0]:
                self.ledger.end(handle, Stop(JobState.TIMEOUT, limit[1]), self.conf.kill_grace)
                ended = slot.ended(None)
                assert ended is not None
                return ended

    def _next_look(self, began: float, limit: tuple[float, str] | None) -> float | None:
        """When to think again about a job that still runs, in monotonic seconds."""
        looks = [] if limit is None else [began + limit[0]]
        if self.limits.timeout_may_change:
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
        self.scratch.clean(job.num)
        if not self.ledger.retried(handle, ending):
            return False
        if self._record(handle, "retry"):
            kept_reports.drop(handle.journal.paths, job)
        self.tell("job_retried", job, delay)
        self.retry_later(handle, delay)
        return True

    def _start_anyway(self, handle: JobHandle, ending: Ending) -> None:
        """A job that hsm failed to give a process has had an attempt nevertheless."""
        if handle.job.state is JobState.PENDING and ending.state is not JobState.CANCELLED:
            self.ledger.started(handle, None)
            self._record(handle, "start")

    def _end(self, handle: JobHandle, ending: Ending, recorded: bool) -> None:
        job = handle.job
        self.output.remove(job)
        self.scratch.clean(job.num)
        self.ledger.ended(handle, ending)
        _link_logs(handle)
        if not recorded and self._record(handle, "end") and handle.work.function is not None:
            kept_reports.keep(handle.journal.paths, job)
        if ending.state is JobState.COMPLETED and ending.reason is not None:
            self.warn(f"job {job.num}: {ending.reason}")  # Its value is lost.
        large = ending.large.get("value")
        if large is not None and large.lost is not None:
            self.warn(f"job {job.num}: its return value {large.why_not}; result() has it")
        self.tell("job_ended", job)
        if ending.state is JobState.COMPLETED:
            self.limits.completed(handle.seconds)
        reason = self.stops.note(job.num, ending.state)
        if reason is not None:
            self.stop(reason)

    def _record(self, handle: JobHandle, event: str) -> bool:
        """Write to the journal; whether it is there.

        A disk that does not take it is reported, and the sweep goes on.
        """
        journal = handle.journal
        was_behind = journal.is_behind
        try:
            handle.work.record_start(journal)  # of a server that was replaced
            for loss in getattr(journal, event)(handle.job):
                self.warn(loss)
        except JournalLost:
            pass  # The source was told, and stops.
        except OSError as error:
            if not was_behind:  # Told once: it may last, and each job has several records.
                self.warn(f"cannot write {journal.paths.journal}: {error.strerror}")
        else:
            return True
        return False


def _job_lost(server: ForkServer, error: SlotLost) -> JobLost:
    if isinstance(error, KeeperStuck):
        return JobLost(str(error))
    who = "its keeper" if server.is_alive() else "the fork server"
    return JobLost(f"{who} was killed, and the job with it")


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


def _header(attempt: int) -> str:
    return f"---- attempt {attempt}, {time.strftime('%Y-%m-%d %H:%M:%S')} ----"
