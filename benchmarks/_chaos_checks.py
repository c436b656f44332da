"""Whether the record of a disturbed sweep is true, for chaos.py."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from _chaos_life import PATIENCE, Violation
from apps.chaos_job import fails, said, value_of
from hsm import read_sweep
from hsm.core.record.job import Job, JobState
from hsm.core.record.journal_header import JournalError
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import Sweep

#: How a job may have ended that was not to fail, if somebody did something to its sweep.
_DISTURBED = (JobState.FAILED, JobState.TIMEOUT, JobState.CANCELLED)


class Record:
    """What a sweep says of its jobs, beside what they noted themselves.

    Args:
        folder: the sweep's is in it, and the jobs' notes are.
        mode: what the jobs are; of a command the record has no value.

    Attributes:
        checks: how often all of it was looked at.
        was_disturbed: somebody was hit.
        was_damaged: its journal was changed from outside: lines of it may be damaged or missing.
    """

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder, self.mode = folder, mode
        self.paths = SweepPaths(folder / "sweep")
        self.checks = 0
        self.was_disturbed = False
        self.was_damaged = False
        self._starts_of_completed: dict[int, int] = {}
        self._logs_may_lack: set[int] = set()

    def forget(self, deed: str, file: str) -> None:
        """A file was damaged: what the record has no longer, nobody needs to know."""
        self.was_disturbed = True
        if file == "journal":
            self.was_damaged = True
            self._starts_of_completed = {}
            with suppress(JournalError):
                self._learn(read_sweep(self.paths.sweep_dir))
            if deed != "replaced":
                self._logs_may_lack |= set(self.notes()["start"])
        elif file == "log":
            self._logs_may_lack |= set(self.notes()["start"])

    def lose_pipes(self) -> None:
        """Everything was killed at once: what was printed and not yet moved to a log is lost."""
        with suppress(JournalError):
            jobs = read_sweep(self.paths.sweep_dir).jobs.values()
            completed = {int(job.params["x"]) for job in jobs if job.state is JobState.COMPLETED}
            self._logs_may_lack |= set(self.notes()["start"]) - completed

    def states(self) -> Mapping[str, int]:
        """How many jobs are in each state; empty where the record cannot be read."""
        with suppress(JournalError):
            jobs = read_sweep(self.paths.sweep_dir).jobs.values()
            return Counter(str(job.state) for job in jobs)
        return {}

    def notes(self) -> dict[str, Counter[int]]:
        """How often each point noted that it started, printed its line, has done its work."""
        path = self.folder / "side"
        words = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return {
            kind: Counter(int(x) for word, x in words if word == kind)
            for kind in ("start", "said", "done")
        }

    def check(self, patience: float = PATIENCE) -> None:
        """Compare what the journal says with what is so. Raises Violation.

        Args:
            patience: seconds in which it must say that a process is gone.
        """
        sweep = self.check_ended()
        if sweep is not None and sweep.alive:
            self._check_running(sweep, patience)

    def check_ended(self) -> Sweep | None:
        """Compare what it says has ended with what is so; None if there is nothing to read."""
        self.checks += 1
        try:
            sweep = read_sweep(self.paths.sweep_dir)
        except JournalError as error:
            if self.notes()["start"] and not self.was_damaged:
                raise Violation(f"there is no record of jobs that ran: {error}") from error
            return None  # The launcher was killed before it wrote the first line.
        if sweep.problems and not self.was_damaged:
            raise Violation(f"the journal is damaged: {sweep.problems}")
        if again := started_after_completion(sweep.paths.journal):
            raise Violation(f"jobs {again} had completed and were started again")
        # After the journal: a job that it calls completed has noted all that it ever will.
        self._learn(sweep)
        return sweep

    def _learn(self, sweep: Sweep) -> None:
        notes = self.notes()
        for job in sweep.jobs.values():
            self._check_job(job, notes)

    def _check_job(self, job: Job, notes: Mapping[str, Counter[int]]) -> None:
        x = int(job.params["x"])
        known = self._starts_of_completed.get(x)
        if known is not None and notes["start"][x] > known:
            raise Violation(f"point {x} had completed and was started again")
        if job.state is JobState.COMPLETED:
            self._starts_of_completed.setdefault(x, notes["start"][x])
            if not notes["done"][x]:
                raise Violation(f"point {x} reads as completed, and has not done its work")
            if self.mode != "command" and job.value != value_of(x):
                raise Violation(f"point {x} has the value {job.value}")
        elif known is not None:
            raise Violation(f"point {x} had completed, and now is {job.state}")
        elif job.state in _DISTURBED and not fails(x) and not self._is_excused(job):
            raise Violation(f"point {x} is {job.state}: {job.ending()}")

    def _is_excused(self, job: Job) -> bool:
        """Whether what became of the job is what was done to it."""
        told = job.state is not JobState.FAILED or "killed" in job.ending()
        return self.was_disturbed and told

    def _check_running(self, sweep: Sweep, patience: float) -> None:
        """A job that is called running has a process, or is about to be called something else."""
        deadline = time.monotonic() + patience
        suspects = {job.num for job in sweep.jobs.values() if _lacks_process(job)}
        while suspects:
            try:
                now = read_sweep(self.paths.sweep_dir)
            except JournalError:  # Removed, and not yet written anew; else the next check tells.
                return
            suspects = {num for num in suspects if now.alive and _lacks_process(now.jobs.get(num))}
            if time.monotonic() > deadline:
                raise Violation(f"jobs {suspects} read as running and have no process")
            time.sleep(0.05)

    # --- the end ------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """All jobs; none where there is no record."""
        with suppress(JournalError):
            return list(read_sweep(self.paths.sweep_dir).jobs.values())
        return []

    def differs(self, job: Job) -> bool:
        """Whether a job has not ended as in a sweep that nobody disturbed."""
        x = int(job.params["x"])
        if fails(x):
            return job.state is not JobState.FAILED or "killed" in job.ending()
        value = None if self.mode == "command" else value_of(x)
        return (job.state, job.value) != (JobState.COMPLETED, value)

    def check_logs(self) -> None:
        """Every line that a job knows to have printed is in its log. Raises Violation."""
        notes = self.notes()
        for job in self.jobs():
            x = int(job.params["x"])
            if x in self._logs_may_lack:
                continue
            log = self.paths.stdout(job.num)
            text = log.read_text() if log.exists() else ""
            if (found := text.splitlines().count(said(x))) < notes["said"][x]:
                raise Violation(f"the log of point {x} has {found} of {notes['said'][x]} lines")


def started_after_completion(journal: Path) -> list[int]:
    """The jobs of which the journal has a start after their end as COMPLETED."""
    completed: set[int] = set()
    again: set[int] = set()
    with suppress(FileNotFoundError):
        for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
            event: dict[str, Any] = {}
            with suppress(ValueError):  # Damaged lines are told elsewhere.
                event = json.loads(line)
            if event.get("event") == "end" and event["state"] == "COMPLETED":
                completed.add(event["job"])
            elif event.get("event") == "start" and event["job"] in completed:
                again.add(event["job"])
    return sorted(again)


def _lacks_process(job: Job | None) -> bool:
    attempt = job.attempt if job is not None and job.state is JobState.RUNNING else None
    pid = None if attempt is None else attempt.pid
    return False if pid is None else not psutil.pid_exists(pid)
