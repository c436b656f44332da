"""A machine with GPUs, and what a launcher's watch sees of it, without a driver or a thread."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hsm.core.errors import SettingsError
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.locks import GpuLocks
from hsm.core.gpu.pool import GpuPool
from hsm.core.gpu.probe import GpuProcess, GpuReading
from hsm.core.gpu.visible import FoundGpus
from hsm.core.settings.resolve import LocalConf, resolve_local

GIB = 1 << 30
#: No process has such a pid: it is above the kernel's greatest.
FIRST_PID = 1 << 23


def gpu(number: int, memory: int | None = 24 * GIB) -> Gpu:
    return Gpu(str(number), index=number, uuid=f"GPU-{number:04}", name="A5000", memory=memory)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class OnGpu:
    """A process on a GPU; it may have ended, with its memory still in use."""

    pid: int
    key: str
    memory: int
    grant: GpuGrant | None = None
    owner: object = None
    has_ended: bool = False
    began: float = 0.0
    ended: float = 0.0


class FakeHolder(NamedTuple):
    process: GpuProcess
    grant: GpuGrant | None


@dataclass
class FakeView:
    time: float
    readings: Mapping[str, GpuReading]
    pids_are_ours: bool
    holders: dict[str, list[FakeHolder]] = field(default_factory=dict)
    others: dict[str, list[GpuProcess]] = field(default_factory=dict)
    drawn: dict[str, int] = field(default_factory=dict)

    def reading(self, gpu: Gpu) -> GpuReading | None:
        return self.readings.get(gpu.key)

    def foreign(self, gpu: Gpu) -> Sequence[GpuProcess]:
        return self.others.get(gpu.key, ())


class Machine:
    """GPUs, and the processes on them."""

    def __init__(self, gpus: int | Sequence[Gpu] = 4, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.gpus = tuple(map(gpu, range(gpus)) if isinstance(gpus, int) else gpus)
        self.found = FoundGpus(self.gpus)
        self.processes: list[OnGpu] = []
        self.faults: dict[str, str] = {}
        self.lost_at: dict[str, float] = {}
        self.drawn: dict[str, int] = {}  # bytes of desktops, by key
        self._pids = itertools.count(FIRST_PID)

    def add(self, key: str, memory: int, grant: GpuGrant | None = None, owner: Any = None) -> OnGpu:
        made = OnGpu(next(self._pids), key, memory, grant, owner, began=self.clock.now)
        self.processes.append(made)
        return made

    def on(self, number: int, memory: int = 18 * GIB) -> OnGpu:
        """A colleague's process on a GPU."""
        return self.add(self.gpus[number].key, memory)

    def lose(self, key: str) -> None:
        """A GPU fails."""
        self.faults.setdefault(key, "lost")
        self.lost_at.setdefault(key, self.clock.now)

    def end(self, process: OnGpu) -> None:
        self.processes.remove(process)

    def foreign(self, key: str, owner: object) -> list[OnGpu]:
        return [
            each
            for each in self.processes
            if each.key == key and each.owner is not owner and not each.has_ended
        ]


class FakeWatch:
    """What one launcher sees of a machine when `look` is called."""

    def __init__(self, machine: Machine, *, pids_are_ours: bool = True) -> None:
        self.machine, self.pids_are_ours = machine, pids_are_ours
        self.latest: FakeView | None = None
        self.gone = ""
        self.changed: Callable[[], object] = lambda: None
        self.has_begun = self.is_asked = self.is_closed = False
        self.grants: list[GpuGrant] = []

    def begin(self) -> None:
        self.has_begun = True

    def ask(self) -> None:
        self.is_asked = True

    def job_began(self, grant: GpuGrant) -> None:
        self.grants.append(grant)

    def job_ended(self, grant: GpuGrant) -> None:
        if grant in self.grants:
            self.grants.remove(grant)

    def close(self) -> None:
        self.is_closed = True

    def lose(self, why: str = "the driver gives no answer") -> None:
        self.latest, self.gone = None, why
        self.changed()

    def look(self) -> None:
        if self.gone:
            return
        self.is_asked = False
        machine = self.machine
        view = FakeView(machine.clock.now, {}, self.pids_are_ours, drawn=dict(machine.drawn))
        readings = {}
        for number, each in enumerate(machine.gpus):
            here = [process for process in machine.processes if process.key == each.key]
            live = [process for process in here if not process.has_ended]
            readings[each.key] = GpuReading(
                number,
                each.uuid,
                memory=each.memory,
                used=sum(process.memory for process in here) + machine.drawn.get(each.key, 0),
                processes=tuple(GpuProcess(process.pid, process.memory) for process in live),
                fault=machine.faults.get(each.key, ""),
            )
            if self.pids_are_ours:
                view.holders[each.key] = [
                    FakeHolder(GpuProcess(process.pid, process.memory), process.grant)
                    for process in live
                ]
                view.others[each.key] = [
                    GpuProcess(process.pid, process.memory)
                    for process in live
                    if process.owner is not self
                ]
        view.readings = readings
        self.latest = view
        self.changed()


def choose(gpus: Sequence[Gpu], ids: Sequence[int | str]) -> list[Gpu]:
    """The GPUs of these numbers."""
    chosen = [each for each in gpus if each.index in ids]
    if len(chosen) < len(ids):
        raise SettingsError("gpu_ids", ids, "settings", "GPUs that are there")
    return chosen


def _conf(settings: dict[str, Any]) -> LocalConf:
    return resolve_local({"gpus": 1, **settings}, hsm_config=None).conf


@functools.cache
def _usual_conf() -> LocalConf:
    """It takes a while, and races have very many pools."""
    return _conf({})


def make_pool(
    machine: Machine,
    folder: Path,
    watch: FakeWatch | None = None,
    **settings: Any,
) -> GpuPool:
    """A pool of all GPUs of a machine, with its locks in `folder`."""
    return GpuPool(
        machine.found,
        _conf(settings) if settings else _usual_conf(),
        watch=watch,
        locks=GpuLocks(folder),
        choose=lambda ids: choose(machine.gpus, ids),
        clock=machine.clock,
    )
