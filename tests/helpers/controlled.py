"""A sweep in this process that can be asked for anything, and notes what it was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.reliability import Recorder
from hsm.core.engine.compute_source import ComputeSource
from hsm.core.engine.control import Controller
from hsm.core.engine.interrupts import Interruption
from hsm.core.errors import HsmError
from hsm.core.record.controls import Add
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.listener import Listener
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import register
from hsm.core.settings.resolve import UNSET


class Bare(ComputeSource):
    """A source that can do what every source must, and notes it."""

    def __init__(self, jobs: int = 3) -> None:
        self.calls: list[Any] = []
        self.interruptions: list[Interruption] = []
        self.states = {f"s_{num}": JobState.PENDING for num in range(jobs)}

    def submit_jobs(self, *args: Any, **kwargs: Any) -> list[str]:
        return list(self.states)

    def get_job_status(self, job_id: str) -> JobState:
        return self.states[job_id]

    def wait(
        self, job_ids: Sequence[str] | None = None, timeout: float | None = None
    ) -> dict[str, JobState]:
        return self.states

    def cancel_job(self, job_id: str) -> bool:
        self.calls.append(("cancel", job_id))
        return True

    def close(self, *, cancel: bool = False) -> None:
        pass


class Able(Bare):
    """One that can do all, and notes it."""

    def pause(self, *, running: bool = False) -> None:
        self.calls.append(("pause", running))

    def unpause(self) -> None:
        self.calls.append("unpause")

    def change(
        self,
        *,
        max_parallel_jobs: int | str | None = None,
        timeout: float | None = UNSET,
        max_retries: int | None = None,
        gpu_ids: Sequence[int | str] | None = UNSET,
        now: bool = False,
    ) -> None:
        given = () if gpu_ids is UNSET else (gpu_ids,)
        self.calls.append((max_parallel_jobs, timeout, max_retries, *given, now))

    def set_priority(self, job_ids: Sequence[str], priority: int) -> None:
        for job_id in job_ids:
            self.states[job_id]
        self.calls.append((list(job_ids), priority))

    def cancel_pending(self) -> int:
        return len(self.states)

    def explain(self, job_id: str | None = None) -> list[str]:
        if job_id is not None:
            self.states[job_id]
        return [f"{job_id or 'all'} waits for a place"]


def adds_nothing(paths: SweepPaths, asked: Add, record: Callable[[Add], None]) -> list[str]:
    """What a `Controller` needs to add jobs."""
    raise HsmError(f"nothing to add of {asked.overrides}")


@contextmanager
def launched(folder: Path, source: Bare, sweep_id: str = "s") -> Iterator[Journal]:
    """A sweep whose launcher this process is: it holds the lock and listens to requests.

    Its first job has ended and its second is running, unless the source has fewer jobs.
    """
    paths = SweepPaths(folder)
    journal = Journal(paths, sweep_id, {})
    register(sweep_id, paths.sweep_dir)
    nums = range(len(source.states))
    jobs = [Job(num, f"{sweep_id}_{num}", f"x={num}", {"x": num}) for num in nums]
    journal.submit(jobs)
    for job, state in zip(jobs, (JobState.COMPLETED, JobState.RUNNING), strict=False):
        job.start(1.0, 1)
        journal.start(job)
        if state.is_final:
            job.end(2.0, Ending(state, exit_code=0))
            journal.end(job)
    controller = Controller(
        source, lambda: [journal], source.interruptions.append, Recorder(), adds_nothing
    )
    listener = Listener(controller.take, "listener")
    listener.add(paths)
    try:
        yield journal
    finally:
        listener.stop()
        journal.close("finished")


def control_records(sweep_dir: Path) -> list[dict[str, Any]]:
    """The journal's records of requests, without their times."""
    lines = map(json.loads, SweepPaths(sweep_dir).journal.read_text().splitlines())
    return [
        {name: value for name, value in line.items() if name not in ("event", "time")}
        for line in lines
        if line["event"] == "control"
    ]
