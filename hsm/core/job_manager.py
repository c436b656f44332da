"""JobManager: takes a sweep from its parameters to its results, on any kind of source.

    submit_sweep --> job ids --> monitor_jobs --> {job id: state} --> collect_results --> a table

It knows no particular kind of source.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hsm.core.engine.compute_source import ComputeSource, RunningJob, SweepDisplay, SweepObserver
from hsm.core.engine.display_hook import DisplayFactory, display_of
from hsm.core.engine.interrupts import Interruption, Interrupts, deferred
from hsm.core.errors import SettingsError, shown
from hsm.core.record.job import Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep_id import check_sweep_id
from hsm.core.results.collect import collect_results
from hsm.core.results.results_table import Results


class JobManager:
    """Submits sweeps, shows their progress, and collects their results.

    Args:
        display: makes the display for `monitor_jobs`; default: hsm's own.
    """

    def __init__(self, *, display: DisplayFactory | None = None) -> None:
        self._display = display

    def submit_sweep(
        self,
        param_combinations: Sequence[Mapping[str, Any]],
        compute_source: ComputeSource,
        sweep_id: str,
        sweep_dir: str | Path,
        *,
        function: Callable[[Any], Any] | None = None,
        command: str | Sequence[str] | None = None,
        script: str | os.PathLike[str] | None = None,
        args_style: str | None = None,
        resume: bool | None = None,
    ) -> list[str]:
        """Queue one job per parameter combination; return their ids at once, in order.

        What jobs run is given by `function`, `command` or `script`, as in
        `LocalComputeSource.submit_jobs`; by default, it is what the source was made for, or what
        hsm.yaml names.

        Args:
            param_combinations: each job's parameters, by name.
            compute_source: runs the jobs.
            sweep_id: the sweep's id.
            sweep_dir: the sweep's directory, made if missing. If it holds an earlier sweep, that
                must be resumed.
            function, command, script, args_style: what jobs run, see
                `LocalComputeSource.submit_jobs`; default: what the source was made with, or what
                hsm.yaml names.
            resume: resume the sweep in `sweep_dir`, if there is one; default: the source's
                setting.

        Raises:
            SettingsError: nothing says what jobs run, or an argument is invalid.
            HsmError: the source takes no jobs, or another launcher is using `sweep_dir`.
        """
        check_sweep_id(sweep_id, "submit_sweep")
        options = {
            "function": function,
            "command": command,
            "script": script,
            "args_style": args_style,
            "resume": resume,
        }
        given: dict[str, Any] = {
            name: value for name, value in options.items() if value is not None
        }
        return compute_source.submit_jobs(param_combinations, sweep_id, sweep_dir, **given)

    def monitor_jobs(
        self, job_ids: Sequence[str], compute_source: ComputeSource
    ) -> dict[str, JobState]:
        """Show progress until all these jobs have ended; return each one's state.

        In the main thread, Ctrl-C, SIGTERM and SIGHUP end the jobs gracefully, and a second signal
        at once; then the signal has its usual effect: Ctrl-C raises KeyboardInterrupt.

        Raises:
            SettingsError: a job does not belong to this source.
            KeyboardInterrupt: on Ctrl-C.
            SystemExit: on SIGTERM or SIGHUP, unless the program handles them.
        """
        # First of all, so that from here on no signal leaves the jobs running.
        with deferred() as interrupts:
            ids = list(dict.fromkeys(job_ids))
            for job_id in ids:
                _check(job_id, compute_source)
            monitored = _Monitored(ids, compute_source)
            guard = partial(_cancel_on_error, monitored, interrupts)
            with guard():
                for sweep_dir, group in _by_sweep(ids, compute_source).items():
                    if sweep_dir is None:
                        interrupts.wait(monitored, group)
                        continue
                    paths = SweepPaths(sweep_dir)
                    with _shown(group, compute_source, paths, self._display, guard):
                        interrupts.wait(monitored, group)
        return {job_id: compute_source.get_job_status(job_id) for job_id in ids}

    def collect_results(self, sweep_dir: str | Path) -> Results:
        """The results of a sweep so far; see `hsm.core.results.collect.collect_results`."""
        return collect_results(sweep_dir)


def _check(job_id: str, source: ComputeSource) -> None:
    try:
        source.get_job_status(job_id)
    except KeyError:
        allowed = "the id of a job of that source"
        message = f"monitor_jobs: that source has no job {shown(job_id)}"
        raise SettingsError("job_ids", job_id, "monitor_jobs", allowed, message=message) from None


class _Monitored:
    """Some jobs of a source, which a signal ends together with all others of it."""

    def __init__(self, ids: Sequence[str], source: ComputeSource) -> None:
        self.ids = ids
        self.interruption: Interruption | None = None
        self._source = source

    def when_ended(self, job_ids: Sequence[str] | None, callback: Callable[[], None]) -> object:
        return self._source.when_ended(job_ids, callback)

    def interrupt(self, interruption: Interruption) -> None:
        grace = None if self.interruption is None else 0.0
        self.interruption = self.interruption or interruption
        self._source.stop(interruption.reason, grace=grace)
        self.cancel()  # A source need not know how to stop.

    def cancel(self) -> None:
        # Last ones first, so that no waiting job gets the slot of one that was just ended.
        for job_id in reversed(self.ids):
            self._source.cancel_job(job_id)


@contextmanager
def _cancel_on_error(monitored: _Monitored, interrupts: Interrupts) -> Iterator[None]:
    """Cancel these jobs if an exception, such as a display's, leaves the block."""
    try:
        yield
    except BaseException:
        monitored.cancel()
        interrupts.wait(monitored, monitored.ids)
        raise


