"""The one place that decides which job starts, and when.

    add --> WaitingJobs --admit--> a job with all that it needs --> release, or put_back if the
                                                                    place had no room after all

A job is admitted when everything that it needs is there at once: a place, the named resources, its
GPUs, room on the machine, the start delay over, no pause. Until then it holds nothing. Whoever
changes one of these (a job's end, a new limit, time) asks again; nothing waits in here.

Jobs that can start pass those that cannot, but a job whose turn has come is passed for ten minutes
at most: from then on what it lacks is kept for it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hsm.core.engine.free_numbers import FreeNumbers
from hsm.core.engine.ledger import JobHandle
from hsm.core.engine.resources import Resources
from hsm.core.engine.room import Room
from hsm.core.engine.waiting_jobs import Line, WaitingJobs
from hsm.core.units import format_duration

if TYPE_CHECKING:
    from hsm.core.gpu.grant import GpuGrant
    from hsm.core.gpu.pool import GpuPool

#: Seconds for which other jobs may take what a job lacks whose turn has come.
PASSING = 600.0
#: Seconds until people are told of another reason why there is no room.
_NOTICE_INTERVAL = 60.0
#: Seconds between looks at what nobody tells of, such as free memory.
_LOOK_INTERVAL = 0.25
#: ... and at least so many times as long as the last one took: however many jobs with different
#: needs wait, these looks take a tenth of a core at most.
_PAUSE_FACTOR = 9
#: ... but no longer than this.
_LONGEST_REST = 2.0


@dataclass
class _Kept:
    """What is kept for jobs that have been passed for too long.

    Attributes:
        resources: for whom, by the name of a resource.
        gpus: for whom, in words, by the key of a GPU.
    """

    resources: dict[str, JobHandle] = field(default_factory=dict)
    gpus: dict[str, str] = field(default_factory=dict)


class Admission:
    """Admits waiting jobs. Thread-safe.

    Args:
        limit: how many jobs may run at once.
        resources: how many there are of each named resource.
        gpus: the GPUs for jobs; None if none gets any.
        start_delay: seconds between any two starts.
        lack: tells what the place lacks for another job, in one line; empty if it lacks nothing.
        notice: shows people what jobs wait for, in one line.
        tell: shows people a line about GPUs.
        clock: the time, in monotonic seconds.

    Attributes:
        limit: as above; may be set. If fewer than run, those go on.
        is_paused: whether no job is admitted until this is unset.
    """

    def __init__(
        self,
        limit: int,
        *,
        resources: Mapping[str, int],
        gpus: GpuPool | None = None,
        start_delay: float = 0.0,
        lack: Callable[[], str] = str,
        notice: Callable[[str], object] = str,
        tell: Callable[[str], object] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self.is_paused = False
        self._mutex = threading.Lock()  # guards all that follows
        self._clock = clock
        self._lack = lack
        self._start_delay = start_delay
        self._waiting = WaitingJobs()
        self._resources = Resources(resources)
        self._gpus = gpus
        self._slots = FreeNumbers()
        self._room = Room()
        self._admitted: set[JobHandle] = set()
        self._next_start = 0.0
        self._starts: JobHandle | None = None  # the job whose start the delay counts from
        self._notice, self._tell = notice, tell
        self._told: tuple[str, float] | None = None  # the last notice, and when
        self._next_look = 0.0  # when time alone may lead to a look at the waiting jobs again
        self._is_short = False  # whether people know that the place lacks something
        self._passed_since: dict[JobHandle, float] = {}  # jobs that lacked something at their turn

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether all places are taken; then each job that gives its own back asks again."""
        return len(self._admitted) >= self.limit

    @property
    def rest(self) -> float:
        """For how many seconds time alone is no reason to look at the waiting jobs again."""
        return min(_LONGEST_REST, max(0.0, self._next_look - self._clock()))

    # --- the jobs ---

    def add(self, handles: Iterable[JobHandle]) -> None:
        """Have jobs wait for what they need."""
        with self._mutex:
            self._waiting.add(handles)

    def admit(self) -> JobHandle | None:
        """The next job that can start, with all that it needs; None if none can now."""
        with self._mutex:
            now = self._clock()
            if not self._waiting or self._closed(now):
                return None
            handle, lack = self._choose(now)
            looked = self._clock()
            self._next_look = looked + _PAUSE_FACTOR * (looked - now)
            was_short = self._is_short
            if lack is not None:
                self._is_short = bool(lack)
            news = self._news()
        if lack and not was_short:
            self._notice(lack)
        for line in news:
            self._tell(line)
        return handle

    def _news(self) -> list[str]:
        return [] if self._gpus is None else self._gpus.news()

    def _take(self, handle: JobHandle, now: float, grant: GpuGrant | None) -> None:
        self._waiting.remove(handle)
        self._passed_since.pop(handle, None)
        self._admitted.add(handle)
        self._resources.take(handle.job.num, handle.needs)
        handle.grant, handle.slot = grant, self._slots.take()
        self._room.tries(handle)
        if self._start_delay:
            self._next_start, self._starts = math.inf, handle

    def started(self, handle: JobHandle) -> bool:
        """An admitted job has a process; returns whether others may start because of that."""
        if not (self._room.shortage or self._starts):
            return False
        with self._mutex:
            self._room.found(handle)
            if self._starts is handle:
                self._next_start, self._starts = self._clock() + self._start_delay, None
            return bool(self._waiting)

    def release(self, handle: JobHandle) -> None:
        """An admitted job has ended and gives everything back. Idempotent."""
        with self._mutex:
            if handle in self._admitted:
                self._give_back(handle)
                self._room.freed(handle)

    def put_back(self, handle: JobHandle, shortage: str, *, is_busy: bool) -> float | None:
        """An admitted job found no room: it waits again, as the first of its line.

        Args:
            handle: the job.
            shortage: what was missing.
            is_busy: whether any job is running.

        Returns how many seconds jobs have waited for room while none ran, if that is too long.
        """
        with self._mutex:
            now = self._clock()
            self._give_back(handle)
            self._waiting.add([handle])
            is_news = self._told is None or (
                self._told[0] != shortage and now >= self._told[1] + _NOTICE_INTERVAL
            )
            if is_news:
                self._told = shortage, now
            waited = self._room.refused(handle, shortage, now, is_busy=is_busy)
        if is_news:
            self._notice(shortage)
        return waited

    def _give_back(self, handle: JobHandle) -> None:
        self._admitted.remove(handle)
        if self._starts is handle:  # It did not start after all.
            self._next_start, self._starts = 0.0, None
        self._resources.give_back(handle.job.num, handle.needs)
        slot, grant, handle.slot, handle.grant = handle.slot, handle.grant, None, None
        if slot is not None:
            self._slots.give_back(slot)
        if grant is not None and self._gpus is not None:
            self._gpus.give_back(grant)

    def remove(self, handle: JobHandle) -> bool:
        """Have a job wait no longer; False if it does not wait (any more)."""
        with self._mutex:
            self._passed_since.pop(handle, None)
            return self._waiting.remove(handle)

    def take_all(self) -> list[JobHandle]:
        """Remove and return all waiting jobs, in the order of their turns."""
        with self._mutex:
            self._passed_since.clear()
            return self._waiting.take_all()

    # --- deciding ---

    def _closed(self, now: float) -> str:
        """Why no job at all can start now; empty if one can. What needs a person is first."""
        if self.is_paused:
            return "the sweep to be continued: it is paused"
        if self.is_full:
            places = "1 place is" if self.limit == 1 else f"{self.limit} places are"
            return f"a place: {places} taken (max_parallel_jobs)"
        if now < self._next_start:
            if self._starts is not None:
                return f"job {self._starts.job.num} to start (start_delay)"
            return f"the next start, in {self._next_start - now:.3g} s (start_delay)"
        if self._room.opens(now):
            return f"room: {self._room.shortage}"
        return ""

    def _choose(self, now: float) -> tuple[JobHandle | None, str | None]:
        """Take the first job that lacks nothing.

        Returns it, and what the place lacks; None for what was not asked.
        """
        kept, gpus = _Kept(), self._gpus
        lack: str | None = None
        if gpus is not None:
            gpus.begin_round()
        for handle, line in self._waiting.firsts():
            if self._lacks_resources(handle, line, now, kept):
                continue
            if lack is None:
                lack = self._lack()
            if lack:
                return None, lack
            grant = None
            if line.gpu_need is not None and gpus is not None:
                grant = self._grant(gpus, handle, line, now, kept)
                if grant is None:
                    continue
            self._take(handle, now, grant)
            return handle, lack
        if gpus is not None:
            gpus.end_round()
        return None, lack

    def _lacks_resources(
        self, handle: JobHandle, line: Line, now: float, kept: _Kept, *, explains: bool = False
    ) -> str:
        """What of the named resources the first job of a line lacks; empty if none.

        In words for people if `explains`.
        """
        if not line.needs:
            return ""
        lacking, resources = self._resources.lacking(line.needs), kept.resources
        names = [name for name in line.needs if name in resources]
        if lacking and now - self._passed_since.setdefault(handle, now) >= PASSING:
            resources.update((name, handle) for name in lacking if name not in resources)
        if not explains:
            return "some" if lacking or names else ""
        if lacking:
            needs = [self._resources.describe(name, line.needs[name]) for name in lacking]
            return "; ".join(needs)
        return (
            f"{', '.join(names)}, kept for {self._late(resources[names[0]], now)}" if names else ""
        )

    def _late(self, handle: JobHandle, now: float) -> str:
        """Words for a job for which something is kept."""
        waited = format_duration(now - self._passed_since[handle])
        return f"job {handle.job.num}, which has waited {waited}"

    def _grant(
        self, gpus: GpuPool, handle: JobHandle, line: Line, now: float, kept: _Kept
    ) -> GpuGrant | None:
        """Take the GPUs for the first job of a line; None if it lacks some."""
        assert line.gpu_need is not None
        grant = gpus.take(
            handle.job.num,
            line.gpu_need,
            line.avoid,
            kept=kept.gpus,
            is_late=now - self._passed_since.get(handle, now) >= PASSING,
            sweep=handle.job.job_id.rpartition("_")[0],
        )
        if grant is None:
            self._pass(gpus, handle, line, now, kept)
        return grant

    def _pass(self, gpus: GpuPool, handle: JobHandle, line: Line, now: float, kept: _Kept) -> None:
        """Others pass a job that lacks GPUs, unless that has been so for too long."""
        assert line.gpu_need is not None
        if now - self._passed_since.setdefault(handle, now) >= PASSING:
            keys = gpus.keep(line.gpu_need, line.avoid, kept.gpus)
            kept.gpus.update((key, self._late(handle, now)) for key in keys)

    def _lacks(self, until: JobHandle, now: float) -> str:
        """What a job that waits lacks, itself or the one of its line whose turn is first."""
        kept, gpus = _Kept(), self._gpus
        for handle, line in self._waiting.firsts():
            is_its = until.line is line
            lacks = self._lacks_resources(handle, line, now, kept, explains=is_its)
            if not lacks and line.gpu_need is not None and gpus is not None:
                lacks = gpus.lacking(line.gpu_need, line.avoid, kept=kept.gpus)
                if lacks:
                    self._pass(gpus, handle, line, now, kept)
            if is_its:
                return lacks
        return ""

    def looks_again(self) -> float | None:
        """In how many seconds a job may be admitted although nobody tells; None if none may."""
        with self._mutex:
            delay, is_open = self._opens()
            gpus = self._gpus
            if is_open:
                looks = gpus is not None and bool(gpus.looks_again() or gpus.gives_up())
                return max(_LOOK_INTERVAL, self.rest) if looks or self._lack() else None
            if gpus is not None:
                gpus.stop_waiting()
            return delay

    def _opens(self) -> tuple[float | None, bool]:
        """In how many seconds jobs may be looked at, None if not by itself, and whether now."""
        now = self._clock()
        if not self._waiting or self.is_paused or self.is_full or self._starts is not None:
            return None, False
        delay = max(0.0, self._next_start - now) or self._room.opens(now)
        return delay, not delay

    def look(self) -> None:
        """What is known of the GPUs has changed."""
        with self._mutex:
            if self._gpus is not None:
                self._gpus.look()
            news = self._news()
        for line in news:
            self._tell(line)

    def gives_up(self) -> str:
        """Why the waiting jobs are to wait no longer, in one line; empty if they may."""
        if self._gpus is None:
            return ""
        with self._mutex:
            return self._gpus.gives_up() if self._waiting else ""

    # --- control ---

    def alter(self, change: Callable[[], object]) -> None:
        """Call what changes what there is for jobs, while nobody decides."""
        with self._mutex:
            change()
            news = self._news()
        for line in news:
            self._tell(line)

    def prioritise(self, handle: JobHandle, priority: int) -> None:
        """Give a job another priority, whether it waits or not."""
        with self._mutex:
            handle.priority = priority
            if self._waiting.remove(handle):
                self._waiting.add([handle])

    def explain(self, handle: JobHandle) -> tuple[str, int]:
        """What a job waits for, in one line, and how many jobs come before it.

        The line is empty if it does not wait.
        """
        with self._mutex:
            if handle.line is None:
                return "", 0
            now = self._clock()
            reason = "" if self.is_paused else self._lacks(handle, now)
            reason = reason or self._closed(now) or self._lack()
            return reason or "its turn", self._waiting.ahead_of(handle)
