"""Watches a sweep from another process: replays its journal and samples its running jobs.

journal --Replay--> Watched --records--> Display
log files, /proc -----'  `--running()----'
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hsm.core.engine.compute_source import RunningJob, SweepObserver
from hsm.core.engine.output import OutputFollower
from hsm.core.engine.reported import Reported
from hsm.core.record.controls import control_of, told
from hsm.core.record.job import Job, JobState
from hsm.core.record.metrics import Measured
from hsm.core.record.paths import SweepPaths
from hsm.core.record.replay import Replay
from hsm.core.record.schema import BadRecord, is_count
from hsm.core.record.sweep import Sweep

#: Maps the pids of jobs to their CPU (percent of one core) and memory (bytes).
SampleUsage = Callable[[Collection[int]], Mapping[int, tuple[float | None, int | None]]]


class Watched:
    """Follows one sweep. Only `running` may be called from another thread.

    Args:
        paths: the sweep's.
        show_output: whether the observer gets what the jobs print from now on.
        usage: samples jobs on this machine.
        elapsed: for a process on this machine, the seconds since it started; None if unknown.

    Raises:
        JournalError: there is no sweep, or its journal cannot be read.
    """

    def __init__(
        self,
        paths: SweepPaths,
        *,
        show_output: bool = False,
        usage: SampleUsage = lambda _: {},
        elapsed: Callable[[int], float | None] = lambda _: None,
    ) -> None:
        self._replay = Replay(paths)
        self._mutex = threading.Lock()  # guards the sweep's jobs
        self._usage = usage
        self._elapsed = elapsed
        self._show_output = show_output
        self._output = OutputFollower(self._tell_output, every_line=show_output)
        self._followed: dict[int, Job] = {}
        self._reported: dict[int, Reported] = {}
        self._observer: SweepObserver | None = None
        self._is_here = self._replay.sweep.latest.get("host") == socket.gethostname()
        self.advance()

    @property
    def sweep(self) -> Sweep:
        """The sweep as of the last `advance`."""
        return self._replay.sweep

    def show_on(self, observer: SweepObserver) -> None:
        """Send `observer` the current state, and from now on all events."""
        self._observer = observer
        self._tell_begun(observer)
        observer.jobs_submitted(list(self.sweep.jobs.values()))
        observer.jobs_to_come(self.sweep.to_come)
        observer.sweep_paused(self.sweep.paused)

    def advance(self) -> None:
        """Catch up with what has happened since the last call."""
        records: list[Mapping[str, Any]] = []
        with self._mutex:
            if self._observer is None:
                self._replay.catch_up()
            else:
                records = self._replay.advance()
            self._follow_output()
        if self._observer is not None:
            self._tell(self._observer, records)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self._replay.is_over

    def status(self) -> str:
        """How the sweep is: "running", "paused", or why it is over."""
        return self.sweep.status

    def running(self) -> list[RunningJob]:
        """The running jobs, by number."""
        with self._mutex:
            jobs = self._running_jobs()
            pids = {job.num: job.attempts[-1].pid or 0 for job in jobs}
        usage = self._usage(pids.values()) if self._is_here else {}
        return [
            RunningJob.of(
                job,
                self._elapsed_of(job),
                usage.get(pids[job.num], (None, None)),
                self._output.last_line(job),
                self._measured(job),
                tuple(job.attempts[-1].gpus or ()),
            )
            for job in jobs
        ]

    def _measured(self, job: Job) -> Measured:
        """What a running job has reported so far."""
        start = job.attempts[-1].metrics
        reported = self._reported.get(job.num)
        if reported is None or reported.job is not job or reported.start != start:
            reported = self._reported[job.num] = Reported(job, self.sweep.paths, start)
        return reported.shown(reads=True)

    def _elapsed_of(self, job: Job) -> float:
        """Seconds that a running job has run; by the clock if nothing else is known."""
        attempt = job.attempts[-1]
        elapsed = self._elapsed(attempt.pid) if self._is_here and attempt.pid else None
        if elapsed is None:
            now = time.time()
            elapsed = max(0.0, now - (attempt.started or now))
        return elapsed

    def close(self) -> None:
        """Free everything."""
        self._output.stop()
        self._replay.close()

    def _tell(self, observer: SweepObserver, records: Sequence[Mapping[str, Any]]) -> None:
        events = {record["event"] for record in records}
        if "resume" in events:
            self._tell_begun(observer)
        if not events.isdisjoint(("resume", "close")):  # which end the jobs that were left behind
            observer.jobs_submitted(list(self.sweep.jobs.values()))
        elif not events.isdisjoint(("submit", "requeue")):
            observer.jobs_submitted(self._named_in(records))
        if not events.isdisjoint(("submit", "resume", "close")):
            observer.jobs_to_come(self.sweep.to_come)
        if not events.isdisjoint(("control", "resume", "close")):
            observer.sweep_paused(self.sweep.paused)
        for record in records:
            if record["event"] == "control":
                _tell_control(observer, record)
            if record["event"] in ("start", "end"):
                # If it has started again since, the observer gets its current state, not that one.
                job = self.sweep.jobs[record["job"]]
                tell = observer.job_started if record["event"] == "start" else observer.job_ended
                tell(job)

    def _tell_begun(self, observer: SweepObserver) -> None:
        sweep = self.sweep
        facts = {name: sweep.latest.get(name) for name in ("settings", "chosen", "planned")}
        observer.sweep_begun(facts, sweep.jobs.where(lambda state: state.is_final))

    def _named_in(self, records: Sequence[Mapping[str, Any]]) -> list[Job]:
        """The jobs that records of submissions name; those that make no sense are left out."""
        jobs = self.sweep.jobs
        entries = (
            entry
            for record in records
            if record["event"] in ("submit", "requeue")
            for entry in record["jobs"]
        )
        named: Iterator[Any] = (
            entry.get("job") if isinstance(entry, dict) else entry for entry in entries
        )
        return [jobs[num] for num in named if is_count(num) and num in jobs]

    def _running_jobs(self) -> list[Job]:
        return self.sweep.jobs.where(lambda state: state is JobState.RUNNING)

    def _follow_output(self) -> None:
        running = {job.num: job for job in self._running_jobs()}
        for num in self._followed.keys() - running.keys():
            self._output.remove(self._followed.pop(num))
            self._reported.pop(num, None)
        for num in running.keys() - self._followed.keys():
            self._followed[num] = job = running[num]
            self._output.add(job, self.sweep.paths, **self._output_starts(num))

    def _output_starts(self, num: int) -> dict[str, int]:
        """From where to show a job's output: the current ends of its log files."""
        if not self._show_output:
            return {}
        paths = self.sweep.paths
        return {"stdout_start": _size(paths.stdout(num)), "stderr_start": _size(paths.stderr(num))}

    def _tell_output(self, job: Job, stream: str, line: str) -> None:
        if self._observer is not None:
            self._observer.job_output(job, stream, line)


def _tell_control(observer: SweepObserver, record: Mapping[str, Any]) -> None:
    with suppress(BadRecord):  # a later hsm's
        if line := told(control_of(record)):
            observer.message(line)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
