"""Two launchers race for the GPUs of a machine; what must be so is looked at throughout.

The clock, the processes on the GPUs and what launchers see of them are played; the admissions, the
pools and the locks are real. A schedule is plain data: hypothesis finds the smallest that fails.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from helpers.gpu_launchers import PLACES, Launcher, Sight
from helpers.gpu_machines import GIB, Machine, gpu, make_pool
from helpers.gpu_rules import PASSING, Referee, is_late
from helpers.sweeps import PROFILE
from hsm.core.engine.ledger import JobHandle
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.need import GpuNeed

#: Seconds between two looks of a launcher.
TICK = 0.3
#: Pauses after which all that only time hinders has passed, unless a job has started meanwhile: a
#: look or two, the delay after a start, what has to be looked at because of that.
_CALM = (TICK, TICK, 1.1, 5.1, TICK, TICK, TICK)
_NEEDS: Sequence[GpuNeed | None] = (
    GpuNeed(),
    GpuNeed(count=2),
    GpuNeed(share=0.0, memory=9 * GIB),
    GpuNeed(share=0.5),
    GpuNeed(),
    GpuNeed(count=4),
    GpuNeed(share=1 / 3),
    GpuNeed(share=0.0, memory=4 * GIB),
    GpuNeed(count=3),
    GpuNeed(share=0.0, memory=10 * GIB, count=2),
    GpuNeed(share=0.0, memory=20 * GIB),
    GpuNeed(share=0.5, memory=14 * GIB),
    GpuNeed(share=0.5, alone=True),
    GpuNeed(share=0.0, memory=6 * GIB, alone=True),
    GpuNeed(share=0.25),
    None,
)
#: What jobs need that come again and again while others wait.
_CROWDS = (
    (GpuNeed(), GpuNeed(share=0.0, memory=4 * GIB)),
    (GpuNeed(share=0.0, memory=9 * GIB),),
    (GpuNeed(share=0.5),),
    (GpuNeed(),),
)
_CHOSEN = (None, [0, 1], [1, 2, 3], [3], None, [0, 2])
#: How many younger jobs may start from when a job is late, and the first of its sweep, until it has
#: its GPUs, though jobs end in the order of their starts. Those that run when it is late have to
#: end, and may have been as many as there are places; so may those of the late job of the other
#: sweep whose turn is first. While GPUs of the first few are kept, younger ones go on elsewhere.
MOST_PASSING = 4 * PLACES


class Step(NamedTuple):
    """Something happens to a launcher, or on the machine; then both launchers look.

    Attributes:
        event: what.
        who: which launcher; who looks first.
        which: chooses among what is there.
        flag: another choice.
    """

    event: str
    who: int
    which: int
    flag: bool


class Schedule(NamedTuple):
    """A race.

    Attributes:
        machine: what kind of a machine it is; one of MACHINES.
        sights: what the launchers see of it.
        crowd: what jobs need that come again and again at the end.
        steps: what happens.
    """

    machine: str
    sights: tuple[Sight, Sight]
    crowd: tuple[GpuNeed, ...]
    steps: list[Step]


def _gpus(*memory: int, parts: int = 0) -> tuple[Gpu, ...]:
    whole = [gpu(number, size * GIB) for number, size in enumerate(memory)]
    count = len(whole)
    return (
        *whole,
        *(
            Gpu(f"MIG-{num}", index=num, uuid=f"MIG-{num}", memory=10 * GIB, is_mig=True)
            for num in range(count, count + parts)
        ),
    )


MACHINES = {
    "alike": _gpus(24, 24, 24, 24),
    "unlike": _gpus(24, 12, 48, 24),
    "parts": _gpus(24, 24, parts=2),
}


class Race:
    """A schedule while it runs. Raises AssertionError if something is not as it must be.

    Args:
        schedule: what happens.
        folder: an empty directory for the locks.

    Attributes:
        counts: how often what happened, and how far things came.
    """

    def __init__(self, schedule: Schedule, folder: Path) -> None:
        self.schedule, self.folder = schedule, folder
        self.machine = Machine(MACHINES[schedule.machine])
        self.launchers = [
            Launcher(name, self.machine, folder, sight)
            for name, sight in zip("ab", schedule.sights, strict=True)
        ]
        self.referee = Referee(self.machine, self.launchers, folder)
        self.counts: Counter[str] = Counter()
        self._changed = self.machine.clock.now  # when something happened that looks show

    def run(self) -> None:
        try:
            for step in self.schedule.steps:
                self.counts[step.event] += 1
                getattr(self, f"_{step.event}")(self.launchers[step.who], step)
                self.tick(step.who)
            self.calm()
            self.crowd()
            self.finish()
        finally:
            self.referee.close()
            for launcher in self.launchers:
                launcher.pool.close()

    # --- what happens ---

    def _submit(self, launcher: Launcher, step: Step) -> None:
        need = _NEEDS[step.which % len(_NEEDS)]
        avoid = ["0"] if step.flag and need is not None and need.count < 3 else []
        launcher.submit(*[need] * (1 + step.which % 3), avoid=avoid)

    def _end(self, launcher: Launcher, step: Step) -> None:
        if launcher.running:
            launcher.end(launcher.running[step.which % len(launcher.running)], is_slow=step.flag)
            self._change()

    def _end_all(self, launcher: Launcher, step: Step) -> None:
        for handle in list(launcher.running):
            launcher.end(handle, is_slow=step.flag)
        self._change()

    def _back(self, launcher: Launcher | None = None, step: Step | None = None) -> None:
        """Memory comes back."""
        for process in [each for each in self.machine.processes if each.has_ended]:
            self.machine.end(process)
        self._change()

    def _come(self, _: Launcher, step: Step) -> None:
        """A colleague uses a GPU."""
        self.machine.on(step.which % 4, (18 if step.flag else 3) * GIB)
        self._change()

    def _go(self, _: Launcher, step: Step) -> None:
        theirs = [each for each in self.machine.processes if each.owner is None]
        if theirs:
            self.machine.end(theirs[step.which % len(theirs)])
            self._change()

    def _lose(self, _: Launcher, step: Step) -> None:
        """A GPU fails; two at most."""
        if len(self.machine.faults) < 2:
            key = self.machine.gpus[step.which % 4].key
            self.machine.lose(key)
            self._change()

    def _hang(self, launcher: Launcher, _: Step) -> None:
        launcher.hang()

    def _wait(self, _: Launcher, step: Step) -> None:
        self.machine.clock.now += (0.3, 1.0, 6.0, PASSING)[step.which % 4]

    def _rest(self, launcher: Launcher, step: Step) -> None:
        self.calm()

    def _pause(self, launcher: Launcher, _: Step) -> None:
        launcher.admission.is_paused = not launcher.admission.is_paused

    def _cancel(self, launcher: Launcher, step: Step) -> None:
        if launcher.waiting:
            launcher.cancel(launcher.waiting[step.which % len(launcher.waiting)])

    def _restrict(self, launcher: Launcher, step: Step) -> None:
        launcher.restrict(_CHOSEN[step.which % len(_CHOSEN)])

    def _die(self, launcher: Launcher, step: Step) -> None:
        self.launchers[step.who] = launcher.die()
        self._change()

    def _change(self) -> None:
        self._changed = self.machine.clock.now

    # --- launchers look ---

    def tick(self, first: int = 0, pause: float = TICK) -> list[JobHandle]:
        """Both look and start what they can, one after the other; returns what started."""
        self.machine.clock.now += pause
        started = []
        for launcher in (self.launchers[first], self.launchers[1 - first]):
            # Made when the first job starts, so after the look that precedes it.
            head, its = None, set[Gpu]()
            if self._knows_all(launcher):
                head, its = self._first_late(launcher)
            for handle in launcher.tick():
                started.append(handle)
                self.referee.check_start(launcher, handle)
                if head is handle:
                    head = None
                taken = set() if handle.grant is None else its & set(handle.grant.gpus)
                if head is not None and _is_younger(handle, head):
                    assert not taken, f"{taken} are not kept for a job that is late"
                its -= taken
                self.counts["starts"] += 1
                self.counts["starts with GPUs"] += handle.grant is not None
                self.counts["late starts"] += is_late(launcher, handle)
            self.referee.check()
        return started

    def _knows_all(self, launcher: Launcher) -> bool:
        """Whether a launcher has seen all that has happened, as far as it sees anything."""
        return not launcher.hangs and (not launcher.sees or launcher.looked > self._changed)

    def _first_late(self, launcher: Launcher) -> tuple[JobHandle | None, set[Gpu]]:
        """The first late job that surely has GPUs kept, and those on which it could start."""
        for job in launcher.heads():
            if job.gpu_need is not None and self.referee.is_owed(launcher, job):
                return job, set(self.referee.free(launcher, job))
        return None, set()

    def calm(self) -> None:
        """Let pass what only time hinders; then nobody may wait for nothing."""
        for launcher in self.launchers:
            while launcher.hangs:
                self.tick(pause=6.0)
        quiet = 0
        while quiet < len(_CALM):
            quiet = 0 if self.tick(pause=_CALM[quiet]) else quiet + 1
        self.referee.check_calm()
        self.counts["calm moments"] += 1

    # --- the end ---

    def crowd(self) -> None:
        """Small jobs come again and again: all the same the turn of those that wait comes."""
        self._leave_alone()
        waiting = {launcher: self._first_possible(launcher) for launcher in self.launchers}
        if not any(waiting.values()):
            return
        self.counts["crowds"] += 1
        for launcher in self.launchers:
            for each in [job for job in launcher.waiting if job is not waiting[launcher]]:
                launcher.cancel(each)
            launcher.submit(*self.schedule.crowd * 4)
        self.tick()
        self.machine.clock.now += PASSING
        passed = rounds = 0
        while any(job in launcher.waiting for launcher, job in waiting.items()):
            passed += self._push()
            rounds += 1
            assert max(passed, rounds) <= MOST_PASSING, "a job starves"
        self.counts["most passing"] = passed
        for launcher in self.launchers:
            for each in list(launcher.waiting):
                launcher.cancel(each)

    def _first_possible(self, launcher: Launcher) -> JobHandle | None:
        """The first job that waits for GPUs and could have them if nobody else was there."""
        jobs = (each for each in launcher.waiting if each.gpu_need is not None)
        return next((each for each in jobs if self.referee.is_possible(launcher, each)), None)

    def _push(self) -> int:
        """In each sweep the job ends that has run longest, and others come; returns the starts."""
        for launcher in self.launchers:
            if launcher.running:
                launcher.end(launcher.running[0])
            if len(launcher.waiting) < 4:
                launcher.submit(*self.schedule.crowd * 2)
        started = [handle for pause in (6.0, TICK, TICK) for handle in self.tick(pause=pause)]
        return sum(handle.grant is not None for handle in started)

    def _leave_alone(self) -> None:
        """From now on nobody disturbs the launchers."""
        self._back()
        for process in [each for each in self.machine.processes if each.owner is None]:
            self.machine.end(process)
        for launcher in self.launchers:
            launcher.admission.is_paused = False
        self._change()
        self.calm()

    def finish(self) -> None:
        """All jobs have their turn but those that can have none; nothing is left of them."""
        self._leave_alone()
        while any(launcher.running for launcher in self.launchers):
            for launcher in self.launchers:
                for handle in list(launcher.running):
                    launcher.end(handle)
            self._change()
            self.calm()
        for launcher in self.launchers:
            for each in launcher.waiting:
                assert not self.referee.is_possible(launcher, each), "a job has never started"
            assert bool(launcher.admission.gives_up()) == bool(launcher.waiting)
        free = make_pool(self.machine, self.folder)
        for number in range(4):
            assert free.take(number, GpuNeed()) is not None, "a lock is left"
        free.close()


def _is_younger(job: JobHandle, other: JobHandle) -> bool:
    return job.job.num > other.job.num


EVENTS = (
    *("submit",) * 6,
    *("end",) * 6,
    *("rest", "wait") * 3,
    *("come", "go", "back", "end_all") * 2,
    *("cancel", "pause", "restrict", "lose", "hang", "die"),
)
SCHEDULES = st.builds(
    Schedule,
    st.sampled_from(sorted(MACHINES)),
    st.tuples(*[st.sampled_from([*Sight, Sight.processes])] * 2),
    st.sampled_from(_CROWDS),
    st.lists(
        st.builds(
            Step, st.sampled_from(EVENTS), st.integers(0, 1), st.integers(0, 47), st.booleans()
        ),
        min_size=25,
        max_size=60,
    ),
)


def run_races(races: int, number: int | None = None) -> dict[str, float]:
    """Races in random schedules, each from its beginning to its end.

    Args:
        races: how many.
        number: of the set of schedules; None for the usual one.

    Returns what happened, summed up. Raises AssertionError if something was not as it must be, with
    the smallest schedule found in which that is so.
    """
    counts: Counter[str] = Counter()
    most, began = 0, time.process_time()

    @settings(
        PROFILE,
        max_examples=races,
        derandomize=number is None,
        phases=[Phase.generate, Phase.shrink],
        print_blob=False,
        report_multiple_bugs=False,
    )
    @given(SCHEDULES)
    def race(schedule: Schedule) -> None:
        nonlocal most
        with tempfile.TemporaryDirectory(prefix="gpu-race-") as folder:
            it = Race(schedule, Path(folder) / "locks")
            it.run()
        most = max(most, it.counts.pop("most passing", 0))
        counts.update(it.counts)
        counts["races"] += 1

    (race if number is None else seed(number)(race))()
    figures = {name: counts[name] for name in sorted({*counts, *EVENTS})}
    return {**figures, "most passing": most, "CPU seconds": round(time.process_time() - began, 1)}
