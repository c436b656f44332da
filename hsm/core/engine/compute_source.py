"""The interfaces of sources, which run jobs, and of observers, which watch them.

A source is asynchronous inside: submitting never blocks, a job's end is an event, and `wait` just
waits for that event.

    submit_jobs --> PENDING --> RUNNING --> ended --> SweepObserver.job_ended
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from hsm.core.errors import HsmError
from hsm.core.record.job import Job, JobState
from hsm.core.record.metrics import Measured, Value
from hsm.core.record.paths import SweepPaths
from hsm.core.settings.resolve import UNSET, SweepConf

_Source = TypeVar("_Source", bound="ComputeSource")
_Display = TypeVar("_Display", bound="SweepDisplay")


@dataclass(frozen=True)
class RunningJob:
    """A running job, as a display shows it.

    Attributes:
        num, label: the job's.
        elapsed: seconds since the job started.
        cpu_percent: percent of one core, over the whole process tree; None until sampled twice.
        memory: resident bytes of the whole process tree; None until sampled.
        last_line: the last line that the job printed.
        job_id: the job's id, which is unique across sweeps. Empty if the source has no ids.
        params: the job's parameters; None if they are unknown, or too many to be held in memory.
        step: the last step that the job has reported; None if there is none.
        reported: the last values that it has reported, by name.
        gpus: the GPUs that hsm has given it: their numbers or own names; empty if it has none.
        gpu_memory: the most bytes that it was seen to have on one of them; None: unknown.
    """

    num: int
    label: str
    elapsed: float
    cpu_percent: float | None = None
    memory: int | None = None
    last_line: str = ""
    job_id: str = ""
    params: Mapping[str, Any] | None = field(default=None, compare=False)
    step: int | None = None
    reported: Mapping[str, Value] = field(default_factory=dict)
    gpus: tuple[int | str, ...] = ()
    gpu_memory: int | None = None

    @classmethod
    def of(
        cls,
        job: Job,
        elapsed: float,
        usage: tuple[float | None, int | None],
        last_line: str,
        measured: Measured | None = None,
        gpus: tuple[int | str, ...] = (),
        gpu_memory: int | None = None,
    ) -> RunningJob:
        """`job` as of now; `usage` is its `cpu_percent` and `memory`."""
        held = job.held_params
        params = held if isinstance(held, dict) else None
        its = (job.num, job.label, elapsed, *usage, last_line, job.job_id, params)
        if measured is None:
            return cls(*its, gpus=gpus, gpu_memory=gpu_memory)
        return cls(*its, measured.step, measured.latest, gpus, gpu_memory)


class SweepObserver:
    """Receives the events of a sweep. Every method is a no-op here.

    The source may call the methods from any thread, and never holds a lock of its own meanwhile.
    An exception from a method is logged, once per observer, and does not affect the jobs.
    """

    def sweep_begun(self, facts: Mapping[str, Any], earlier: Sequence[Job]) -> None:
        """A sweep begins, or goes on.

        Args:
            facts: what its launcher recorded: its settings, how its points were chosen.
            earlier: its jobs that have ended already, and will not run again.
        """

    def jobs_submitted(self, jobs: Sequence[Job]) -> None:
        """`jobs` are waiting for a slot."""

    def jobs_to_come(self, count: int | None) -> None:
        """So many jobs will be submitted later; None: some will, and nobody knows how many."""

    def job_started(self, job: Job) -> None:
        """`job` has a process."""

    def job_output(self, job: Job, stream: str, line: str) -> None:
        """`job` printed `line` on `stream`, "stdout" or "stderr".

        The line has no newline. Called only with show_output.
        """

    def job_retried(self, job: Job, delay: float) -> None:
        """An attempt of `job` has failed; the next one starts in `delay` seconds."""

    def job_ended(self, job: Job) -> None:
        """`job` is in a final state."""

    def jobs_ended(self, jobs: Sequence[Job]) -> None:
        """`jobs`, maybe very many, have ended without being started: the source was stopped.

        By default, calls `job_ended` for each of them.
        """
        for job in jobs:
            self.job_ended(job)

    def sweep_paused(self, is_paused: bool) -> None:
        """No more jobs start until this is called again, with False."""

    def message(self, text: str) -> None:
        """A one-line notice for the person watching."""

    @property
    def shows_messages(self) -> bool:
        """Whether people see what `message` gets; if no observer shows it, warnings are logged."""
        return type(self).message is not SweepObserver.message


class SweepDisplay(SweepObserver):
    """Shows a sweep: live inside its `with` block, then a summary. A no-op here."""

    def __enter__(self: _Display) -> _Display:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop the live display."""

    def summary(self) -> None:
        """Show how the sweep ended."""


