"""What the tests of reliability share: sweeps in this process, and in one that may be killed."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

from helpers.processes import RunningSweep, start_program
from hsm.core.engine.compute_source import SweepObserver
from hsm.core.local import LocalComputeSource
from hsm.core.record.job import Job
from hsm.core.settings.resolve import HsmConfig, LocalConf, resolve_local

#: What every driver script begins with: see `start_driver`.
_DRIVER = """\
import json
import os
import signal
import sys
import time
from pathlib import Path

from hsm.core.settings.resolve import resolve_local
from hsm.core.local import LocalComputeSource


def source(**settings):
    given = {"max_parallel_jobs": 2, "kill_grace": 1.0, **settings, **json.loads(sys.argv[1])}
    return LocalComputeSource.from_conf(resolve_local(given).conf)


def side(params, text=""):
    "Each attempt leaves one line: O_APPEND writes of one line do not mix."
    with open("side", "a") as file:
        file.write(json.dumps({"x": params["x"], "pid": os.getpid(), "text": text}) + "\\n")


def note(name, text=""):
    temporary = Path(f"{name}.{os.getpid()}.tmp")
    temporary.write_text(str(text))
    temporary.rename(name)


def wait_for(name):
    while not Path(name).exists():
        time.sleep(0.02)


"""


def conf(**settings: Any) -> LocalConf:
    """Checked settings, whatever hsm.yaml or environment the tests run in."""
    given = {"max_parallel_jobs": 2, "kill_grace": 1.0, **settings}
    return resolve_local(given, environ={}, hsm_config=HsmConfig()).conf


class Recorder(SweepObserver):
    """Notes what a source tells, as ``(event, job number)``; may also react."""

    def __init__(self, **reactions: Callable[[Job], None]) -> None:
        self.events: list[tuple[str, int]] = []
        self.delays: list[float] = []
        self.messages: list[str] = []
        self._reactions = reactions
        self._mutex = threading.Lock()

    def job_started(self, job: Job) -> None:
        self._note("started", job)

    def job_retried(self, job: Job, delay: float) -> None:
        self.delays.append(delay)
        self._note("retried", job)

    def job_ended(self, job: Job) -> None:
        self._note("ended", job)

    def message(self, text: str) -> None:
        if not text.startswith("each job has "):  # of so many CPUs, which machines differ in
            self.messages.append(text)

    def has(self, event: str, num: int) -> bool:
        """Whether it was told of this."""
        return (event, num) in self.events

    def _note(self, event: str, job: Job) -> None:
        with self._mutex:
            self.events.append((event, job.num))
        if event in self._reactions:
            self._reactions[event](job)


@contextmanager
def source(*observers: SweepObserver, **settings: Any) -> Iterator[LocalComputeSource]:
    """A source in this process, closed at the end of the block."""
    with LocalComputeSource.from_conf(conf(**settings), observers=observers) as made:
        yield made


def points(*values: Any) -> list[dict[str, Any]]:
    """One point ``x=value`` for each."""
    return [{"x": value} for value in values]


def journal_events(sweep_dir: Path) -> list[dict[str, Any]]:
    """The journal's lines."""
    text = (sweep_dir / ".hsm" / "journal.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def events_of(sweep_dir: Path, num: int) -> list[dict[str, Any]]:
    """The journal's lines about one job."""
    return [event for event in journal_events(sweep_dir) if event.get("job") == num]


def side_lines(folder: Path) -> list[dict[str, Any]]:
    """What the jobs of a driver have left in the side file, one entry for each that came so far."""
    path = folder / "side"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_driver(folder: Path, body: str) -> Path:
    """A script that sweeps through the API: `_DRIVER`, then `body`.

    Its first argument is the settings, as JSON.
    """
    path = folder / "driver.py"
    path.write_text(_DRIVER + dedent(body), encoding="utf-8")
    return path


@contextmanager
def start_driver(
    folder: Path, settings: Mapping[str, Any] | None = None, *words: str, **options: Any
) -> Iterator[RunningSweep]:
    """Run the driver of `write_driver` with settings and further arguments."""
    command = [sys.executable, "driver.py", json.dumps(settings or {}), *words]
    with start_program(folder, command, **options) as running:
        yield running
