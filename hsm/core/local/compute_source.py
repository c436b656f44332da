"""LocalComputeSource: the jobs of sweeps on this machine, so many at a time.

submit --> ThreadPoolExecutor: each thread looks after one job's process from start to end
(supervisor.py)
                |                    |                       |
             Servers/Slot         Journal             SweepObservers
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from hsm.core.compute_source import ComputeSource, RunningJob, SweepObserver
from hsm.core.config import UNSET, LocalConf, resolve_local
from hsm.core.errors import HsmError, JobFailed, SettingsError
from hsm.core.job import Job, JobState
from hsm.core.journal import Journal
from hsm.core.local import report as reports
from hsm.core.local.judgement import Stop
from hsm.core.local.ledger import JobHandle, Ledger
from hsm.core.local.output import OutputFollower
from hsm.core.local.scratch import Scratch
from hsm.core.local.servers import Servers, Work
from hsm.core.local.start_method import OWN_THREADS
from hsm.core.local.supervisor import Supervisor
from hsm.core.local.usage import UsageSampler
from hsm.core.lock import LockFile
from hsm.core.paths import SweepPaths


@dataclass(frozen=True)
class JobSpec:
    """A job to submit, for callers that number and describe their jobs themselves.

    Attributes:
        num: its number in the sweep.
        params: its parameters, for the record; JSON must hold them.
        label: one line that tells it from the others.
        argument: what its function is called with; picklable.
        makes_own_dir: its own process makes its directory, and reports which one.
    """

    num: int
    params: Mapping[str, Any]
    label: str
    argument: Any
    makes_own_dir: bool = False


@dataclass
class _SweepState:
    """What a source keeps of one sweep directory."""

    journal: Journal
    next_num: int = 0


class LocalComputeSource(ComputeSource):
    """Runs jobs as processes of this machine.

    An argument that is not given comes from hsm.yaml, then the environment (HSM_LOCAL_*), then the
    built-in default.

    Args:
        max_parallel_jobs: jobs that run at the same time.
        timeout: seconds that a job may take; None for no limit.
        show_output: tell observers every line that jobs print.
        cleanup_on_exit: remove jobs' temporary directories.
        start_method: "auto", "fork" or "spawn"; for jobs that are functions.
        kill_grace: seconds between SIGTERM and SIGKILL when a job is ended.
        fail_fast: end everything when a job fails.
        function: what jobs run if `submit_jobs` does not say: called with a job's parameters.
        command: or a command, as a list of arguments.
        observers: are told what happens.

    Raises:
        SettingsError: a setting is not what it may be.
    """

    def __init__(
        self,
        max_parallel_jobs: int = UNSET,
        timeout: float | None = UNSET,
        show_output: bool = UNSET,
        *,
        cleanup_on_exit: bool = UNSET,
        start_method: str = UNSET,
        kill_grace: float = UNSET,
        fail_fast: bool = UNSET,
        function: Callable[[Any], Any] | None = None,
        command: Sequence[str] | None = None,
        observers: Iterable[SweepObserver] = (),
    ) -> None:
        arguments = {
            "max_parallel_jobs": max_parallel_jobs,
            "timeout": timeout,
            "show_output": show_output,
            "cleanup_on_exit": cleanup_on_exit,
            "start_method": start_method,
            "kill_grace": kill_grace,
            "fail_fast": fail_fast,
        }
        given = {name: value for name, value in arguments.items() if value is not UNSET}
        self._set_up(resolve_local(given).conf, function, command, observers)

    @classmethod
    def from_conf(
        cls, conf: LocalConf, *, observers: Iterable[SweepObserver] = ()
    ) -> LocalComputeSource:
        """A source with settings that were resolved and checked already."""
        source = cls.__new__(cls)
        source._set_up(conf, None, None, observers)
        return source

    def _set_up(
        self,
        conf: LocalConf,
        function: Callable[[Any], Any] | None,
        command: Sequence[str] | None,
        observers: Iterable[SweepObserver],
    ) -> None:
        self.conf = conf
        self.observers = list(observers)
        self._default = (function, command)
        self._mutex = threading.RLock()  # guards the next two
        self._sweeps: dict[Path, _SweepState] = {}
        self._closed = False
        self._ledger = Ledger()
        self._scratch = Scratch(keep=not conf.cleanup_on_exit)
        self._servers = Servers(self._scratch, str(conf.start_method))
        self._output = OutputFollower(self._tell_output, every_line=conf.show_output)
        self._supervisor = Supervisor(
            conf, self._ledger, self._servers, self._scratch, self._output, self._tell
        )
        self._pool = ThreadPoolExecutor(
            conf.max_parallel_jobs, thread_name_prefix=f"{OWN_THREADS}slot"
        )
        self._sampler = UsageSampler()
        _open_sources.add(self)

    # --- submitting
    # -------------------------------------------------------------------------------------------------

    def submit_jobs(
        self,
        param_combinations: Sequence[Mapping[str, Any]],
        sweep_id: str,
        sweep_dir: str | Path,
        *,
        function: Callable[[Any], Any] | None = None,
        command: Sequence[str] | None = None,
    ) -> list[str]:
        """Queue one job per parameter combination; returns their ids at once, in order.

        Args:
            param_combinations: each job's parameters, by name; JSON must hold them.
            sweep_id: the sweep's id; more jobs may be submitted to a sweep of this source.
            sweep_dir: the sweep's directory, made if missing.
            function: called with a job's parameters; its return value is the job's result.
            command: or what to exec, as a list of arguments; nothing goes through a shell.

        Raises:
            SettingsError: neither or both of function and command, here or in the constructor;
                parameters that JSON cannot hold.
            SweepInUse: another launcher works in `sweep_dir`.
            HsmError: the source is closed or was stopped.
        """
        if function is None and command is None:
            function, command = self._default
        combinations = [dict(params) for params in param_combinations]
        for index, params in enumerate(combinations):
            _check_params(index, params)
        with self._mutex:
            state = self._sweeps.get(SweepPaths(sweep_dir).sweep_dir)
            first = state.next_num if state else 0
            specs = [
                JobSpec(first + index, params, label_of(params), params)
                for index, params in enumerate(combinations)
            ]
            return self.submit(specs, sweep_id, sweep_dir, function=function, command=command)

    def submit(
        self,
        specs: Sequence[JobSpec],
        sweep_id: str,
        sweep_dir: str | Path,
        *,
        function: Callable[[Any], Any] | None = None,
        command: Sequence[str] | None = None,
        lock: LockFile | None = None,
    ) -> list[str]:
        """As `submit_jobs`, for jobs that the caller has numbered and described.

        Args:
            lock: the sweep directory's, if the caller holds it; the source releases it.
        """
        _check_work(function, command)
        with self._mutex:
            stopped = self._ledger.stopped
            if self._closed or stopped is not None:
                raise HsmError(
                    f"this source takes no more jobs: {stopped.reason if stopped else 'it is closed'}"
                )
            # First of all, as a function's server is forked from here and there should be no
            # threads yet.
            work = self._servers.prepare(function, tuple(command) if command is not None else None)
            state = self._sweep(sweep_id, SweepPaths(sweep_dir), lock)
            handles = [self._handle(spec, sweep_id, state, work) for spec in specs]
            state.journal.submit(handle.job for handle in handles)
        self._ledger.add(handles)
        self._tell("jobs_submitted", [handle.job for handle in handles])
        for handle in handles:
            handle.future = self._pool.submit(self._supervisor.run, handle)
        return [handle.job.job_id for handle in handles]

    def _sweep(
        self, sweep_id: str, paths: SweepPaths, lock: LockFile | None
    ) -> _SweepState:
        state = self._sweeps.get(paths.sweep_dir)
        if state is None:
            settings = {name: _plain(value) for name, value in asdict(self.conf).items()}
            journal = Journal(paths, sweep_id, settings, lock=lock)
            state = self._sweeps[paths.sweep_dir] = _SweepState(journal)
        elif state.journal.sweep_id != sweep_id:
            raise HsmError(
                f"{paths.sweep_dir} holds sweep {state.journal.sweep_id}, not {sweep_id}"
            )
        return state

    def _handle(self, spec: JobSpec, sweep_id: str, state: _SweepState, work: Work) -> JobHandle:
        job = Job(spec.num, f"{sweep_id}_{spec.num}", spec.label, dict(spec.params))
        if not spec.makes_own_dir:
            job.job_dir = state.journal.paths.job_dir(spec.num)
        state.next_num = max(state.next_num, spec.num + 1)
        return JobHandle(job, work, spec.argument, state.journal, os.getcwd())

    # --- asking
    # -----------------------------------------------------------------------------------------------------

    def get_job_status(self, job_id: str) -> JobState:
        return self._ledger[job_id].job.state

    def job(self, job_id: str) -> Job:
        """The job with this id, as it is now. Raises KeyError."""
        return self._ledger[job_id].job

    def jobs(self) -> list[Job]:
        """All jobs that were ever submitted here, in that order."""
        return [handle.job for handle in self._ledger.all()]

    def report(self, job_id: str) -> reports.Report | None:
        """What a function's process reported; None for a command, or if it did not get to that. Raises KeyError."""
        handle = self._ledger[job_id]
        return (
            reports.read(handle.journal.paths.result(handle.job.num))
            if handle.work.function
            else None
        )

    def result(self, job_id: str) -> Any:
        """Wait for a job and return what its function returned (None for a command).

        Raises:
            KeyError: no such job.
            JobFailed: the job did not complete; its cause is the job's own exception, if it raised
            one.
            Exception: whatever unpickling the value raises.
        """
        self.wait([job_id])
        handle = self._ledger[job_id]
        if handle.job.state is not JobState.COMPLETED:
            report = self.report(job_id)
            raise JobFailed(handle.job) from (report.load_error() if report else None)
        if handle.work.function is None:
            return None
        return reports.read_value(handle.journal.paths.result(handle.job.num))

    def running(self) -> list[RunningJob]:
        """The jobs that run now, by number. Samples CPU and memory about once a second at most."""
        jobs = [handle.job for handle in self._ledger.running()]
        usage = self._sampler.recent(
            {job.job_id: pid for job in jobs if (pid := job.attempts[-1].pid)}
        )
        now = time.time()
        found = []
        for job in jobs:
            elapsed = max(0.0, now - (job.attempts[-1].started or now))
            cpu, memory = usage.get(job.job_id, (None, None))
            last_line = self._output.last_line(job)
            found.append(RunningJob(job.num, job.label, elapsed, cpu, memory, last_line))
        return sorted(found, key=lambda running: running.num)

    # --- waiting and ending
    # -----------------------------------------------------------------------------------------

    def wait(
        self, job_ids: Sequence[str] | None = None, timeout: float | None = None
    ) -> dict[str, JobState]:
        ended = threading.Event()
        ids = self.when_ended(job_ids, ended.set)
        ended.wait(timeout)
        return {job_id: self._ledger[job_id].job.state for job_id in ids}

    def when_ended(self, job_ids: Sequence[str] | None, callback: Callable[[], None]) -> list[str]:
        """Call `callback` once the jobs (None: all) have ended; perhaps at once. Returns the jobs'
        ids.

        It is called from one of the source's threads and must not block.
        """
        return self._ledger.when_ended(job_ids, callback)

    def cancel_job(self, job_id: str) -> bool:
        handle = self._ledger[job_id]
        ended = self._ledger.end(
            handle, Stop(JobState.CANCELLED, "cancelled"), self.conf.kill_grace
        )
        if handle.future is not None and handle.future.cancel():
            self._supervisor.run(
                handle
            )  # It waits for a slot; let it end here instead of when it gets one.
        return ended

    def stop(self, reason: str, *, grace: float | None = None) -> None:
        """Start no more jobs and end those that run, with `grace` seconds (default kill_grace) to
        SIGKILL.

        Returns at once; `wait` waits. May be called again to shorten the grace.
        """
        grace = self.conf.kill_grace if grace is None else grace
        self._ledger.stop(Stop(JobState.CANCELLED, reason), grace)

    def close(self, *, cancel: bool = False) -> None:
        with self._mutex:
            if self._closed:
                return
            self._closed = True
        try:
            if cancel:
                self.stop("cancelled")
            self._pool.shutdown(wait=True)
        except BaseException:
            # A second Ctrl-C, say: no patience any more, but still nothing left behind.
            self.stop("cancelled", grace=0)
            self._pool.shutdown(wait=True)
            raise
        finally:
            self._free()

    def _free(self) -> None:
        stopped = self._ledger.stopped
        self._servers.close()
        self._output.stop()
        for state in self._sweeps.values():
            state.journal.close(stopped.reason if stopped else "finished")
        self._scratch.close()
        _open_sources.discard(self)

    def _tell(self, event: str, *arguments: Any) -> None:
        for observer in self.observers:
            getattr(observer, event)(*arguments)

    def _tell_output(self, job: Job, stream: str, line: str) -> None:
        self._tell("job_output", job, stream, line)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def label_of(params: Mapping[str, Any]) -> str:
    """One line for a job with these parameters: ``lr=0.1 model=svm``."""
    return " ".join(f"{key}={value}" for key, value in params.items())


