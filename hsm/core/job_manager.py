"""JobManager: a sweep from its parameters to its results, over any source.

    submit_sweep --> job ids --> monitor_jobs --> {job id: state} --> collect_results --> a table

What a sweep runs on is a source; nothing here knows which kinds there are.
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
from hsm.core.errors import SettingsError, shown
from hsm.core.record.job import Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep_id import check_sweep_id
from hsm.core.results.collect import Results, collect_results


class JobManager:
    """Submits sweeps, shows how they go, and collects what they gave.

    Args:
        display: makes the display of `monitor_jobs`; hsm's own by default.
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
        resume: bool | None = None,
    ) -> list[str]:
        """Queue one job per parameter combination; returns their ids at once, in order.

        Args:
            param_combinations: each job's parameters, by name.
            compute_source: what runs them.
            sweep_id: the sweep's id.
            sweep_dir: its directory, made if missing; one that holds an earlier sweep is refused,
                unless that is resumed.
            function, command, script: what jobs run, as for `LocalComputeSource.submit_jobs`; by
                default what the source was made for, or what hsm.yaml names.
            resume: go on with the sweep in `sweep_dir`, if there is one; by default, the source's
                setting.

        Raises:
            SettingsError: nothing says what jobs run, or something that was given is not possible.
            HsmError: the source takes no jobs, or another launcher works in `sweep_dir`.
        """
        check_sweep_id(sweep_id, "submit_sweep")
        options = {"function": function, "command": command, "script": script, "resume": resume}
        given: dict[str, Any] = {name: what for name, what in options.items() if what is not None}
        return compute_source.submit_jobs(param_combinations, sweep_id, sweep_dir, **given)

    def monitor_jobs(
        self, job_ids: Sequence[str], compute_source: ComputeSource
    ) -> dict[str, JobState]:
        """Show progress until all these jobs have ended; returns each one's state.

        Ctrl-C ends the jobs, in good order, and then leaves as KeyboardInterrupt.

        Raises:
            SettingsError: a job is not one of this source.
        """
        ids = list(dict.fromkeys(job_ids))
        for job_id in ids:
            _check(job_id, compute_source)
        guard = partial(_ended_if_interrupted, ids, compute_source)
        with guard():
            for sweep_dir, group in _by_sweep(ids, compute_source).items():
                if sweep_dir is None:
                    compute_source.wait(group)
                    continue
                paths = SweepPaths(sweep_dir)
                with _shown(group, compute_source, paths, self._display, guard):
                    compute_source.wait(group)
        return {job_id: compute_source.get_job_status(job_id) for job_id in ids}

    def collect_results(self, sweep_dir: str | Path) -> Results:
        """What the jobs of a sweep gave so far; see `hsm.core.results.collect.collect_results`."""
        return collect_results(sweep_dir)


def _check(job_id: str, source: ComputeSource) -> None:
    try:
        source.get_job_status(job_id)
    except KeyError:
        allowed = "the id of a job of that source"
        message = f"monitor_jobs: that source has no job {shown(job_id)}"
        raise SettingsError("job_ids", job_id, "monitor_jobs", allowed, message=message) from None


@contextmanager
def _ended_if_interrupted(ids: Sequence[str], source: ComputeSource) -> Iterator[None]:
    """Whatever interrupts the block ends these jobs, those that have not ended yet."""
    try:
        yield
    except BaseException:
        # The last ones first: so no job that waits gets a slot because another was ended.
        for job_id in reversed(ids):
            source.cancel_job(job_id)
        source.wait(ids)
        raise


def _by_sweep(ids: Sequence[str], source: ComputeSource) -> dict[Path | None, list[str]]:
    """The jobs of each sweep, by its directory: a display shows one. None: none can be shown."""
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
    """Show these jobs of one sweep while the block runs, and a summary after it.

    Args:
        guard: a block that ends the jobs if it is interrupted, which is shown as well.
    """
    jobs = [source.job(job_id) for job_id in ids]
    known = set(ids)

    def running() -> list[RunningJob]:
        return [seen for seen in source.running() if seen.job_id in known]

    title = jobs[0].job_id.rpartition("_")[0]
    display = display_of(source, paths, title, make=make, running=running)
    observer = _OfJobs(known, display)
    # Observe first, then say what is known: an end in between is told twice and counted once.
    source.observers.append(observer)
    try:
        with guard():
            display.jobs_submitted(jobs)
            for job in jobs:
                if job.state is JobState.RUNNING:  # Since before anybody watched.
                    observer.job_started(job)
            with display, guard():
                yield
    finally:
        source.observers.remove(observer)
        display.summary()


class _OfJobs(SweepObserver):
    """Passes on what concerns some jobs of a source, and each start once."""

    def __init__(self, ids: set[str], display: SweepDisplay) -> None:
        self._ids = ids
        self._display = display
        self._mutex = threading.Lock()  # guards the next one
        self._attempts: dict[str, int] = {}  # the latest whose start was told, by job id

    def job_started(self, job: Job) -> None:
        if job.job_id not in self._ids:
            return
        attempt = len(job.attempts)
        with self._mutex:
            is_news = self._attempts.get(job.job_id, 0) < attempt
            self._attempts[job.job_id] = attempt
        if is_news:
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

    def message(self, text: str) -> None:
        self._display.message(text)

    @property
    def shows_messages(self) -> bool:
        return bool(getattr(self._display, "shows_messages", True))
