"""One GPU as jobs are given it: what jobs have of it, and why another cannot start there now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hsm.core.gpu.block import Block, Why
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.gpu_sight import Sight
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.need import SPARE, GpuNeed, fits
from hsm.core.gpu.probe import GpuProcess, GpuReading
from hsm.core.gpu.view import Holding
from hsm.core.job_numbers import show_numbers
from hsm.core.printable import printable
from hsm.core.process_stat import process_command, running_seconds
from hsm.core.units import format_age, format_size

#: Bytes more than before a job that may be in use after it.
BACK_WITHIN = 300 * 10**6
#: Seconds between two starts on one GPU, where nobody counts memory.
START_DELAY = 5.0
#: Seconds: how old a look may be by which a job starts on a GPU that has none.
FRESH = 2.0
#: What sums of shares such as three times 1/3 may be off by; and 0.33 is meant for three.
_ROUNDING = 1e-6


class GpuState:
    """One GPU. Not thread-safe.

    Args:
        gpu: the GPU.

    Attributes:
        grants: what jobs have on it.
        is_allowed: whether jobs may start there.
        out: why no job starts there any more, in a few words; empty if that is not so.
        settling: the last job that has left it, until processes and memory of those that have left
            are gone, too.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.grants: list[GpuGrant] = []
        self.is_allowed = True
        self.out = ""
        self.settling: GpuGrant | None = None
        self.last_start = float("-inf")
        self._left = float("-inf")  # when a job left it, of whatever sweep
        self._pids: frozenset[int] = frozenset()  # of jobs that left, as they were last seen
        self._idle_memory: int | None = None  # bytes in use before jobs came
        self._was_told = False  # whether people know that it does not settle
        self._was_read = False  # whether there has been a reading of it

    def __str__(self) -> str:
        return str(self.gpu)

    # --- jobs come and go ---

    def take(self, grant: GpuGrant, sight: Sight) -> None:
        """A job gets its part."""
        if not self.grants and sight.view is not None:
            self._idle_memory = self._unexplained(sight)
        self.grants.append(grant)
        self.last_start, self.settling = sight.now, None

    def give_back(self, grant: GpuGrant, sight: Sight) -> None:
        """A job has left. Its GPU settles if somebody looks."""
        self.grants.remove(grant)
        if sight.is_blind:
            return
        pids = frozenset(each.process.pid for each in self._holders(sight) if each.grant is grant)
        self._pids = pids if self.settling is None else self._pids | pids
        self._left, self._was_told, self.settling = sight.now, False, grant

    def outdate(self, sight: Sight) -> None:
        """Another sweep has given it back: what was last seen there says nothing any more."""
        self._left = sight.now

    def settle(self, sight: Sight, seconds: float) -> str:
        """See whether what the last job had has come back.

        Args:
            sight: what is known now.
            seconds: how long that may take without a word.

        Returns a line for people if it has taken too long, once; else an empty text.
        """
        if self.settling is None:
            return ""
        left = self._left_behind(sight)
        if left is None:
            self.settling = None
        elif left and not self._was_told and sight.now >= self._left + seconds:
            self._was_told = True
            return f"{self} counts as busy: {left}"
        return ""

    def _left_behind(self, sight: Sight) -> str | None:
        """What its last job has left there, for people; empty if unknown yet, None if nothing."""
        assert self.settling is not None
        if sight.is_blind:
            return None
        view = sight.view
        if view is None or view.time <= self._left:
            return ""
        reading = view.reading(self.gpu)
        if reading is None or reading.fault:
            return None
        job, of_job = self.settling.job, f"of job {self.settling.job}"
        if stays := self._pids & {process.pid for process in reading.processes}:
            return f"process {min(stays)} {of_job} is still there"
        now = self._unexplained(sight)
        if now is None or self._idle_memory is None or now <= self._idle_memory + BACK_WITHIN:
            return None
        return f"{format_size(now - self._idle_memory)} of job {job} are still there"

    def _unexplained(self, sight: Sight) -> int | None:
        """Bytes in use but for those of others and of jobs that are there; None if unknown.

        A desktop's come and go with its windows.
        """
        view, reading = sight.view, self._reading(sight)
        if view is None or reading is None or reading.used is None:
            return None
        if self.grants and not view.pids_are_ours:
            return None
        theirs = [each.process for each in self._holders(sight) if each.grant in self.grants]
        found = [process.memory for process in (*view.foreign(self.gpu), *theirs)]
        known = [memory for memory in found if memory is not None]
        if len(known) < len(found):
            return None
        return reading.used - sum(known) - view.drawn.get(self.gpu.key, 0)

    def _holders(self, sight: Sight) -> Sequence[Holding]:
        return () if sight.view is None else sight.view.holders.get(self.gpu.key, ())

    def fault(self, sight: Sight) -> str:
        """Why the driver cannot use it, in a few words; empty if it can, as far as is known."""
        if sight.view is None:
            return ""
        reading = sight.view.reading(self.gpu)
        if reading is not None:
            self._was_read = True
            return reading.fault
        return "the driver does not show it any more" if self._was_read else ""

    def described(self, sight: Sight) -> str:
        """What is to be said of it beside the jobs on it, for people; often nothing."""
        if self.out:
            return f"left out: {self.out}"
        if self.settling is not None:
            return self._left_behind(sight) or ""
        foreign = () if sight.view is None else sight.view.foreign(self.gpu)
        return describe_processes(foreign) if foreign else ""

    # --- whether a job can start there ---

    def can_ever(self, need: GpuNeed) -> bool:
        """Whether a job could start there if nobody else was there."""
        return fits(need, self.gpu) > 0

    def block(self, need: GpuNeed, sight: Sight, *, waits: bool) -> Block | None:
        """Why a job cannot start there now; None if it can, as far as other sweeps let it.

        Args:
            need: what it needs of this GPU.
            sight: what is known now.
            waits: whether a GPU on which others compute is left to them.
        """
        if not self._has_room(need):
            return Block(Why.ours, f": taken by {_jobs(self.grants)}")
        if self.settling is not None:
            left = self._left_behind(sight) or f"what job {self.settling.job} had is not yet back"
            why = Why.stuck if self._was_told else Why.settles
            return Block(why, f"'s memory to come back: {left}")
        is_unseen = self._is_unseen(sight)
        barred = self._barred(need, sight, waits=waits)
        # Whose processes there were is worth telling until the next look.
        is_known = need.memory is None and sight.view and sight.view.time > self._left
        if barred and (is_known or not is_unseen):
            return barred._replace(is_old=is_unseen)
        if is_unseen:
            return Block(Why.unseen, " to be looked at", is_old=True)
        if self.grants and need.memory is None and sight.now < self.last_start + START_DELAY:
            pause = self.last_start + START_DELAY - sight.now
            text = f": job {self.grants[-1].job} has just started there, {pause:.2g} s more"
            return Block(Why.delay, text)
        return None

    def _has_room(self, need: GpuNeed) -> bool:
        """Whether jobs of this sweep leave enough of it."""
        if not self.grants:
            return True
        needs = self._needs(need)
        if any(each.alone or each.share >= 1 for each in needs):
            return False
        if sum(each.share for each in needs) > 1 + _ROUNDING:
            return False
        # Nobody knows how much is left beside jobs whose memory nobody counts, but for their share.
        return need.memory is not None or all(each.share > 0 for each in needs)

    def _is_unseen(self, sight: Sight) -> bool:
        """Whether another look is needed before a job can start there."""
        if sight.is_blind:
            return False
        view = sight.view
        if view is None or view.time <= self._left:
            return True
        return not self.grants and view.time < sight.now - FRESH

    def _barred(self, need: GpuNeed, sight: Sight, *, waits: bool) -> Block | None:
        """How others, or memory, are in the way; None if they are not."""
        reading = self._reading(sight)
        if short := self._short_memory(need, reading, sight):
            return short
        if reading is None or not waits or (need.memory is not None and not need.alone):
            return None
        assert sight.view is not None
        if sight.view.pids_are_ours:
            processes = sight.view.foreign(self.gpu)
            text = f", used by {describe_processes(processes)}" if processes else ""
        elif self.grants or reading.used is None or reading.used <= SPARE:
            text = ""
        else:
            text = f", on which {format_size(reading.used)} are in use"
        return Block(Why.foreign, text) if text else None

    def _short_memory(
        self, need: GpuNeed, reading: GpuReading | None, sight: Sight
    ) -> Block | None:
        """How too little memory of it is left, if some of the jobs there count it."""
        if not any(each.memory is not None for each in self._needs(need)):
            return None
        total, left = self._total(reading), self._memory_left(reading, sight)
        if left is None or total is None:
            text = f": nobody knows how much memory is left beside {_jobs(self.grants)}"
            return Block(Why.ours, text) if self.grants else None
        memory = _memory_of(need, total)
        if memory <= left:
            return None
        foreign = self._foreign_memory(reading, sight)
        beside = [_jobs(self.grants)] if self.grants else []
        beside += [f"others with {format_size(foreign)}"] if foreign else []
        has = f": only {format_size(max(0, left))} are left"
        text = f"{has} beside {' and '.join(beside)}" if beside else has
        if not foreign and self.grants:
            return Block(Why.ours, text)
        fits_alone = self.grants and memory <= left + self._reserved(total)
        return Block(Why.tight if fits_alone else Why.foreign, text)

    def _needs(self, need: GpuNeed) -> list[GpuNeed]:
        return [need, *(grant.need for grant in self.grants)]

    def _memory_left(self, reading: GpuReading | None, sight: Sight) -> int | None:
        """Bytes for another job; None if nobody knows how many there are."""
        total = self._total(reading)
        if total is None:
            return None
        return total - SPARE - self._reserved(total) - self._foreign_memory(reading, sight)

    def _total(self, reading: GpuReading | None) -> int | None:
        return reading.memory if self.gpu.memory is None and reading else self.gpu.memory

    def _reserved(self, total: int) -> int:
        return sum(_memory_of(each.need, total) for each in self.grants)

    def _foreign_memory(self, reading: GpuReading | None, sight: Sight) -> int:
        """Bytes that others use, as far as that is known."""
        if reading is None or sight.view is None:
            return 0
        if sight.view.pids_are_ours:
            known = [process.memory for process in sight.view.foreign(self.gpu)]
            if None not in known:
                return sum(filter(None, known)) + sight.view.drawn.get(self.gpu.key, 0)
        if reading.used is None:
            return 0
        total = self._total(reading)
        return max(0, reading.used - self._reserved(total or 0))

    def _reading(self, sight: Sight) -> GpuReading | None:
        return None if sight.view is None else sight.view.reading(self.gpu)

    def room_left(self, need: GpuNeed, sight: Sight) -> float:
        """How much of it would be left beside another such job: the best fit has least."""
        if need.memory is not None:
            left = self._memory_left(self._reading(sight), sight)
            return float("inf") if left is None else left - need.memory
        return 1 - need.share - sum(grant.need.share for grant in self.grants)


def _memory_of(need: GpuNeed, total: int) -> int:
    """Bytes that a job may use on a GPU that has so many."""
    return int(need.share * total) if need.memory is None else need.memory


def _jobs(grants: Sequence[GpuGrant]) -> str:
    nums = sorted({grant.job for grant in grants})
    return f"job {nums[0]}" if len(nums) == 1 else f"jobs {show_numbers(nums)}"


def describe_processes(processes: Iterable[GpuProcess]) -> str:
    """``pid 4711 (python) with 18 GiB for 12m``, for the largest of some processes."""
    found = sorted(processes, key=lambda each: (-(each.memory or 0), each.pid))
    pid, memory = found[0]
    text = f"pid {pid}"
    if name := process_command(pid):
        text += f" ({printable(name)})"
    if memory:
        text += f" with {format_size(memory)}"
    if (age := running_seconds(pid)) is not None:
        text += f" for {format_age(age)}"
    return f"{text}, and {len(found) - 1} more" if len(found) > 1 else text
