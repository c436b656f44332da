"""Two launchers race for the GPUs of a machine, at random; what must be so is looked at throughout.

The clock, the processes on the GPUs and what launchers see of them are played; the admissions, the
pools and the locks are real.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.gpu_machines import GIB, FakeWatch, Machine, make_pool
from hsm.core.engine.admission import PASSING, Admission
from hsm.core.engine.backend import Work
from hsm.core.engine.ledger import JobHandle
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.gpu_state import FRESH
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.locks import GpuLocks
from hsm.core.gpu.need import SPARE, GpuNeed
from hsm.core.record.job import Job

#: Seconds between two looks of a launcher, and after which all that only time hinders has passed.
TICK, CALM = 0.3, 8.0


def job(num: int, need: GpuNeed | None, sweep: str) -> JobHandle:
    nothing: Any = None  # the admission does not look at it
    made = JobHandle(
        Job(num, f"{sweep}_{num}", "", {}), Work(command=("true",)), None, nothing, "/"
    )
    made.gpu_need = need
    return made


class Launcher:
    """One sweep on the machine, and who waits and runs in it."""

    def __init__(self, name: str, machine: Machine, folder: Path, rng: random.Random) -> None:
        self.name, self.machine, self.rng = name, machine, rng
        self.watch = FakeWatch(machine) if rng.random() < 0.8 else None
        self.pool = make_pool(machine, folder, self.watch)
        self.admission = Admission(9, resources={}, gpus=self.pool, clock=machine.clock)
        self.pool.when_seen(self.admission.look)
        self.waiting: list[JobHandle] = []
        self.running: list[JobHandle] = []
        self.came: dict[JobHandle, float] = {}
        self.next_num = 0

    def submit(self, *needs: GpuNeed | None) -> list[JobHandle]:
        made = [job(self.next_num + place, need, self.name) for place, need in enumerate(needs)]
        self.next_num += len(made)
        self.admission.add(made)
        self.waiting += made
        self.came.update(dict.fromkeys(made, self.machine.clock.now))
        return made

    def tick(self) -> list[JobHandle]:
        """Look, if that is due, and start what can start; returns it."""
        watch = self.watch
        if watch is not None and watch.has_begun and (watch.is_asked or watch.grants):
            watch.look()
        started = []
        while (handle := self.admission.admit()) is not None:
            self.waiting.remove(handle)
            self.running.append(handle)
            started.append(handle)
            for gpu in handle.grant.gpus if handle.grant else ():
                memory = handle.gpu_need.memory if handle.gpu_need else None
                used = (memory or GIB) - SPARE // 8
                self.machine.add(gpu.key, used, handle.grant, self.watch or self)
        self.admission.looks_again()
        return started

    def end(self, handle: JobHandle) -> None:
        """A job ends; what it had in memory may take a while to come back."""
        is_slow = self.watch is not None and self.rng.random() < 0.3
        for process in [each for each in self.machine.processes if each.grant is handle.grant]:
            if handle.grant is not None:
                process.has_ended = True
                if not is_slow:
                    self.machine.end(process)
        self.running.remove(handle)
        self.admission.release(handle)

    def held(self) -> set[str]:
        """The GPUs on which it has jobs."""
        return {gpu.key for grant in self.pool.grants for gpu in grant.gpus}


class Race:
    """A random schedule. Each check raises AssertionError.

    Args:
        rng: chance.
        folder: an empty directory for the locks.
    """

    def __init__(self, rng: random.Random, folder: Path) -> None:
        self.rng = rng
        self.folder = folder
        self.machine = Machine(4)
        self.launchers = [Launcher(name, self.machine, folder, rng) for name in ("a", "b")]
        self.starts = 0
        self.lost: dict[str, float] = {}  # when GPUs were lost, by their keys

    def need(self) -> GpuNeed | None:
        kinds = [
            GpuNeed(),
            GpuNeed(),
            GpuNeed(count=2),
            GpuNeed(count=self.rng.choice([3, 4])),
            GpuNeed(share=self.rng.choice([0.5, 1 / 3, 0.25])),
            GpuNeed(share=0.0, memory=self.rng.choice([4, 9, 20]) * GIB),
            GpuNeed(share=0.0, memory=10 * GIB, count=2),
            GpuNeed(share=0.5, alone=True),
            None,
        ]
        return self.rng.choice(kinds)

    # --- what happens ---

    def step(self) -> None:
        launcher = self.rng.choice(self.launchers)
        events = [self._submit, self._submit, self._end, self._end, self._end, self._back]
        self.rng.choice([*events, self._come, self._go, self._lose, self._wait])(launcher)
        self.tick()

    def _submit(self, launcher: Launcher) -> None:
        launcher.submit(*(self.need() for _ in range(self.rng.randint(1, 4))))

    def _end(self, launcher: Launcher) -> None:
        if launcher.running:
            launcher.end(self.rng.choice(launcher.running))

    def _back(self, _: Launcher) -> None:
        """Memory comes back."""
        for process in [each for each in self.machine.processes if each.has_ended]:
            self.machine.end(process)

    def _come(self, _: Launcher) -> None:
        self.machine.on(self.rng.randrange(4), self.rng.choice([1, 6, 18]) * GIB)

    def _go(self, _: Launcher) -> None:
        theirs = [each for each in self.machine.processes if each.owner is None]
        if theirs:
            self.machine.end(self.rng.choice(theirs))

    def _lose(self, launcher: Launcher) -> None:
        """A GPU fails, or a driver gives no answer any more: both are rare."""
        chance = self.rng.random()
        if chance < 0.1:
            key = self.rng.choice(self.machine.gpus).key
            self.machine.faults[key] = "lost"
            self.lost.setdefault(key, self.machine.clock.now)
        elif chance < 0.2 and launcher.watch is not None:
            launcher.watch.lose()

    def _wait(self, _: Launcher) -> None:
        self.machine.clock.now += self.rng.choice([0.3, 1.0, 6.0, 60.0, PASSING])

    def tick(self) -> int:
        """Both look and start what they can, one after the other; returns how many jobs started."""
        self.machine.clock.now += TICK
        started = 0
        for launcher in self.rng.sample(self.launchers, 2):
            for handle in launcher.tick():
                started += 1
                self._check_start(launcher, handle)
            self.check()
        self.starts += started
        return started

    def calm(self) -> None:
        """Let pass what only time hinders."""
        quiet = 0.0
        while quiet < CALM:
            quiet = 0.0 if self.tick() else quiet + TICK

    # --- what must be so ---

    def grants(self) -> Iterator[tuple[Launcher, GpuGrant]]:
        for launcher in self.launchers:
            for handle in launcher.running:
                assert (handle.grant is None) == (handle.gpu_need is None)
                if handle.grant is not None:
                    yield launcher, handle.grant

    def check(self) -> None:
        """No place is given twice."""
        for gpu in self.machine.gpus:
            here = [(launcher, grant) for launcher, grant in self.grants() if gpu in grant.gpus]
            assert len({launcher.name for launcher, _ in here}) <= 1
            needs = [grant.need for _, grant in here]
            assert sum(need.share for need in needs) <= 1 + 1e-6
            if any(need.share == 1 or need.alone for need in needs):
                assert len(needs) == 1
            assert gpu.memory is not None
            assert sum(need.memory or 0 for need in needs) + SPARE <= gpu.memory or not needs
        for launcher in self.launchers:
            slots = sorted(handle.slot for handle in launcher.running if handle.slot is not None)
            assert len(set(slots)) == len(launcher.running)
            assert all(handle.slot is None for handle in launcher.waiting)

    def _check_start(self, launcher: Launcher, handle: JobHandle) -> None:
        """A job starts only where it may."""
        grant, now = handle.grant, self.machine.clock.now
        if grant is None:
            return
        assert len(set(grant.gpus)) == grant.need.count
        if launcher.watch is None or launcher.watch.latest is None:
            return
        for gpu in grant.gpus:
            others = self._others(launcher, gpu, FRESH)
            if grant.need.memory is None or grant.need.alone:
                assert not others
            else:
                reserved = sum(
                    each.need.memory or 0
                    for owner, each in self.grants()
                    if owner is launcher and gpu in each.gpus
                )
                assert gpu.memory is not None
                assert reserved + others + SPARE <= gpu.memory
            assert self.lost.get(gpu.key, now) > now - FRESH

    def _others(self, launcher: Launcher, gpu: Gpu, age: float = 0.0) -> int:
        """Bytes of live processes of others on a GPU, of those that have run for so long."""
        mine, now = launcher.watch or launcher, self.machine.clock.now
        theirs = self.machine.foreign(gpu.key, mine)
        return sum(each.memory for each in theirs if each.began <= now - age)

    def check_none_waits_for_nothing(self) -> None:
        """Nobody waits while what it needs is free.

        Unless somebody is late, for whom it may be kept, or it is another sweep's turn to have it.
        """
        self.calm()
        now = self.machine.clock.now
        late = [
            each
            for launcher in self.launchers
            for each in launcher.waiting
            if now - launcher.came[each] >= PASSING
        ]
        if late:
            return
        observer = GpuLocks(self.folder)
        _, promised = observer.take_turn()
        observer.close()
        for launcher in self.launchers:
            if len(launcher.running) >= 9:
                continue
            for each in launcher.waiting:
                need = each.gpu_need
                assert need is not None
                free = [
                    gpu
                    for gpu in self.machine.gpus
                    if gpu.key not in promised and self._is_free(launcher, gpu, need)
                ]
                assert len(free) < need.count, launcher.admission.explain(each)

    def _is_free(self, launcher: Launcher, gpu: Gpu, need: GpuNeed) -> bool:
        """Whether a job of a launcher could start on a GPU now, slowly and simply."""
        if gpu.key in self.machine.faults:
            return False
        if any(gpu in grant.gpus and owner is not launcher for owner, grant in self.grants()):
            return False
        here = [each for each in self.machine.processes if each.key == gpu.key]
        if any(each.has_ended for each in here):
            return False  # It has not settled, or it is another launcher's that has not.
        others = self._others(launcher, gpu)
        sees = launcher.watch is not None and not launcher.watch.gone
        if sees and others and (need.memory is None or need.alone):
            return False
        needs = [grant.need for _, grant in self.grants() if gpu in grant.gpus]
        if any(each.alone or each.share == 1 for each in [need, *needs]) and needs:
            return False
        if sum(each.share for each in [need, *needs]) > 1 + 1e-6:
            return False
        if needs and need.memory is None and any(each.share == 0 for each in needs):
            return False
        reserved = [each.memory or int(each.share * 24 * GIB) for each in [need, *needs]]
        return not need.memory or sum(reserved) + (others if sees else 0) + SPARE <= 24 * GIB

    # --- the end ---

    def finish(self) -> None:
        """Without anything new, everybody's turn comes, soon after it has waited for too long."""
        for process in [each for each in self.machine.processes if each.owner is None]:
            self.machine.end(process)
        self._back(self.launchers[0])
        rounds = 0
        while any(launcher.waiting or launcher.running for launcher in self.launchers):
            rounds += 1
            assert rounds < 400, [launcher.waiting for launcher in self.launchers]
            self.calm()
            self.machine.clock.now += 60
            for launcher in self.launchers:
                if launcher.running:
                    launcher.end(launcher.running[0])
                elif launcher.admission.gives_up():
                    for each in list(launcher.waiting):
                        assert launcher.admission.remove(each)
                    launcher.waiting.clear()
            self._back(self.launchers[0])
        self.calm()
        for launcher in self.launchers:
            assert launcher.admission.gives_up() == ""
        free = make_pool(self.machine, self.folder)
        free.begin_round()
        assert free.take(0, GpuNeed(count=4)) is not None, "a lock is left"
        free.close()
        for launcher in self.launchers:
            launcher.pool.close()


def run_race(seed: int, folder: Path, steps: int = 25) -> Race:
    """A schedule from beginning to end. Raises AssertionError if something is not as it must be."""
    rng = random.Random(seed)
    race = Race(rng, folder)
    for _ in range(steps):
        race.step()
        if rng.random() < 0.15:
            race.check_none_waits_for_nothing()
    race.finish()
    return race