def _check_work(function: object, command: object) -> None:
    if (function is None) == (command is None):
        what = "nothing" if function is None else "both"
        allowed = "either function= (a callable) or command= (a list of arguments)"
        raise SettingsError("function, command", what, "submit_jobs", allowed)
    if function is not None and not callable(function):
        raise SettingsError("function", function, "submit_jobs", "a callable")
    if command is not None:
        is_list = isinstance(command, Sequence) and not isinstance(command, (str, bytes))
        if not (is_list and command and all(isinstance(word, str) for word in command)):  # type: ignore[arg-type,attr-defined]
            raise SettingsError(
                "command", command, "submit_jobs", "a list of arguments, each a string"
            )


def _check_params(index: int, params: Mapping[str, Any]) -> None:
    try:
        json.dumps(params)
    except (TypeError, ValueError) as error:
        origin = f"submit_jobs, combination {index}"
        raise SettingsError(
            "param_combinations", params, origin, f"values that JSON can hold ({error})"
        ) from error


# Sources that nobody has closed. When this runs, the interpreter has waited for the pools' threads,
# and so for all jobs.
_open_sources: weakref.WeakSet[LocalComputeSource] = weakref.WeakSet()


@atexit.register
def _close_sources() -> None:
    for source in list(_open_sources):
        source.close()
