"""The one place that decides which job starts, and when.

    add --> WaitingJobs --admit--> a job with all that it needs --> release, or put_back if the
                                                                    place had no room after all

A job is admitted when everything that it needs is there at once: a place, the named resources, room
on the machine, the start delay over, no pause. Until then it holds nothing. Whoever changes one of
these (a job's end, a new limit, time) asks again; nothing waits in here.

Jobs that can start pass those that cannot, but a job whose turn has come is passed for ten minutes
at most: from then on what it lacks is kept for it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from hsm.core.engine.ledger import JobHandle
from hsm.core.engine.resources import Resources
from hsm.core.engine.room import Room
from hsm.core.engine.waiting_jobs import WaitingJobs
from hsm.core.units import format_duration

#: Seconds for which other jobs may take what a job lacks whose turn has come.
PASSING = 600.0
#: Seconds until people are told of another reason why there is no room.
_NOTICE_INTERVAL = 60.0
#: Seconds between looks at what nobody tells of, such as free memory.
_LOOK_INTERVAL = 0.25


class Admission:
    """Admits waiting jobs. Thread-safe.

    Args:
        limit: how many jobs may run at once.
        resources: how many there are of each named resource.
        start_delay: seconds between any two starts.
        lack: tells what the place lacks for another job, in one line; empty if it lacks nothing.
        notice: shows people what jobs wait for, in one line.
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
        start_delay: float = 0.0,
        lack: Callable[[], str] = str,
        notice: Callable[[str], object] = str,
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
        self._room = Room()
        self._admitted: set[JobHandle] = set()
        self._next_start = 0.0
        self._starts: JobHandle | None = None  # the job whose start the delay counts from
        self._notice = notice
        self._told: tuple[str, float] | None = None  # the last notice, and when
        self._is_short = False  # whether people know that the place lacks something
        self._passed_since: dict[JobHandle, float] = {}  # jobs that lacked something at their turn

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether all places are taken; then each job that gives its own back asks again."""
        return len(self._admitted) >= self.limit

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
            handle, _ = self._choose(now)
            if handle is None:
                return None
            lack = self._lack()
            was_short, self._is_short = self._is_short, bool(lack)
            if not lack:
                self._take(handle, now)
                return handle
        if not was_short:
            self._notice(lack)
        return None

    def _take(self, handle: JobHandle, now: float) -> None:
        self._waiting.remove(handle)
        self._passed_since.pop(handle, None)
        self._admitted.add(handle)
        self._resources.take(handle.job.num, handle.needs)
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

    def _choose(self, now: float, until: JobHandle | None = None) -> tuple[JobHandle | None, str]:
        """The first job that lacks no resource.

        Args:
            now: the time.
            until: a job; what it lacks is returned, too, and no job after it is looked at.
        """
        kept: dict[str, JobHandle] = {}  # by the name of a resource, who waits for it too long
        for handle, line in self._waiting.firsts():
            if not line.needs:
                return handle, ""
            lacking = self._resources.lacking(line.needs)
            keeper = next((kept[name] for name in line.needs if name in kept), None)
            if not lacking and keeper is None:
                return handle, ""
            if lacking and now - self._passed_since.setdefault(handle, now) >= PASSING:
                kept.update((name, handle) for name in lacking if name not in kept)
            if until is not None and until.line is line:
                if lacking:
                    needs = [self._resources.describe(name, line.needs[name]) for name in lacking]
                    return None, "; ".join(needs)
                assert keeper is not None
                names = ", ".join(name for name in line.needs if name in kept)
                waited = format_duration(now - self._passed_since[keeper])
                return None, f"{names}, kept for job {keeper.job.num}, which has waited {waited}"
        return None, ""

    def looks_again(self) -> float | None:
        """In how many seconds a job may be admitted although nobody tells; None if none may."""
        with self._mutex:
            now = self._clock()
            if not self._waiting or self.is_paused or self.is_full:
                return None
            if self._starts is not None:
                return None
            if now < self._next_start:
                return self._next_start - now
            return self._room.opens(now) or (_LOOK_INTERVAL if self._lack() else None)

    # --- control ---

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
            _, lacks = self._choose(now, until=handle)
            reason = lacks or self._closed(now) or self._lack()
            return reason or "its turn", self._waiting.ahead_of(handle)