class ComputeSource(ABC):
    """Runs the jobs of sweeps.

    To write your own source, implement the abstract methods; the others are optional, and let hsm
    show more and end jobs sooner. As a context manager a source waits for all its jobs at the end
    of the block, or cancels them if an exception leaves it.
    """

    @abstractmethod
    def submit_jobs(
        self,
        param_combinations: Sequence[Mapping[str, Any]],
        sweep_id: str,
        sweep_dir: str | Path,
        *,
        function: Callable[[Any], Any] | None = None,
        command: str | Sequence[str] | None = None,
        script: str | os.PathLike[str] | None = None,
        args_style: str | None = None,
        resume: bool | None = None,
    ) -> list[str]:
        """Queue one job per parameter combination; returns their ids at once, in order.

        If neither this call nor the constructor gets a function, command or script, hsm.yaml names
        what jobs run.

        Args:
            param_combinations: each job's parameters, by name; must be representable in JSON. The
                value of the key ``_needs_`` is what the job needs of the setting `resources`.
            sweep_id: the sweep's id. More jobs may be submitted later to a sweep of this source.
            sweep_dir: the sweep's directory, made if missing.
            function: called with a job's parameters; its return value is the job's result.
            command: what to exec instead: a list of words, or one line that is split into words.
                ``{name}`` stands for a parameter, ``{job_dir}`` for the job's directory, ``{gpu}``
                for its GPUs (``1,3``), ``{slot}`` for its place among the running jobs, ``{port}``
                for a free TCP port, ``{{`` for a brace. No shell is involved.
            script: a script to run instead; gets the parameters as arguments.
            args_style: how, and what ``{args}`` in a command stands for: "hydra" (``lr=0.1``),
                "flags" (``--lr 0.1``), "flags-equals" (``--lr=0.1``), "none", or "auto" (as the
                script's source shows). Default: hsm.yaml's beside its own script, else "auto".
            resume: resume the sweep in `sweep_dir`, if there is one: jobs are matched by their
                parameters, and completed ones do not run again. Default: the setting.

        Raises:
            SettingsError: it is unclear what jobs run (nothing or several things given), JSON
                cannot represent a parameter, the id is invalid, or `sweep_dir` holds an earlier
                sweep.
            SweepInUse: another launcher is using `sweep_dir`.
            HsmError: the source is closed or stopped, or has a sweep of this id elsewhere.
        """

    @abstractmethod
    def get_job_status(self, job_id: str) -> JobState:
        """The state of a job of this source. Raises KeyError for any other job."""

    @abstractmethod
    def wait(
        self, job_ids: Sequence[str] | None = None, timeout: float | None = None
    ) -> dict[str, JobState]:
        """Wait until the jobs (default: all) have ended, but at most `timeout` seconds.

        Returns each job's state at that point.
        """

    @abstractmethod
    def cancel_job(self, job_id: str) -> bool:
        """End a job. Returns False if it had already ended."""

    @abstractmethod
    def close(self, *, cancel: bool = False) -> None:
        """Wait for all jobs (`cancel`: end them) and free what the source holds. Idempotent."""

    # The rest is optional.

    @cached_property
    def conf(self) -> SweepConf:
        """The settings for running and showing jobs."""
        return SweepConf()

    @cached_property
    def observers(self) -> list[SweepObserver]:
        """Who gets events, if the source sends any; any thread may add or remove one."""
        return []

    def job(self, job_id: str) -> Job:
        """The job with this id, as it is now. Raises KeyError if the source cannot show it."""
        raise KeyError(job_id)

    def jobs(self) -> list[Job]:
        """All jobs ever submitted here, in that order, as far as the source can show them."""
        return []

    def paths(self, job_id: str) -> SweepPaths | None:
        """The paths of a job's sweep; None if the source cannot show it. Raises KeyError."""
        return None

    def running(self) -> list[RunningJob]:
        """The jobs that are running, by number."""
        return []

    def stop(self, reason: str, *, grace: float | None = None) -> None:
        """Start no more jobs and end the running ones. Returns at once; `wait` waits.

        May be called again to shorten the grace.

        Args:
            reason: one line, for the journal.
            grace: seconds between SIGTERM and SIGKILL; default: the setting kill_grace.
        """
        for job in self.jobs():
            self.cancel_job(job.job_id)

    def when_ended(self, job_ids: Sequence[str] | None, callback: Callable[[], None]) -> list[str]:
        """Call `callback` once the jobs (None: all) have ended, which may be now.

        It is called from this thread or another, and must not block. Returns the jobs' ids.
        """
        ids = [job.job_id for job in self.jobs()] if job_ids is None else list(job_ids)

        def wait() -> None:
            try:
                self.wait(ids)
            finally:
                callback()

        threading.Thread(target=wait, daemon=True).start()
        return ids

    # --- changing what still runs ---

    def pause(self, *, running: bool = False) -> None:
        """Start no more jobs until `unpause`. Returns at once.

        Args:
            running: stop the processes of running jobs as well, and their time limits with them.

        Raises:
            HsmError: the source cannot do this.
        """
        raise HsmError("this source cannot be paused")

    def unpause(self) -> None:
        """End a pause; without one, does nothing.

        Raises:
            HsmError: the source cannot do this.
        """
        raise HsmError("this source cannot be paused")

    def change(
        self,
        *,
        max_parallel_jobs: int | str | None = None,
        timeout: float | None = UNSET,
        max_retries: int | None = None,
        gpu_ids: Sequence[int | str] | None = UNSET,
        now: bool = False,
    ) -> None:
        """Change settings while jobs run; what is not given stays. Returns at once.

        More parallel jobs start at once. If there are to be fewer, running ones are left to end.

        Args:
            max_parallel_jobs, timeout, max_retries: as the settings; `timeout` None is no limit.
            gpu_ids: the GPUs of jobs that start from now on, as the setting; None: all that there
                are. Needs jobs that hsm gives GPUs.
            now: do not wait for running jobs to end: those that started last, and are too many,
                are ended and queued again, which costs them no retry.

        Raises:
            SettingsError: a value is not allowed.
            HsmError: the source cannot do this.
        """
        raise HsmError("this source cannot change its settings")

    def set_priority(self, job_ids: Sequence[str], priority: int) -> None:
        """Give jobs another priority. Pending jobs of a higher one start first; 0 is usual.

        Raises:
            KeyError: no such job; then no priority has changed.
            HsmError: the source cannot do this.
        """
        raise HsmError("this source has no priorities")

    def cancel_pending(self) -> int:
        """Cancel all jobs that wait, also those for a retry; returns how many these were.

        Raises:
            HsmError: the source cannot do this.
        """
        raise HsmError("this source cannot cancel pending jobs only")

    def explain(self, job_id: str | None = None) -> list[str]:
        """What a pending job waits for, as lines for people; None: all of them, in short.

        Raises:
            KeyError: no such job.
            HsmError: the source cannot do this.
        """
        raise HsmError("this source cannot explain what its jobs wait for")

    def __enter__(self: _Source) -> _Source:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        self.close(cancel=exc_type is not None)
