"""What must be so while launchers race for GPUs, told slowly and simply from what is there.

The code under test is asked nothing, but who holds which lock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from helpers.gpu_launchers import Launcher
from helpers.gpu_machines import Machine, OnGpu
from hsm.core.engine.ledger import JobHandle
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.gpu_state import FRESH
from hsm.core.gpu.locks import GpuLocks
from hsm.core.gpu.need import GpuNeed

# As the settings are documented, not as the code has them.
#: Seconds for which smaller jobs may pass one, and between two starts on one GPU.
PASSING, START_DELAY = 600.0, 5.0
#: Seconds after which memory that jobs have left is not expected to come back soon.
SETTLE = 30.0
#: Bytes that are nobody's, and that may be in use when those of a job are back.
SPARE, BACK_WITHIN = 512 << 20, 300 * 10**6
_ROUNDING = 1e-6


class Referee:
    """Knows the rules. Each check raises AssertionError.

    Args:
        machine: where they race.
        launchers: who does; may be changed.
        folder: the directory of the locks.
    """

    def __init__(self, machine: Machine, launchers: Sequence[Launcher], folder: Path) -> None:
        self.machine = machine
        self.launchers = launchers
        self._observer = GpuLocks(folder)

    def close(self) -> None:
        self._observer.close()

    # --- at any time ---

    def check(self) -> None:
        """No place is given twice."""
        for gpu in self.machine.gpus:
            owners = [each for each in self.launchers if each.on(gpu.key)]
            assert len(owners) <= 1, f"{gpu} is given to two sweeps"
            if owners:
                needs = _needs(owners[0].on(gpu.key))
                assert sum(need.share for need in needs) <= 1 + _ROUNDING, f"{gpu}: {needs}"
                is_whole = any(need.share == 1 or need.alone for need in needs)
                assert not is_whole or len(needs) == 1, f"{gpu}: {needs}"
                assert _promised(needs, gpu) + SPARE <= _total(gpu) or not _count(needs), gpu
        for launcher in self.launchers:
            for handle in launcher.running:
                assert (handle.grant is None) == (handle.gpu_need is None)
            for handle in launcher.waiting:
                assert handle.slot is None
                assert handle.grant is None

    # --- when a job has started ---

    def check_start(self, launcher: Launcher, handle: JobHandle) -> None:
        """A job starts only where it may; to be called before it has processes."""
        slots = {each.slot for each in launcher.running if each is not handle}
        assert handle.slot == next(num for num in range(len(slots) + 1) if num not in slots)
        grant = handle.grant
        if grant is None:
            return
        assert len(set(grant.gpus)) == grant.need.count == len(grant.gpus)
        assert set(grant.gpus) <= set(self.candidates(launcher, handle)), f"{grant.gpus}: not those"
        for gpu in grant.gpus:
            self._check_place(launcher, handle, gpu)

    def _check_place(self, launcher: Launcher, handle: JobHandle, gpu: Gpu) -> None:
        need, now = _need(handle), self.machine.clock.now
        others = [each for each in launcher.on(gpu.key) if each is not handle]
        if others and need.memory is None:
            assert now >= launcher.last_start[gpu.key] + START_DELAY, f"too soon on {gpu}"
        assert not self._left(gpu, by=self._others(launcher)), f"{gpu} is another sweep's"
        if not launcher.sees:
            return  # It can only count.
        # On a GPU that it has in use it may go by its last look, which is on its way all the time.
        until = launcher.looked if others else now - FRESH
        assert self.machine.lost_at.get(gpu.key, math.inf) >= until, f"{gpu} is lost"
        if launcher.sees_processes:
            assert not self._left(gpu, by=[launcher]), f"{gpu} has not settled"
        strangers = [each for each in self._strangers(launcher, gpu) if each.began < until]
        if launcher.sees_processes and (need.memory is None or need.alone):
            assert not strangers, f"others compute on {gpu}"
        elif launcher.sees_processes:
            promised = _promised(_needs([handle, *others]), gpu)
            assert promised + _bytes(strangers) + SPARE <= _total(gpu), f"{gpu} is too full"
        elif not others:
            # Beside its own jobs it cannot know what is others'.
            seen = [each for each in self._here(gpu) if each.began < until]
            assert (need.memory or 0) + _bytes(seen) <= (
                SPARE if need.memory is None else _total(gpu) - SPARE
            ), f"{gpu} is in use"

    # --- when only events can change anything ---

    def check_calm(self) -> None:
        """Nobody waits while what it needs is free, and nobody holds what it does not use."""
        self._check_locks()
        holder, promised = self._turn()
        for launcher in self.launchers:
            if not launcher.is_open:
                continue
            theirs = promised if launcher is not holder else frozenset()
            kept = 0
            for job in launcher.heads():
                assert job.gpu_need is not None, "a job without GPUs waits"
                free = [gpu for gpu in self.free(launcher, job) if gpu.key not in theirs]
                why, _ = launcher.admission.explain(job)
                # For a job before it that is late, as many may be kept as that needs.
                assert len(free) - kept < job.gpu_need.count, f"{free} are free, but {why}"
                assert why not in ("", "its turn"), "a job waits for no reason"
                if is_late(launcher, job) and self._may_be_kept_for(launcher, job):
                    kept += job.gpu_need.count

    def _check_locks(self) -> None:
        """Who has jobs on a GPU holds its lock, or waits for it to settle; nobody else does."""
        for gpu in self.machine.gpus:
            holder = self._observer.try_take([gpu.key])
            self._observer.release([gpu.key])
            if any(each.on(gpu.key) for each in self.launchers):
                assert holder is not None, f"nobody holds {gpu}"
            elif not self._left(gpu, by=self.launchers) and not self._is_unclear(gpu):
                assert holder is None, f"{gpu} is held by {holder} for nothing"

    def _turn(self) -> tuple[Launcher | None, frozenset[str]]:
        """Who keeps the turn, and for which GPUs; it must be for jobs of its."""
        owner, promised = self._observer.take_turn()
        self._observer.give_turn()
        if not promised:
            return None, promised
        holder = next(each for each in self.launchers if owner.endswith(f"sweep {each.name}"))
        assert holder.is_open, f"{owner} keeps the turn, but cannot start jobs"
        wanted: set[str] = set()
        for job in holder.heads():
            need = _need(job)
            if need.count == 1 or is_late(holder, job) or not holder.has_gpus():
                wanted |= {gpu.key for gpu in self.candidates(holder, job)}
        assert promised <= wanted, f"{owner} keeps the turn for nothing"
        return holder, promised

    # --- who may have what ---

    def candidates(self, launcher: Launcher, job: JobHandle) -> list[Gpu]:
        """The GPUs that a job could have if nobody else was there, as far as its launcher knows."""
        need = _need(job)
        fit = [
            gpu
            for gpu in self.machine.gpus
            if gpu.key in launcher.allowed
            and gpu.key not in launcher.shown
            and (need.count == 1 or not gpu.is_mig)
            and (need.memory is None or need.memory + SPARE <= _total(gpu))
        ]
        others = [gpu for gpu in fit if gpu.token not in job.avoid]
        return others if len(others) >= need.count else fit

    def is_possible(self, launcher: Launcher, job: JobHandle) -> bool:
        """Whether it could start if nobody else was there."""
        good = [gpu for gpu in self.candidates(launcher, job) if gpu.key not in self.machine.faults]
        return len(good) >= _need(job).count

    def free(self, launcher: Launcher, job: JobHandle) -> list[Gpu]:
        """The GPUs on which a job could start now."""
        return [gpu for gpu in self.candidates(launcher, job) if self._is_free(launcher, job, gpu)]

    def _is_free(self, launcher: Launcher, job: JobHandle, gpu: Gpu) -> bool:
        need, mine = _need(job), launcher.on(gpu.key)
        if gpu.key in self.machine.faults or self._is_unclear(gpu):
            return False
        if any(each.on(gpu.key) for each in self._others(launcher)):
            return False
        if self._left(gpu, by=self.launchers):
            return False
        if mine and not self._have_room_for(launcher, need, gpu):
            return False
        if not launcher.sees:
            strange = 0
        elif launcher.sees_processes:
            strangers = self._strangers(launcher, gpu)
            if strangers and (need.memory is None or need.alone):
                return False
            strange = _bytes(strangers)
        else:
            used = _bytes(self._here(gpu))
            if not mine and used > SPARE and (need.memory is None or need.alone):
                return False
            strange = max(0, used - _promised(_needs(mine), gpu))
        needs = [need, *_needs(mine)]
        return not _count(needs) or _promised(needs, gpu) + strange + SPARE <= _total(gpu)

    def _have_room_for(self, launcher: Launcher, need: GpuNeed, gpu: Gpu) -> bool:
        """Whether the jobs of a sweep leave another one room on a GPU."""
        needs = [need, *_needs(launcher.on(gpu.key))]
        if any(each.alone or each.share == 1 for each in needs):
            return False
        if sum(each.share for each in needs) > 1 + _ROUNDING:
            return False
        if need.memory is not None:
            return True
        # Beside jobs that share by memory alone nobody knows what is left for one without.
        is_over = self.machine.clock.now >= launcher.last_start[gpu.key] + START_DELAY
        return is_over and all(each.share > 0 for each in needs)

    def _may_be_kept_for(self, launcher: Launcher, job: JobHandle) -> bool:
        """Whether GPUs may be kept for a job: if all that it lacks is for sweeps to give."""
        in_reach = [
            gpu
            for gpu in self.candidates(launcher, job)
            # What is there beside jobs of sweeps shows when these, and what they leave, are gone.
            if any(each.on(gpu.key) for each in self.launchers)
            or self._left(gpu, by=self.launchers)
            or self._is_unclear(gpu)
            or not self._is_barred(launcher, job, gpu)
        ]
        return len(in_reach) >= _need(job).count

    def is_owed(self, launcher: Launcher, job: JobHandle) -> bool:
        """Whether a late job surely has to have GPUs kept: nothing but jobs is in its way."""
        clear = [
            gpu
            for gpu in self.candidates(launcher, job)
            if gpu.key not in self.machine.faults
            and not self._strange(gpu)
            and not self._is_stuck(gpu)
        ]
        return is_late(launcher, job) and len(clear) >= _need(job).count

    def _is_barred(self, launcher: Launcher, job: JobHandle, gpu: Gpu) -> bool:
        """Whether people's processes bar a job from a GPU."""
        need, strangers = _need(job), self._strange(gpu)
        if not launcher.sees or not strangers:
            return False
        if need.memory is None or need.alone:
            return True
        return need.memory + _bytes(strangers) + SPARE > _total(gpu)

    # --- what is on a GPU ---

    def _here(self, gpu: Gpu) -> list[OnGpu]:
        return [each for each in self.machine.processes if each.key == gpu.key]

    def _strange(self, gpu: Gpu) -> list[OnGpu]:
        """Processes of people, or of a launcher that is dead."""
        return [each for each in self._here(gpu) if each.owner is None]

    def _strangers(self, launcher: Launcher, gpu: Gpu) -> list[OnGpu]:
        """Live processes that are not the launcher's."""
        return self.machine.foreign(gpu.key, launcher.owner)

    def _left(self, gpu: Gpu, *, by: Sequence[Launcher]) -> bool:
        """Whether memory of jobs that have ended is not back, and their launcher can see that.

        Who only sees how much is used cannot tell it from that of its other jobs there, and of a
        lost GPU nobody knows.
        """
        for launcher in by if gpu.key not in self.machine.faults else ():
            ended = [
                each for each in self._here(gpu) if each.has_ended and each.owner is launcher.owner
            ]
            sees = launcher.sees_processes or (launcher.sees and not launcher.on(gpu.key))
            if sees and _bytes(ended) > BACK_WITHIN:
                return True
        return False

    def _is_stuck(self, gpu: Gpu) -> bool:
        """Whether memory of jobs that have ended should be back by now, and is not."""
        long_ago = self.machine.clock.now - SETTLE
        return any(each.has_ended and each.ended <= long_ago for each in self._here(gpu))

    def _is_unclear(self, gpu: Gpu) -> bool:
        """Whether a launcher may take what people have come to use for what its jobs have left.

        That is so where it only sees how much is used: the GPU counts as its own and as busy.
        """
        return bool(self._strange(gpu)) and any(
            gpu.key in each.had and each.sees and not each.sees_processes for each in self.launchers
        )

    def _others(self, launcher: Launcher) -> list[Launcher]:
        return [each for each in self.launchers if each is not launcher]


def is_late(launcher: Launcher, job: JobHandle) -> bool:
    """Whether others have passed it for too long."""
    return launcher.waited(job) >= PASSING


def _need(job: JobHandle) -> GpuNeed:
    assert job.gpu_need is not None
    return job.gpu_need


def _needs(jobs: Sequence[JobHandle]) -> list[GpuNeed]:
    return [_need(job) for job in jobs]


def _total(gpu: Gpu) -> int:
    assert gpu.memory is not None
    return gpu.memory


def _count(needs: Sequence[GpuNeed]) -> int:
    """How many of them count memory."""
    return sum(need.memory is not None for need in needs)


def _promised(needs: Sequence[GpuNeed], gpu: Gpu) -> int:
    """Bytes of a GPU that jobs may use: those of a share have that part of the memory."""
    return sum(
        int(need.share * _total(gpu)) if need.memory is None else need.memory for need in needs
    )


def _bytes(processes: Sequence[OnGpu]) -> int:
    return sum(each.memory for each in processes)
