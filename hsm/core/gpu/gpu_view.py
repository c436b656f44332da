"""What one look at all GPUs has found, and whose it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hsm.core.gpu.device import Family, Gpu
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.own_processes import owner
from hsm.core.gpu.probe import GpuProcess, GpuReading

#: A process of NVIDIA's that computes on behalf of others, which the driver names, too; as the
#: kernel cuts its name, `nvidia-cuda-mps-server`.
_SERVANT = "nvidia-cuda-mps"


class Holder(NamedTuple):
    """A process that computes on a GPU.

    Attributes:
        process: the process.
        grant: that of the job to which it belongs; None if it belongs to none that is running.
        is_ours: whether it is one of this launcher's, be it a job's or not.
    """

    process: GpuProcess
    grant: GpuGrant | None
    is_ours: bool


@dataclass(frozen=True)
class GpuView:
    """What one look has found.

    Attributes:
        time: when the look began, of `time.monotonic()`. What has changed since is not in it.
        readings: what the driver said, by `Gpu.key`.
        pids_are_ours: whether the driver tells of processes, and knows them by the pids that they
            have here. If not, nobody knows whose they are, and `holders` is empty.
        holders: the processes that compute on each, by `Gpu.key`, with those that have ended in
            the meantime left out.
        drawn: bytes of processes that only draw and are not this launcher's, by `Gpu.key`.
    """

    time: float
    readings: Mapping[str, GpuReading]
    pids_are_ours: bool = True
    holders: Mapping[str, tuple[Holder, ...]] = field(default_factory=dict)
    drawn: Mapping[str, int] = field(default_factory=dict)

    def reading(self, gpu: Gpu) -> GpuReading | None:
        """What the driver said of `gpu`; None if it did not name it."""
        return self.readings.get(gpu.key)

    def foreign(self, gpu: Gpu) -> tuple[GpuProcess, ...]:
        """The processes on `gpu` that are not of this launcher, nor below it."""
        return tuple(
            holder.process for holder in self.holders.get(gpu.key, ()) if not holder.is_ours
        )

    def memory_of(self, grant: GpuGrant, gpu: Gpu) -> int | None:
        """Bytes that a job's processes have on `gpu`: 0 if none is there, None if unknown."""
        reading = self.reading(gpu)
        if reading is None or not self.pids_are_ours or not reading.processes_known:
            return None
        total = 0
        for holder in self.holders.get(gpu.key, ()):
            if holder.grant is grant:
                if holder.process.memory is None:
                    return None
                total += holder.process.memory
        return total


def reading_key(reading: GpuReading) -> str:
    """The `Gpu.key` of what `reading` is about."""
    return reading.uuid or f"{Family.nvidia}-{reading.index}"


def holders(
    reading: GpuReading, grants: Collection[GpuGrant], gone: Collection[int]
) -> tuple[Holder, ...]:
    """Whose the processes on one GPU are.

    Args:
        reading: what the driver says of it.
        grants: those of all jobs that run.
        gone: processes that had already ended at the look before, and that the driver still names:
            something of theirs is still there.
    """
    roots = {grant.root: grant for grant in grants if grant.root is not None}
    found = []
    for process in reading.processes:
        whose = owner(process.pid, roots)
        if not whose.is_here and process.pid not in gone:
            continue
        grant = None if whose.root is None else roots[whose.root]
        if whose.is_ours or not _is_servant(process.pid):
            found.append(Holder(process, grant, whose.is_ours))
    return tuple(found)


def drawn(reading: GpuReading) -> int:
    """Bytes on one GPU of processes that only draw and are not of this launcher, nor below it."""
    theirs = (each for each in reading.drawing if not owner(each.pid, ()).is_ours)
    return sum(each.memory or 0 for each in theirs)


def _is_servant(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip() == _SERVANT
    except OSError:
        return False


def pids_not_here(readings: Sequence[GpuReading]) -> set[int]:
    """The pids of processes that compute, of which there are none here."""
    pids = {process.pid for reading in readings for process in reading.processes}
    return {pid for pid in pids if not owner(pid, ()).is_here}
