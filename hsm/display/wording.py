"""The texts about jobs and sweeps that all displays share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hsm.core.errors import HsmError
from hsm.core.printable import printable, shorten
from hsm.core.record.job import Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep
from hsm.core.units import format_duration
from hsm.display.counts import Counts
from hsm.display.text import from_here

if TYPE_CHECKING:
    from hsm.core.engine.interrupts import Interruption

_MAX_LENGTH = 300


def started(job: Job) -> str:
    """``job 3 started (lr=0.1)``."""
    attempt = job.attempt
    again = f", attempt {attempt.number}" if attempt and attempt.number > 1 else ""
    return f"job {job.num} started{again}{label(job)}"


def retried(job: Job, delay: float) -> str:
    """``job 3 attempt 1 ended after 12 s: exit code 3; next attempt in 2 s (lr=0.1)``."""
    attempt = job.attempts[-1]
    text = f"job {job.num} attempt {attempt.number} ended"
    if attempt.duration is not None:
        text += f" after {format_duration(attempt.duration)}"
    if attempt.ending is not None:
        text += f": {shorten(printable(attempt.ending.describe()), _MAX_LENGTH)}"
    return f"{text}; next attempt in {format_duration(delay)}{label(job)}"


def ended(job: Job) -> str:
    """``job 3 FAILED after 12 s: exit code 3 (lr=0.1)``."""
    return outcome(job) + label(job)


def outcome(job: Job) -> str:
    """``job 3 FAILED after 12 s: exit code 3``."""
    text = f"job {job.num} {job.state}"
    if job.duration is not None:
        text += f" after {format_duration(job.duration)}"
    ending = shorten(printable(job.ending()), _MAX_LENGTH)
    if ending.upper() not in ("", job.state):
        text += f": {ending}"
    return text


def label(job: Job) -> str:
    """Return `` (label)``, with the leading space; empty if the job has no label."""
    return f" ({shorten(printable(job.label), _MAX_LENGTH)})" if job.label else ""


def summary(counts: Counts, paths: SweepPaths, title: str, now: float) -> list[str]:
    """Summarize a sweep: its jobs by state, the time that it took, where results and logs are."""
    states = [
        f"{count} {state.lower().replace('_', ' ')}"
        for state in (
            JobState.COMPLETED,
            JobState.PRUNED,
            JobState.FAILED,
            JobState.TIMEOUT,
            JobState.OUT_OF_MEMORY,
            JobState.CANCELLED,
            JobState.RUNNING,
            JobState.PENDING,
        )
        if (count := counts.by_state[state])
    ]
    jobs = "1 job" if counts.total == 1 else f"{counts.total} jobs"
    head = f"{title}: " if title else ""
    lines = [f"{head}{jobs}: {', '.join(states)}" if states else f"{head}no jobs"]
    if counts.failed_jobs:
        more = counts.failed - len(counts.failed_jobs)
        names = " ".join(map(str, sorted(counts.failed_jobs))) + (
            f" and {more} more" if more else ""
        )
        lines.append(f"failed jobs: {names}")
    wall = counts.wall_seconds(now)
    times = (
        f"wall time {format_duration(wall)}, sum of job times {format_duration(counts.job_seconds)}"
    )
    if wall > 0 and counts.ended > 1:
        times += f" (speed-up {counts.job_seconds / wall:.1f})"
    lines.append(times)
    lines.append(f"results: {printable(from_here(paths.sweep_dir))}")
    lines.append(f"logs:    {printable(from_here(paths.logs))}")
    return lines


def interrupted(interruption: Interruption, paths: SweepPaths, command: str) -> list[str]:
    """Say why a sweep was interrupted, how much of it is done, and the `command` to resume it."""
    try:
        jobs = list(read_sweep(paths.sweep_dir).jobs.values())
    except HsmError:
        jobs = []
    completed = sum(job.state is JobState.COMPLETED for job in jobs)
    return [
        f"{printable(interruption.headline)}: {completed} of {len(jobs)} jobs completed; "
        f"results are kept in {printable(str(paths.sweep_dir))}",
        f"To resume: {command}",
    ]
