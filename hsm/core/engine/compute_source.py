"""The interface of whatever runs jobs, and of whoever watches them.

A source is asynchronous inside: submitting never blocks and a job's end is an event; `wait` only
waits for it.

    submit_jobs --> PENDING --> RUNNING --> ended --> SweepObserver.job_ended
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from hsm.core.record.job import Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.settings.resolve import SweepConf

_Source = TypeVar("_Source", bound="ComputeSource")
_Display = TypeVar("_Display", bound="SweepDisplay")


@dataclass(frozen=True)
class RunningJob:
    """What can be seen of a job while it runs.

    Attributes:
        num, label: the job's.
        elapsed: seconds since it started.
        cpu_percent: of one core, over the whole process tree; None until it was sampled twice.
        memory: resident bytes of the whole process tree; None until it was sampled.
        last_line: the last line that it printed.
        job_id: the job's; tells it from the jobs of other sweeps. Empty if the source has no ids.
    """

    num: int
    label: str
    elapsed: float
    cpu_percent: float | None = None
    memory: int | None = None
    last_line: str = ""
    job_id: str = ""

    @classmethod
    def of(cls, job: Job, usage: tuple[float | None, int | None], last_line: str) -> RunningJob:
        """What `job` does now, with its `cpu_percent` and `memory`."""
        now = time.time()
        elapsed = max(0.0, now - (job.attempts[-1].started or now))
        return cls(job.num, job.label, elapsed, *usage, last_line, job.job_id)


class SweepObserver:
    """Is told what happens in a sweep. Every method is a no-op here.

    The methods are called from any thread, never under a lock of the source. What they raise is
    logged, once for each observer, and changes nothing for the jobs.
    """

    def jobs_submitted(self, jobs: Sequence[Job]) -> None:
        """`jobs` wait for a slot."""

    def job_started(self, job: Job) -> None:
        """`job` has a process."""

    def job_output(self, job: Job, stream: str, line: str) -> None:
        """`job` printed `line` on `stream`, "stdout" or "stderr".

        The line comes without its newline, and only with show_output.
        """

    def job_retried(self, job: Job, delay: float) -> None:
        """An attempt of `job` has failed; the next one comes in `delay` seconds."""

    def job_ended(self, job: Job) -> None:
        """`job` is in a final state."""

    def message(self, text: str) -> None:
        """A one-line notice for the person who watches."""

    @property
    def shows_messages(self) -> bool:
        """Whether somebody sees what `message` is told; if nobody does, warnings are logged."""
        return type(self).message is not SweepObserver.message


class SweepDisplay(SweepObserver):
    """Shows a sweep: live inside its `with` block, with a summary for the end. Nothing here."""

    def __enter__(self: _Display) -> _Display:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Nothing is live any more."""

    def summary(self) -> None:
        """Tell what became of the sweep."""


class ComputeSource(ABC):
    """Runs the jobs of sweeps.

    A source of one's own has to have the abstract methods; what else it has is shown, and used to
    end its jobs sooner. As a context manager it waits at the end for all its jobs, or cancels them
    if an exception leaves the block.
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
        resume: bool | None = None,
    ) -> list[str]:
        """Queue one job per parameter combination; returns their ids at once, in order.

        Args:
            param_combinations: each job's parameters, by name; JSON must hold them.
            sweep_id: the sweep's id; more jobs may be submitted to a sweep of this source.
            sweep_dir: the sweep's directory, made if missing.
            function: called with a job's parameters; its return value is the job's result.
            command: or what to exec, a list of words (or one line, split into words); in it
                ``{name}`` is a parameter, ``{job_dir}`` the job's directory, ``{{`` a brace.
                Nothing goes through a shell.
            script: or a script, which gets the parameters as arguments ``name=value``.
            resume: go on with the sweep in `sweep_dir`, if there is one: jobs are known by their
                parameters, and those that completed do not run again. By default, the setting.

        If none of the three is given, here or to the constructor, hsm.yaml says what jobs run.

        Raises:
            SettingsError: nothing or too much says what jobs run; parameters that JSON cannot hold;
                an id that is none; `sweep_dir` holds an earlier sweep.
            SweepInUse: another launcher works in `sweep_dir`.
            HsmError: the source is closed or was stopped.
        """

    @abstractmethod
    def get_job_status(self, job_id: str) -> JobState:
        """The state of a job of this source; raises KeyError for any other."""

    @abstractmethod
    def wait(
        self, job_ids: Sequence[str] | None = None, timeout: float | None = None
    ) -> dict[str, JobState]:
        """Wait until the jobs (all of them by default) have ended, or `timeout` seconds are over.

        Returns each one's state by then.
        """

    @abstractmethod
    def cancel_job(self, job_id: str) -> bool:
        """End a job; False if it had ended already."""

    @abstractmethod
    def close(self, *, cancel: bool = False) -> None:
        """Wait for all jobs (`cancel`: end them) and free what the source holds. Idempotent."""

    # What a source may have besides.

    @cached_property
    def conf(self) -> SweepConf:
        """The settings of its jobs, and of how they are shown."""
        return SweepConf()

    @cached_property
    def observers(self) -> list[SweepObserver]:
        """Who is told what happens, if the source tells; any thread may add or remove one."""
        return []

    def job(self, job_id: str) -> Job:
        """The job with this id, as it is now. Raises KeyError if the source has none to show."""
        raise KeyError(job_id)

    def jobs(self) -> list[Job]:
        """All jobs that were ever submitted here, in that order, as far as it can show them."""
        return []

    def paths(self, job_id: str) -> SweepPaths | None:
        """Where the sweep of a job lies; None if nothing can be shown of it. Raises KeyError."""
        return None

    def running(self) -> list[RunningJob]:
        """The jobs that run now, by number."""
        return []

    def stop(self, reason: str, *, grace: float | None = None) -> None:
        """Start no more jobs and end those that run. Returns at once; `wait` waits.

        May be called again to shorten the grace.

        Args:
            reason: one line, for the record.
            grace: seconds between SIGTERM and SIGKILL; the setting kill_grace by default.
        """
        for job in self.jobs():
            self.cancel_job(job.job_id)

    def when_ended(self, job_ids: Sequence[str] | None, callback: Callable[[], None]) -> list[str]:
        """Call `callback` once the jobs (None: all) have ended; perhaps at once.

        It is called from another thread or this one, and must not block. Returns the jobs' ids.
        """
        ids = [job.job_id for job in self.jobs()] if job_ids is None else list(job_ids)

        def wait() -> None:
            self.wait(ids)
            callback()

        threading.Thread(target=wait, daemon=True).start()
        return ids

    def __enter__(self: _Source) -> _Source:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        self.close(cancel=exc_type is not None)
