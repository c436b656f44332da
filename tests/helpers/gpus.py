"""Drivers of GPUs as tests of one process play them; for whole sweeps, see `fake_nvml`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from helpers.fake_nvml.fake_gpus import GIB
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.need import GpuNeed
from hsm.core.gpu.own_processes import drivers_pids_are_ours
from hsm.core.gpu.probe import GpuProbe, GpuReading, ProbeGone

#: For tests in which hsm itself must find out whose processes are whose.
needs_drivers_pids = pytest.mark.skipif(
    not drivers_pids_are_ours(), reason="in a container, pids are not those that drivers know"
)


def gpu(index: int) -> Gpu:
    """The GPU of which `reading` tells."""
    return Gpu(str(index), index=index, uuid=f"GPU-{index}", name="Fake", memory=24 * GIB)


def reading(index: int, **facts: Any) -> GpuReading:
    """What a driver says of a GPU of 24 GiB; `facts` are fields of `GpuReading`."""
    given = {"name": "Fake", "memory": 24 * GIB, "used": 0, "load": 0, **facts}
    return GpuReading(index, f"GPU-{index}", **given)


def grant(job: int, *indices: int, root: int | None = None) -> GpuGrant:
    """A job's GPUs."""
    return GpuGrant(job, GpuNeed(len(indices)), tuple(map(gpu, indices)), root)


class PlayedProbe(GpuProbe):
    """Says what it was told to; counts looks."""

    def __init__(self, *readings: GpuReading) -> None:
        self.readings: Sequence[GpuReading] = readings
        self.looks = 0
        self.why_gone = ""
        self.closed = threading.Event()

    def look(self) -> tuple[GpuReading, ...]:
        self.looks += 1
        if self.why_gone:
            raise ProbeGone(self.why_gone)
        return tuple(self.readings)

    def close(self) -> None:
        self.closed.set()
