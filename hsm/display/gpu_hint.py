"""What the end of a sweep says of GPU memory: that more jobs would fit on a GPU, or fewer.

GPU memory: at most 6.0 GiB of 24 GiB was used: gpus=0.33 would run 3 on each
2 jobs ran out of GPU memory beside others: set gpus=1, or gpu_memory=9GiB
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hsm.core.record.gpu_facts import AskedOfGpus, RecordedGpu, asked_of_gpus, recorded_gpus
from hsm.core.record.job import Attempt, Job, JobState
from hsm.core.record.sweep import Sweep
from hsm.core.units import format_size

#: Completed jobs whose peaks must be known, unless the sweep has fewer.
_ENOUGH = 3
#: How much more a job would be given than it was seen to have: samples miss short peaks.
_MARGIN = 1.1
#: Bytes of each GPU that are given to no job.
_SPARE = 512 << 20
#: Jobs on one GPU, at most.
_MOST = 16
#: Steps in which `gpu_memory` is proposed.
_STEP = 256 << 20


def gpu_hint(sweep: Sweep) -> str:
    """One line on GPU memory for the end of a sweep; empty if there is nothing to say."""
    gpus = recorded_gpus(sweep.latest)
    if not gpus:  # as of nearly all sweeps
        return ""
    if sweep.to_come or not all(state.is_final for state in +sweep.jobs.by_state()):
        return ""
    jobs = [job for job in sweep.jobs.once() if any(attempt.gpus for attempt in job.attempts)]
    if not jobs:
        return ""
    asked = asked_of_gpus(sweep.latest)
    short = [job for job in jobs if any(map(_ran_out, job.attempts))]
    return _too_many(asked, jobs, len(short)) if short else _too_few(asked, gpus, jobs)


def _ran_out(attempt: Attempt) -> bool:
    """Whether an attempt ended as a GPU, not the machine, had no memory left."""
    ending = attempt.ending
    is_short = ending is not None and ending.state is JobState.OUT_OF_MEMORY
    return bool(attempt.gpus) and is_short and "GPU memory" in (attempt.reason or "")


def _peak(jobs: Iterable[Job]) -> int:
    """The most bytes that a job was seen to have on one GPU; 0 if that is unknown."""
    attempts = (attempt for job in jobs for attempt in job.attempts if attempt.gpus)
    return max((attempt.gpu_memory or 0 for attempt in attempts), default=0)


def _too_many(asked: AskedOfGpus, jobs: Sequence[Job], short: int) -> str:
    """Say that jobs which share GPUs ran out of memory there."""
    who = f"{'1 job' if short == 1 else f'{short} jobs'} ran out of GPU memory beside others"
    needed = int(_peak(jobs) * _MARGIN)
    if asked.memory is not None:
        return f"{who}: set gpu_memory={_memory(max(needed, asked.memory + asked.memory // 4))}"
    if asked.gpus is None or asked.gpus >= 1:  # They had theirs to themselves.
        return ""
    more = f", or gpu_memory={_memory(needed)}" if needed else ""
    return f"{who}: set gpus=1{more}"


def _too_few(asked: AskedOfGpus, gpus: Sequence[RecordedGpu], jobs: Sequence[Job]) -> str:
    """Say that more jobs would have fitted on a GPU, if that is known, and there were more jobs."""
    completed = [job.attempts[-1].gpu_memory for job in jobs if job.state is JobState.COMPLETED]
    known = [peak for peak in completed if peak is not None]
    sizes = [gpu.memory for gpu in gpus]
    peak = _peak(jobs)
    if not peak or None in sizes or not (len(known) >= _ENOUGH or len(known) == len(jobs)):
        return ""
    if any(len(attempt.gpus or ()) > 1 for job in jobs for attempt in job.attempts):
        return ""
    smallest = min(size for size in sizes if size is not None)
    needed = _in_steps(int(peak * _MARGIN))
    now, fitting = _at_once(asked, smallest), min(_MOST, (smallest - _SPARE) // needed)
    if fitting <= now or len(jobs) <= now * len(gpus):
        return ""
    by_share = f"gpus={100 // fitting / 100:g}"
    setting = by_share if asked.memory is None else f"gpu_memory={_memory(needed)}"
    of_all = "" if len(set(sizes)) == 1 else "the smallest GPU's "
    used = f"at most {format_size(peak)} of {of_all}{format_size(smallest)} was used"
    return f"GPU memory: {used}: {setting} would run {fitting} on each"


def _at_once(asked: AskedOfGpus, size: int) -> int:
    """How many jobs were to run at once on a GPU with so many bytes."""
    by_share = int(1 / asked.gpus + 1e-9) if asked.gpus and asked.gpus < 1 else None
    if asked.memory is None:
        return by_share or 1
    by_memory = max(1, (size - _SPARE) // asked.memory)
    return by_memory if by_share is None else min(by_share, by_memory)


def _in_steps(size: int) -> int:
    return -(-size // _STEP) * _STEP


def _memory(size: int) -> str:
    """A size that `gpu_memory` takes: ``6.75GiB``."""
    return f"{_in_steps(size) / (1 << 30):g}GiB"
