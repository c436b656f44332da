"""The jobs that a thread hands to a source little by little, and waking it when it may go on.

submit --> jobs in flight --each end--> `look`: is there anything to do? --> wakes who waits
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from hsm.core.engine.interrupts import Interruption


class Feeding(Protocol):
    """What hands jobs to a source, as those that steer the source see it."""

    def drop(self) -> int:
        """Hand over no more; returns how many jobs do not come because of that, if known, else 0.

        May be called in any thread.
        """

    def look(self) -> None:
        """There may be something to do, since the number of places has changed. Thread-safe."""


class Fed(Protocol):
    """The source: a `SpecSource`."""

    interruption: Interruption | None

    @property
    def is_stopped(self) -> bool: ...

    @property
    def places(self) -> int: ...

    def when_ended(self, job_ids: Sequence[str] | None, callback: Callable[[], None]) -> object: ...

    def interrupt(self, interruption: Interruption) -> None: ...

    def begin_feed(self, feed: Feeding) -> None: ...

    def jobs_to_come(self, count: int | None) -> None: ...

    def feed_failed(self, error: Exception) -> None: ...


class InFlight:
    """Base class of what hands over jobs; `Interrupts.wait` can wait for it.

    Args:
        source: runs the jobs.
        keeps_ended: whether `_ended` gets the jobs that have ended.

    Attributes:
        job_ids: those of all jobs that were handed over.
    """

    def __init__(self, source: Fed, *, keeps_ended: bool) -> None:
        self._source, self._keeps_ended = source, keeps_ended
        self.job_ids: list[str] = []
        self._lock = threading.Lock()  # guards the rest
        self._in_flight = 0
        self._is_last = False  # whether no more jobs are handed over
        self._ended: deque[int] = deque()  # jobs that have ended and were not looked at
        self._wake: Callable[[], None] | None = None
        self._wake_at = 0  # how many jobs in flight are so few that there may be something to do

    @property
    def _few(self) -> int:
        """Jobs in flight that are so few that others may be handed over."""
        raise NotImplementedError

    def _is_due(self, few: int) -> bool:
        """Whether there is something to do, with so `few` jobs in flight; called with the lock."""
        return bool(self._ended) or self._in_flight <= (0 if self._is_last else few)

    def _watch(self, job_ids: Sequence[str]) -> None:
        """These jobs are in flight from now on."""
        first = len(self.job_ids)
        self.job_ids += job_ids
        with self._lock:
            self._in_flight += len(job_ids)
        for at, job_id in enumerate(job_ids, first):
            self._source.when_ended([job_id], partial(self._has_ended, at))

    def _has_ended(self, at: int) -> None:
        """A job has ended; called in any thread."""
        with self._lock:
            self._in_flight -= 1
            if self._keeps_ended:
                self._ended.append(at)
            elif self._in_flight > self._wake_at:
                return  # as nearly always
        self.look()

    def look(self) -> None:
        """Wake the thread that waits, if there is something to do."""
        few = self._few
        with self._lock:
            if not self._is_due(few):
                return
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    # --- what `Interrupts.wait` waits for ---

    @property
    def interruption(self) -> Interruption | None:
        """What has interrupted the source."""
        return self._source.interruption

    @interruption.setter
    def interruption(self, interruption: Interruption | None) -> None:
        self._source.interruption = interruption

    def interrupt(self, interruption: Interruption) -> None:
        """Interrupt the source."""
        self._source.interrupt(interruption)

    def when_ended(self, job_ids: Sequence[str] | None, callback: Callable[[], None]) -> None:
        """Call back when there is something to do."""
        assert job_ids is None
        few = self._few
        with self._lock:
            self._wake, self._wake_at = callback, few
        self.look()
