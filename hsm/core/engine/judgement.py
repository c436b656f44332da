"""Decides from how a process ended how its job ended.

A pure function, so every row of the table of faults can be tested without a process.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from hsm.core.engine.backend import Ended
from hsm.core.program.reports import Report
from hsm.core.record.job import Ending, JobState
from hsm.core.record.metrics import Measured
from hsm.core.units import format_size

if TYPE_CHECKING:
    from hsm.core.gpu.gpu_error_kinds import GpuError
    from hsm.core.gpu.grant import GpuGrant

#: Of a job that has reported nothing.
NOTHING = Measured()
#: Others on a job's GPUs that are named.
_MOST_NEIGHBOURS = 4


class Stop(NamedTuple):
    """Why hsm ends a job: the job's resulting state, and the reason in one line."""

    state: JobState
    reason: str


def judge(
    ended: Ended,
    report: Report | None,
    stop: Stop | None,
    *,
    is_function: bool,
    seconds: float | None = None,
    measured: Measured = NOTHING,
    prune_reason: str | None = None,
    gpu_error: GpuError | None = None,
    grant: GpuGrant | None = None,
) -> Ending:
    """The ending of an attempt.

    If hsm ended the job while it was still running, the stop decides the state, however the job
    reacted to its SIGTERM. Otherwise what the backend saw takes precedence over the job's own
    report: a job is COMPLETED if its process exited with 0 and, for a function, the function
    returned. But it is PRUNED, with whatever exit code, if it knew that it was to end early.

    Args:
        ended: what the backend saw.
        report: the process's report, if it wrote one.
        stop: why hsm wanted the job to end, if it did.
        is_function: whether the job is a Python function, which must report.
        seconds: how long the attempt took.
        measured: what it has reported.
        prune_reason: why it was to end early; None if it was not.
        gpu_error: what went wrong with its GPU, if it failed.
        grant: the GPUs of hsm that it had, with what was found out about it.
    """
    state, reason = JobState.COMPLETED, None
    if stop is not None and ended.asked:
        state, reason = stop.state, stop.reason
    elif ended.out_of_memory is not None:
        state, reason = JobState.OUT_OF_MEMORY, ended.out_of_memory
    elif (why := _pruned(ended, report, measured, prune_reason)) is not None:
        state, reason = JobState.PRUNED, why
    elif ended.exit_code != 0:
        state, reason = _failed(gpu_error, grant)
    elif is_function and report is None:
        state, reason = JobState.FAILED, "exit code 0, but the function did not return (os._exit?)"
    elif report is not None and report.is_value_lost:
        # A failure, although it returned: a resume, or a retry, can have the value.
        state, reason = JobState.FAILED, f"the return value is lost: {report.unsaved}"
    elif report is not None and report.unpicklable:
        reason = f"the return value is lost: type {report.unpicklable} cannot be pickled"
    report = report or Report()
    has_value = state is JobState.COMPLETED
    return Ending(
        state=state,
        exit_code=ended.exit_code,
        signal=ended.signal,
        reason=reason,
        error_type=report.error_type,
        error_message=report.error_message,
        seconds=seconds,
        cpu_seconds=None if ended.cpu_seconds is None else round(ended.cpu_seconds, 3),
        max_memory=ended.max_memory,
        value=report.json if has_value else None,
        job_dir=report.job_dir,
        objective=measured.last_value if state is JobState.PRUNED else None,
        **gpu_use(grant),
        large={name: large for name, large in report.large.items() if has_value or name != "value"},
    )


def _failed(error: GpuError | None, grant: GpuGrant | None) -> tuple[JobState, str | None]:
    """The state of a job that failed, and why, if its GPU is why."""
    if error is None:
        return JobState.FAILED, None
    if error.is_out_of_memory:
        parts = [f"{error.kind.value}: {error.text}", *(() if grant is None else _company(grant))]
        return JobState.OUT_OF_MEMORY, "; ".join(parts)
    if grant is None:  # A job that cannot be started elsewhere: its own error says more.
        return JobState.FAILED, None
    return JobState.FAILED, f"{error.kind.value} on {_names(grant)}: {error.text}"


def _company(grant: GpuGrant) -> list[str]:
    """What was on a job's GPUs: others, and how much it had itself."""
    told = []
    if grant.neighbours:
        were = "was" if len(grant.neighbours) == 1 else "were"
        told.append(f"{_listed(grant.neighbours)} {were} on {_names(grant)} too")
    if grant.peak_memory is not None:
        memory = grant.gpus[0].memory
        of_all = "" if memory is None else f" of {format_size(memory)}"
        told.append(f"it had up to {format_size(grant.peak_memory)}{of_all}")
    return told


def _names(grant: GpuGrant) -> str:
    """``GPU 0``, ``GPUs 0 and 1``."""
    if len(grant.gpus) == 1:
        return str(grant.gpus[0])
    *names, last = (str(gpu.id) for gpu in grant.gpus)
    return f"GPUs {', '.join(names)} and {last}"


def _listed(neighbours: Iterable[str]) -> str:
    """``job 3, job 12 and 4 others``."""
    names = sorted(neighbours, key=lambda name: (len(name), name))
    if len(names) > _MOST_NEIGHBOURS:
        names[_MOST_NEIGHBOURS - 1 :] = [f"{len(names) - _MOST_NEIGHBOURS + 1} others"]
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def gpu_use(grant: GpuGrant | None) -> dict[str, Any]:
    """The fields of `Ending` that tell what an attempt had of its GPUs."""
    if grant is None:
        return {}
    load = None if grant.mean_load is None else round(grant.mean_load, 1)
    return {"gpu_memory": grant.peak_memory, "gpu_load": load}


def _pruned(
    ended: Ended, report: Report | None, measured: Measured, prune_reason: str | None
) -> str | None:
    """Why a job ended early, if it did so by itself."""
    said = None if report is None else report.pruned
    if ended.exit_code is None or (said is None and not measured.was_told):
        return None
    if prune_reason is not None:
        return prune_reason
    said = (said or measured.why).strip()
    if said:
        return said.splitlines()[0]
    return "pruned" if measured.step is None else f"pruned at step {measured.step}"
