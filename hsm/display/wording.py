"""The texts about jobs that all displays share; those about a whole sweep are in summary.py."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hsm.core.errors import HsmError
from hsm.core.printable import printable, shorten
from hsm.core.record.gpu_facts import gpus_text
from hsm.core.record.job import Attempt, Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep
from hsm.core.units import format_duration

if TYPE_CHECKING:
    from hsm.core.engine.interrupts import Interruption

MAX_LENGTH = 300


def started(job: Job) -> str:
    """``job 3 started (lr=0.1) on GPU 2``."""
    attempt = job.attempt
    again = f", attempt {attempt.number}" if attempt and attempt.number > 1 else ""
    return f"job {job.num} started{again}{label(job)}{_place(attempt)}"


def _place(attempt: Attempt | None) -> str:
    """`` on GPU 2``, with the leading space; empty if it has no GPU of hsm's."""
    gpus = attempt.gpus if attempt is not None else None
    if not gpus:
        return ""
    text = shorten(gpus_text(gpus, short=True), MAX_LENGTH)
    is_name = isinstance(gpus[0], str)  # MIG-8f1c2d3e says what it is
    return f" on {text}" if is_name else f" on GPU{'s' * (len(gpus) > 1)} {text}"


def retried(job: Job, delay: float) -> str:
    """``job 3 attempt 1 ended after 12 s: exit code 3; next attempt in 2 s (lr=0.1)``."""
    attempt = job.attempts[-1]
    text = f"job {job.num} attempt {attempt.number} ended"
    if attempt.duration is not None:
        text += f" after {format_duration(attempt.duration)}"
    if attempt.ending is not None:
        text += f": {shorten(printable(attempt.ending.describe()), MAX_LENGTH)}"
    return f"{text}; next attempt in {format_duration(delay)}{label(job)}"


def ended(job: Job) -> str:
    """``job 3 FAILED after 12 s: exit code 3 (lr=0.1)``."""
    return outcome(job) + label(job)


def outcome(job: Job) -> str:
    """``job 3 FAILED after 12 s: exit code 3``."""
    text = f"job {job.num} {job.state}"
    if job.duration is not None:
        text += f" after {format_duration(job.duration)}"
    ending = shorten(printable(job.ending()), MAX_LENGTH)
    if ending.upper() not in ("", job.state):
        text += f": {ending}"
    return text


def label(job: Job) -> str:
    """Return `` (label)``, with the leading space; empty if the job has no label."""
    return f" ({shorten(printable(job.label), MAX_LENGTH)})" if job.label else ""


def interrupted(interruption: Interruption, paths: SweepPaths, command: str) -> list[str]:
    """Say why a sweep was interrupted, how much of it is done, and the `command` to resume it."""
    try:
        sweep = read_sweep(paths.sweep_dir)
        states, to_come = sweep.jobs.by_state(), sweep.to_come or 0
    except HsmError:
        states, to_come = Counter(), 0
    completed, jobs = states[JobState.COMPLETED], sum(states.values()) + to_come
    return [
        f"{printable(interruption.headline)}: {completed} of {jobs} jobs completed; "
        f"results are kept in {printable(str(paths.sweep_dir))}",
        f"To resume: {command}",
    ]
