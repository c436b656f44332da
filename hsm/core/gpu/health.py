"""Which GPUs are better left out, as jobs fail on them that would not fail elsewhere.

    each end of an attempt with GPUs --ended--> what to leave out from now on and why, or take back

Two things speak against a GPU, in jobs that follow one another on it: a driver's error killed two
of them, or two failed soon after their start while those on other GPUs do not. The first is nearly
proof. The second may be chance where many points fail at once: so jobs must do well on other GPUs,
and the more of them fail there, the more in a row it takes. A GPU is taken back once that shows to
have been chance, or once a job has completed on it. A job that fails on several GPUs is bad itself,
and what fails everywhere is the program's fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from hsm.core.gpu.device import Gpu
from hsm.core.job_numbers import show_numbers

#: Seconds from its start in which a job that fails fails soon; one that gets further does well.
SOON = 60.0
#: Jobs in a row on one GPU that speak against it, at least.
_IN_A_ROW = 2
#: How rarely it may be chance that so many in a row fail.
_CHANCE = 1e-4


class Fate(Enum):
    """How an attempt ended, as far as its GPUs may be why."""

    COMPLETED = "completed"
    FAILED = "failed"
    DRIVER_ERROR = "killed by a driver's error"
    OTHER = "not by itself, or for lack of memory"


class Run(NamedTuple):
    """An attempt that has GPUs.

    Attributes:
        job: the job's number.
        gpus: the GPUs.
        seconds: for how long it has run.
    """

    job: int
    gpus: tuple[Gpu, ...]
    seconds: float


class Finding(NamedTuple):
    """What follows for a GPU.

    Attributes:
        gpu: the GPU.
        why: why to leave it out; empty if it is to be used again.
    """

    gpu: Gpu
    why: str


@dataclass(slots=True)
class _Count:
    """How many jobs there were that failed soon, and in all that did so or did well."""

    failed: int = 0
    ended: int = 0

    def minus(self, other: _Count) -> _Count:
        return _Count(self.failed - other.failed, self.ended - other.ended)


@dataclass(eq=False, slots=True)
class _Record:
    """What jobs did on one GPU.

    Attributes:
        gpu: the GPU.
        is_out: whether it is left out.
        soon: jobs in a row that failed soon.
        elsewhere: those on other GPUs until the first of these failed.
        killed: jobs that a driver's error killed since one completed.
        error: the latest of these errors.
        does_well: whether the latest of all was one that does well.
        count: all of them.
    """

    gpu: Gpu
    is_out: bool = False
    soon: list[int] = field(default_factory=list)
    elsewhere: _Count = field(default_factory=_Count)
    killed: list[int] = field(default_factory=list)
    error: str = ""
    does_well: bool = False
    count: _Count = field(default_factory=_Count)


class GpuHealth:
    """Watches over the GPUs of a sweep. Not thread-safe."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}  # by `Gpu.key`
        self._count = _Count()  # of all jobs
        self._failed_on: dict[int, frozenset[str]] = {}  # where a job failed soon; bad ones: empty

    def ended(self, run: Run, fate: Fate, running: Iterable[Run], error: str = "") -> list[Finding]:
        """Take note of an attempt that has ended.

        Args:
            run: the attempt.
            fate: how it ended.
            running: those that are running.
            error: the driver's error that killed it, in one line.

        Returns:
            What changes for GPUs.
        """
        records = [self._record(gpu) for gpu in run.gpus]
        if fate is Fate.DRIVER_ERROR:
            for record in records:
                record.error = error
                if run.job not in record.killed:
                    record.killed.append(run.job)
        if fate is Fate.COMPLETED or run.seconds >= SOON:
            self._did_well(records, has_completed=fate is Fate.COMPLETED)
        elif fate is not Fate.OTHER:
            self._failed_soon(records, run.job)
        well = [other for other in running if other.seconds >= SOON]
        for other in well:
            for gpu in other.gpus:
                self._record(gpu).does_well = True
        return self._findings(well)

    def _record(self, gpu: Gpu) -> _Record:
        return self._records.setdefault(gpu.key, _Record(gpu))

    def _did_well(self, records: list[_Record], *, has_completed: bool) -> None:
        for record in records:
            record.soon.clear()
            record.does_well = True
            record.count.ended += 1
            if has_completed:
                record.killed.clear()
        self._count.ended += 1

    def _failed_soon(self, records: list[_Record], job: int) -> None:
        keys = frozenset(record.gpu.key for record in records)
        before = self._failed_on.setdefault(job, keys)
        if before != keys:  # It fails anywhere: it says nothing about any GPU.
            self._failed_on[job] = frozenset()
            self._forget(job, before)
            return
        for record in records:
            record.does_well = False
            if job in record.soon:
                return  # a retry
            if not record.soon:
                record.elsewhere = self._count.minus(record.count)
            record.soon.append(job)
        for count in (self._count, *(record.count for record in records)):
            count.failed += 1
            count.ended += 1

    def _forget(self, job: int, keys: frozenset[str]) -> None:
        """Count a job no more that failed soon on these GPUs."""
        counts = [self._records[key].count for key in keys]
        for count in (self._count, *counts) if keys else ():
            count.failed -= 1
            count.ended -= 1
        for key in keys:
            soon = self._records[key].soon
            if job in soon:
                soon.remove(job)

    def _findings(self, well: list[Run]) -> list[Finding]:
        found = []
        for record in self._records.values():
            why = self._why(record, well)
            if why and not record.is_out and self._may_leave_out(record):
                found.append(Finding(record.gpu, why))
            elif record.is_out and not why:
                found.append(Finding(record.gpu, ""))
            else:
                continue
            record.is_out = bool(why)
        return found

    def _may_leave_out(self, record: _Record) -> bool:
        """Whether a GPU is bad beyond doubt, or jobs do well on another one."""
        return len(record.killed) >= _IN_A_ROW or any(
            other.does_well and not other.is_out
            for other in self._records.values()
            if other is not record
        )

    def _why(self, record: _Record, well: list[Run]) -> str:
        """What speaks against a GPU; empty if nothing does.

        Args:
            record: what jobs did on it.
            well: jobs that run, and do well.
        """
        if len(record.killed) >= _IN_A_ROW:
            return f"driver errors killed {_jobs(record.killed)} on it ({record.error})"
        if len(record.soon) < _IN_A_ROW:
            return ""
        elsewhere = self._count.minus(record.count)
        running = sum(record.gpu not in other.gpus for other in well)
        rate = max(_rate(elsewhere, running), _rate(elsewhere.minus(record.elsewhere), running))
        if rate > 0 and len(record.soon) * -math.log(rate) < -math.log(_CHANCE):
            return ""
        return (
            f"{_jobs(record.soon)} failed on it within {SOON:.0f} s of their start, while those on "
            "other GPUs do not"
        )


def _rate(count: _Count, running: int) -> float:
    """Which part of jobs fails soon, with so many besides that run and do well."""
    return count.failed / (count.ended + running) if count.failed > 0 else 0.0


def _jobs(nums: list[int]) -> str:
    return f"jobs {show_numbers(sorted(nums))}"
