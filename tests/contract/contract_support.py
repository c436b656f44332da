"""The places that keep the contract, each with the same ways to make a source and a backend."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.processes import PATIENCE, SOURCE, RunningSweep, start_program, wait_for
from hsm.core.engine.backend import Attempt, Backend, Ended, Launch
from hsm.core.engine.compute_source import SweepObserver
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.local import LocalComputeSource
from hsm.core.local.local_backend import LocalBackend
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths
from hsm.core.settings.resolve import resolve_local
from plain_backend import PlainBackend


@dataclass(frozen=True)
class Place:
    """Where jobs run: "local" or "plain"."""

    name: str

    def source(self, *observers: SweepObserver, **settings: Any) -> SweepSource:
        """A source of jobs that run there, two at a time if nothing else is said."""
        given = {"max_parallel_jobs": 2, "kill_grace": 1.0, "start_method": "fork", **settings}
        if self.name == "local":
            return LocalComputeSource(observers=observers, **given)
        return SweepSource(PlainBackend(), resolve_local(given).conf, observers=observers)

    @contextmanager
    def backend(self) -> Iterator[Backend]:
        """The place without an engine; closed at the end of the block."""
        conf = resolve_local({"max_parallel_jobs": 2, "start_method": "fork"}).conf
        made: Backend = LocalBackend(conf) if self.name == "local" else PlainBackend()
        try:
            yield made
        finally:
            made.close()


class Recorder(SweepObserver):
    """Notes what a source tells, as ``(event, job number)``; may also react."""

    def __init__(self, **reactions: Callable[[Job], None]) -> None:
        self.events: list[tuple[str, int]] = []
        self.delays: list[float] = []
        self.messages: list[str] = []
        self.lines: list[tuple[int, str, str]] = []
        self._reactions = reactions
        self._mutex = threading.Lock()

    def jobs_submitted(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._note("submitted", job)

    def job_started(self, job: Job) -> None:
        self._note("started", job)

    def job_output(self, job: Job, stream: str, line: str) -> None:
        self.lines.append((job.num, stream, line))

    def job_retried(self, job: Job, delay: float) -> None:
        self.delays.append(delay)
        self._note("retried", job)

    def job_ended(self, job: Job) -> None:
        self._note("ended", job)

    def message(self, text: str) -> None:
        self.messages.append(text)

    def of(self, num: int) -> list[str]:
        """The events of one job, in order."""
        return [event for event, about in self.events if about == num]

    def _note(self, event: str, job: Job) -> None:
        with self._mutex:
            self.events.append((event, job.num))
        if event in self._reactions:
            self._reactions[event](job)


def points(*values: Any) -> list[dict[str, Any]]:
    """One point ``x=value`` for each."""
    return [{"x": value} for value in values]


def states(source: SweepSource, ids: Sequence[str] | None = None) -> list[str]:
    """Wait for jobs, all by default; how each has ended."""
    found = source.wait(ids, timeout=PATIENCE)
    assert all(state.is_final for state in found.values()), found
    return [str(state) for state in found.values()]


def noted_pid(name: object) -> int:
    """Wait for the pid that a job notes in ``pid-<name>``."""
    path = Path(f"pid-{name}")
    wait_for(path.exists, str(path))
    return int(path.read_text())


def journal_events(sweep_dir: str) -> list[dict[str, Any]]:
    """The journal's lines."""
    text = SweepPaths(sweep_dir).journal.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def launch_of(*command: str, num: int = 0, **changes: Any) -> Launch:
    """A launch in the current directory, of the first attempt of a job that runs `command`.

    Args:
        changes: to other fields of `Launch`.
    """
    paths = SweepPaths("sweep")
    paths.create()
    given: dict[str, Any] = {
        "num": num,
        "env": {"HSM_ATTEMPT": "1", "HSM_JOB_ID": f"s_{num}", "HSM_JOB_NUM": str(num)},
        "root": str(paths.sweep_dir),
        "stdout": str(paths.stdout(num)),
        "stderr": str(paths.stderr(num)),
        "cwd": str(Path.cwd()),
        "command": command or None,
        "argument": None,
        "result": str(paths.attempt_result(num, 1)),
        "grace": 1.0,
    }
    return Launch(**{**given, **changes})


@contextmanager
def started(
    backend: Backend, launch: Launch, function: Callable[[Any], Any] | None = None
) -> Iterator[tuple[Attempt, int | None]]:
    """An attempt that has a process, and its pid; closed at the end of the block."""
    attempt = backend.attempt(backend.prepare(function), launch)
    try:
        attempt.start()
        yield attempt, attempt.started().pid
    finally:
        attempt.close()


def end_of(attempt: Attempt) -> Ended:
    """Wait for its end."""
    ended = attempt.ended(time.monotonic() + PATIENCE)
    assert ended is not None
    return ended


def start_python(
    folder: Path, words: Sequence[str], path: Sequence[Path]
) -> AbstractContextManager[RunningSweep]:
    """`start_program` with Python.

    Args:
        path: where it finds modules besides those of hsm.
    """
    places = [str(SOURCE), os.environ.get("PYTHONPATH", ""), *map(str, path)]
    env = {"PYTHONPATH": os.pathsep.join(filter(None, places))}
    return start_program(folder, [sys.executable, *words], env=env)
