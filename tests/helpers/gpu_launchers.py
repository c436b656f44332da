"""A sweep whose admission, pool and locks are real; its jobs, and what it sees, are played."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from helpers.gpu_machines import GIB, FakeWatch, Machine, make_pool
from hsm.core.engine.admission import Admission
from hsm.core.engine.backend import Work
from hsm.core.engine.ledger import JobHandle
from hsm.core.gpu.need import SPARE, GpuNeed
from hsm.core.record.job import Job
from hsm.core.text_enum import TextEnum

#: How many jobs of a sweep may run at once.
PLACES = 9
#: Seconds after which a driver that gives no answer is given up.
_PATIENCE = 10.0


class Sight(TextEnum):
    """What a launcher sees of GPUs."""

    processes = "processes"
    memory = "memory"  # the driver's pids are not those here
    nothing = "nothing"  # nobody can be asked


def make_job(num: int, need: GpuNeed | None, sweep: str, avoid: Collection[str] = ()) -> JobHandle:
    """A job that the admission knows what to do with."""
    nothing: Any = None  # the admission does not look at it
    made = JobHandle(
        Job(num, f"{sweep}_{num}", "", {}), Work(command=("true",)), None, nothing, "/"
    )
    made.gpu_need, made.avoid = need, frozenset(avoid)
    return made


class Launcher:
    """One sweep on a machine, and who waits and runs in it.

    Attributes:
        waiting: in the order of their turns.
        since: when jobs that wait were first refused GPUs at their turn.
        looked: when it last looked at the GPUs.
        shown: keys of the lost GPUs of which it knows.
        allowed: keys of the GPUs that it may use.
        had: keys of the GPUs that it has ever used.
        last_start: when a job of its last started on a GPU, by key.
    """

    def __init__(self, name: str, machine: Machine, folder: Path, sight: Sight) -> None:
        self.name, self.machine, self.folder, self.sight = name, machine, folder, sight
        self.watch: FakeWatch | None = None
        if sight is not Sight.nothing:
            self.watch = FakeWatch(machine, pids_are_ours=sight is Sight.processes)
        self.pool = make_pool(machine, folder, self.watch)
        self.admission = Admission(PLACES, resources={}, gpus=self.pool, clock=machine.clock)
        self.pool.when_seen(self.admission.look)
        self.waiting: list[JobHandle] = []
        self.running: list[JobHandle] = []
        self.since: dict[JobHandle, float] = {}
        self.looked = -math.inf
        self.shown: set[str] = set()
        self.allowed = {gpu.key for gpu in machine.gpus}
        self.had: set[str] = set()
        self.last_start: dict[str, float] = {}
        self._next_num = 0
        self._hangs_since: float | None = None

    # --- what is so ---

    @property
    def owner(self) -> object:
        """Whose the processes of its jobs are."""
        return self.watch or self

    @property
    def sees(self) -> bool:
        return self.watch is not None and not self.watch.gone

    @property
    def sees_processes(self) -> bool:
        return self.sees and self.sight is Sight.processes

    @property
    def hangs(self) -> bool:
        """Whether its driver gives no answer, and is not given up yet."""
        begun = self.watch is not None and self.watch.has_begun
        return begun and self.sees and self._hangs_since is not None

    @property
    def is_open(self) -> bool:
        """Whether a job could start if it had what it needs."""
        return not self.admission.is_paused and len(self.running) < PLACES

    def on(self, key: str) -> list[JobHandle]:
        """Its jobs on a GPU."""
        return [
            each
            for each in self.running
            if each.grant is not None and any(gpu.key == key for gpu in each.grant.gpus)
        ]

    def has_gpus(self) -> bool:
        return any(each.grant is not None for each in self.running)

    def heads(self) -> list[JobHandle]:
        """The first of each kind of jobs that wait."""
        kinds: dict[Any, JobHandle] = {}
        for each in self.waiting:
            kinds.setdefault((each.gpu_need, each.avoid), each)
        return list(kinds.values())

    def waited(self, job: JobHandle) -> float:
        """For how many seconds others have passed it."""
        now = self.machine.clock.now
        return now - self.since.get(job, now)

    # --- what happens ---

    def submit(self, *needs: GpuNeed | None, avoid: Collection[str] = ()) -> list[JobHandle]:
        made = [
            make_job(self._next_num + place, need, self.name, avoid)
            for place, need in enumerate(needs)
        ]
        self._next_num += len(made)
        self.admission.add(made)
        self.waiting += made
        return made

    def tick(self) -> Iterator[JobHandle]:
        """Look, if that is due, and start what can start, one after the other."""
        self._look()
        while True:
            was_open = self.is_open
            handle = self.admission.admit()
            self._note_refused(handle, was_open=was_open)
            if handle is None:
                break
            self.waiting.remove(handle)
            self.running.append(handle)
            yield handle
            self._begin(handle)
        self.admission.looks_again()

    def _look(self) -> None:
        watch, now = self.watch, self.machine.clock.now
        if watch is None or not self.sees or not watch.has_begun:
            return
        if self._hangs_since is not None:
            if now >= self._hangs_since + _PATIENCE:
                self._forget_ended()
                watch.lose()
        elif watch.is_asked or watch.grants:
            self.looked = now
            self.shown |= set(self.machine.faults)
            watch.look()

    def _note_refused(self, admitted: JobHandle | None, *, was_open: bool) -> None:
        for head in self.heads() if was_open else ():
            if head is admitted:
                return
            if head.gpu_need is not None:
                self.since.setdefault(head, self.machine.clock.now)

    def _begin(self, handle: JobHandle) -> None:
        """The job's processes come: they take a little less than they may."""
        grant = handle.grant
        for gpu in () if grant is None else grant.gpus:
            assert grant is not None
            used = (grant.need.memory or GIB) - SPARE // 8
            self.machine.add(gpu.key, used, grant, self.owner)
            self.had.add(gpu.key)
            self.last_start[gpu.key] = self.machine.clock.now

    def end(self, handle: JobHandle, *, is_slow: bool = False) -> None:
        """A job ends; what it had in memory may take a while to come back.

        Not if its launcher cannot see that, as nobody could: the next one there takes what it finds
        for what is always in use.
        """
        grant = handle.grant
        for process in [each for each in self.machine.processes if each.grant is grant]:
            if grant is not None:
                process.has_ended, process.ended = True, self.machine.clock.now
                if not (is_slow and self.sees):
                    self.machine.end(process)
        self.running.remove(handle)
        self.admission.release(handle)

    def _forget_ended(self) -> None:
        for process in list(self.machine.processes):
            if process.owner is self.owner and process.has_ended:
                self.machine.end(process)

    def cancel(self, handle: JobHandle) -> None:
        """A job is to wait no longer."""
        assert self.admission.remove(handle)
        self.waiting.remove(handle)

    def restrict(self, ids: Sequence[int] | None) -> None:
        """Only these GPUs are to be used from now on."""
        self.admission.alter(partial(self.pool.restrict, ids))
        self.allowed = {gpu.key for gpu in self.machine.gpus if ids is None or gpu.index in ids}

    def hang(self) -> None:
        """The driver gives this launcher no answer any more."""
        if self._hangs_since is None:
            self._hangs_since = self.machine.clock.now

    def die(self) -> Launcher:
        """It is killed, and begun anew; processes of its jobs live on. Returns the new one."""
        self._forget_ended()
        for process in self.machine.processes:
            if process.owner is self.owner:
                process.owner = process.grant = None
        self.pool.close()  # what the kernel does
        return Launcher(self.name, self.machine, self.folder, self.sight)
