"""What a job needs of GPUs, and how many such jobs some GPUs have room for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hsm.core.needs import NO_NEEDS, OwnNeeds
from hsm.core.units import format_size

if TYPE_CHECKING:
    from hsm.core.gpu.device import Gpu

#: Bytes of a GPU that no job is promised: what the driver and the contexts of processes take.
SPARE = 512 << 20
#: How much too large the share of a GPU may be: 0.1 is a little more than a tenth.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class GpuNeed:
    """What a job needs of GPUs while it runs.

    Attributes:
        count: how many GPUs, at least 1; a share is of one GPU.
        share: which part of each; 1.0 for all of it. Jobs that share by memory alone have 0.0.
        memory: bytes on each, of which jobs on one GPU together have no more than there are; None
            if nobody counts them.
        alone: whether no other job may be on its GPUs, however small its share.
    """

    count: int = 1
    share: float = 1.0
    memory: int | None = None
    alone: bool = False

    def __str__(self) -> str:
        """In words for people: ``2 GPUs``, ``0.5 of a GPU``, ``a GPU with 10 GiB``."""
        gpus = f"{self.share:g} of a GPU" if 0 < self.share < 1 else "a GPU"
        gpus = f"{self.count} GPUs" if self.count > 1 else gpus
        return gpus if self.memory is None else f"{gpus} with {format_size(self.memory)}"


def gpu_need(gpus: float | None, memory: int | None) -> GpuNeed | None:
    """What the settings `gpus` and `gpu_memory` say; None if jobs get no GPUs of hsm.

    Args:
        gpus: whole GPUs, or a share below 1 of one; 0 for none.
        memory: bytes per job and GPU.
    """
    if gpus is None and memory is None:
        return None
    if gpus == 0:
        return None
    if memory is not None and (gpus is None or gpus >= 1):  # shared by memory alone
        return GpuNeed(count=int(gpus or 1), share=0.0, memory=memory)
    assert gpus is not None
    if gpus < 1:
        return GpuNeed(share=float(gpus), memory=memory)
    return GpuNeed(count=int(gpus), memory=memory)


class GpuNeeds:
    """What the jobs of a sweep need of GPUs; equal needs are one object, as jobs may be very many.

    Args:
        gpus, memory: as the settings.
    """

    def __init__(self, gpus: float | None = None, memory: int | None = None) -> None:
        self._gpus, self._memory = gpus, memory
        self._known: dict[GpuNeed | None, GpuNeed | None] = {}
        self._of_most = self._one_of(gpu_need(gpus, memory))

    def of(self, own: OwnNeeds) -> GpuNeed | None:
        """What a job needs whose own needs are `own`, which replace the sweep's by name.

        None if it gets no GPU.
        """
        if own is NO_NEEDS:
            return self._of_most
        memory = own.get("gpu_memory", self._memory)
        need = gpu_need(own.get("gpus", self._gpus), None if memory is None else int(memory))
        return self._one_of(need)

    def _one_of(self, need: GpuNeed | None) -> GpuNeed | None:
        return self._known.setdefault(need, need)


def fits(need: GpuNeed, gpu: Gpu) -> int:
    """How many jobs that need this an otherwise unused GPU has room for.

    A process computes on one part (MIG) of a GPU at most, so several GPUs are never parts. Of a GPU
    whose memory is unknown nobody can say how many jobs fit by memory.
    """
    if gpu.is_mig and need.count > 1:
        return 0
    by_memory = None
    if need.memory is not None:
        by_memory = 0 if gpu.memory is None else max(0, gpu.memory - SPARE) // need.memory
    if need.alone:
        return 1 if by_memory is None else min(1, by_memory)
    by_share = int(1 / need.share + _ROUNDING) if need.share else None
    counts = [count for count in (by_memory, by_share) if count is not None]
    return min(counts)


def gpu_places(need: GpuNeed, gpus: Iterable[Gpu]) -> int:
    """How many jobs that each need this have room on these GPUs at once.

    The GPUs of a job of several are different ones.
    """
    room = [fits(need, gpu) for gpu in gpus]
    jobs = sum(room) // need.count
    # So many jobs take no more than all of them of any one GPU.
    while sum(min(jobs, each) for each in room) < jobs * need.count:
        jobs -= 1
    return jobs
