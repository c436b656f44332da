"""The GPUs that one attempt of a job has, and what is found out about it meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field

from hsm.core.gpu.device import Gpu
from hsm.core.gpu.gpu_error_kinds import GpuError
from hsm.core.gpu.need import GpuNeed


@dataclass(eq=False, slots=True)
class GpuGrant:
    """The GPUs of one attempt, from just before it starts until its end is known.

    Attributes:
        job: the job's number, for people.
        need: what was asked for.
        gpus: what it has got.
        root: the pid from which all processes of the job descend; None while there is none here.
        peak_memory: the most bytes that it was seen to have on one of its GPUs; None if unknown.
        mean_load: percent, of its GPUs on average; None if unknown, or if others used them too.
        neighbours: who else was on its GPUs meanwhile, in words for people: ``job 3``, ``pid 42``.
        error: why the attempt failed, if its GPUs are why.
    """

    job: int
    need: GpuNeed
    gpus: tuple[Gpu, ...]
    root: int | None = None
    peak_memory: int | None = None
    mean_load: float | None = None
    neighbours: set[str] = field(default_factory=set)
    error: GpuError | None = None