def _by_sweep(ids: Sequence[str], source: ComputeSource) -> dict[Path | None, list[str]]:
    """The jobs by their sweep's directory, as a display shows one sweep. None: cannot be shown."""
    groups: dict[Path | None, list[str]] = {}
    for job_id in ids:
        paths = source.paths(job_id)
        groups.setdefault(None if paths is None else paths.sweep_dir, []).append(job_id)
    return groups


@contextmanager
def _shown(
    ids: Sequence[str],
    source: ComputeSource,
    paths: SweepPaths,
    make: DisplayFactory | None,
    guard: Callable[[], AbstractContextManager[None]],
) -> Iterator[None]:
    """Show these jobs of one sweep during the block, and a summary after it.

    Args:
        ids: the jobs.
        source: runs them.
        paths: their sweep's.
        make: makes the display; None for hsm's own.
        guard: a context that cancels the jobs on an error; used inside, so that this shows, too.
    """
    jobs = [source.job(job_id) for job_id in ids]
    known = set(ids)

    def running() -> list[RunningJob]:
        return [seen for seen in source.running() if seen.job_id in known]

    title = jobs[0].job_id.rpartition("_")[0]
    display = display_of(source, paths, title, make=make, running=running)
    observer = _JobFilter(known, display)
    # Observe first, then send the current state: an end in between is sent twice, counted once.
    source.observers.append(observer)
    try:
        with guard():
            display.jobs_submitted(jobs)
            for job in jobs:
                if job.state is JobState.RUNNING:  # It started before we were observing.
                    observer.job_started(job)
            with display, guard():
                yield
    finally:
        source.observers.remove(observer)
        display.summary()


class _JobFilter(SweepObserver):
    """Passes on the events of some of a source's jobs, and each start only once."""

    def __init__(self, ids: set[str], display: SweepDisplay) -> None:
        self._ids = ids
        self._display = display
        self._mutex = threading.Lock()  # guards the next attribute
        self._attempts: dict[str, int] = {}  # by job id, the latest attempt passed on as started

    def job_started(self, job: Job) -> None:
        if job.job_id not in self._ids:
            return
        attempt = len(job.attempts)
        with self._mutex:
            is_new = self._attempts.get(job.job_id, 0) < attempt
            self._attempts[job.job_id] = attempt
        if is_new:
            self._display.job_started(job)

    def job_output(self, job: Job, stream: str, line: str) -> None:
        if job.job_id in self._ids:
            self._display.job_output(job, stream, line)

    def job_retried(self, job: Job, delay: float) -> None:
        if job.job_id in self._ids:
            self._display.job_retried(job, delay)

    def job_ended(self, job: Job) -> None:
        if job.job_id in self._ids:
            self._display.job_ended(job)

    def sweep_paused(self, is_paused: bool) -> None:
        self._display.sweep_paused(is_paused)

    def message(self, text: str) -> None:
        self._display.message(text)

    @property
    def shows_messages(self) -> bool:
        return bool(getattr(self._display, "shows_messages", True))
