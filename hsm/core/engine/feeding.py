"""Handing jobs to a source a little ahead of those that run, as they come from an iterator.

    items --next--> submit --> jobs in flight --each end--> ended
             ^                      |
             `------ few left ------'

All of it happens in the thread that waits, so a sweep may have any number of points, and its first
job starts as soon as that of a sweep of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

from hsm.core.engine.in_flight import Fed, InFlight
from hsm.core.engine.interrupts import Interrupts
from hsm.core.errors import HsmError

#: Jobs that wait for their turn, at least; and for each that runs.
_MIN_AHEAD, _AHEAD_OF_EACH = 100, 4

Item = TypeVar("Item")


class Feed(InFlight, Generic[Item]):
    """The jobs that have been handed over, and those that are still to come.

    Args:
        source: runs the jobs.
        items: what the jobs are made of, in their order.
        submit: hands over jobs, given their items and the position of the first; returns ids.
        planned: how many items there are; None if that is not known: then the next one may be a
            long way off, and none waits for it.
        each_ended: called with the id and the item of each job that has ended; None if nobody
            wants to know.
        keeps_items: whether `items` is filled; needed for `each_ended`.
        begins_empty: whether `submit` is called with no items if there are none at all.

    Attributes:
        job_ids: those of all jobs that were handed over.
        items: what these jobs were made of; empty without `keeps_items`.
    """

    def __init__(
        self,
        source: Fed,
        items: Iterator[Item],
        submit: Callable[[Sequence[Item], int], Sequence[str]],
        *,
        planned: int | None = None,
        each_ended: Callable[[str, Item], None] | None = None,
        keeps_items: bool = False,
        begins_empty: bool = False,
    ) -> None:
        super().__init__(source, keeps_ended=each_ended is not None)
        self._to_give, self._submit = items, submit
        self._planned, self._each_ended, self._keeps_items = planned, each_ended, keeps_items
        self._begins_empty = begins_empty
        self._error: Exception | None = None
        self.items: list[Item] = []

    def begin(self, interrupts: Interrupts) -> None:
        """Hand over the first jobs.

        Raises:
            Exception: what the iterator raised before the first item, or `submit`.
        """
        self._source.begin_feed(self)
        self._hand_over(interrupts)
        if self._error is not None and not self.job_ids:
            raise self._error
        if self._begins_empty and not self.job_ids:
            self._submit([], 0)

    def run(self, interrupts: Interrupts) -> None:
        """Hand over all others, and wait for all jobs; the rest is dropped if the source stops.

        Raises:
            Exception: what the iterator or `submit` raised, once all jobs before it have ended.
        """
        while True:
            if self._in_flight <= self._few:
                while not self._is_last and self._in_flight < self._most:
                    self._hand_over(interrupts)
            while self._each_ended is not None and self._ended:
                at = self._ended.popleft()
                self._each_ended(self.job_ids[at], self.items[at])
            if self._is_last and not self._in_flight and not self._ended:
                break
            interrupts.wait(self, None)
        if self._error is not None:
            raise self._error

    def drop(self) -> int:
        """Hand over no more; returns how many jobs do not come because of that, if known, else 0.

        May be called in any thread.
        """
        with self._lock:
            if self._is_last:
                return 0
            self._is_last = True
        self.look()
        return self._to_come() or 0

    def _to_come(self) -> int | None:
        return None if self._planned is None else max(0, self._planned - len(self.job_ids))

    @property
    def _ahead(self) -> int:
        return max(_MIN_AHEAD, _AHEAD_OF_EACH * self._source.places)

    @property
    def _few(self) -> int:
        """Jobs in flight that are so few that others are handed over."""
        return self._source.places + self._ahead // 2

    @property
    def _most(self) -> int:
        """Jobs in flight that there are then, at most."""
        return self._source.places + self._ahead

    def _hand_over(self, interrupts: Interrupts) -> None:
        """Hand over the next jobs, or note that there are none."""
        items: list[Item] = []
        wanted = 1 if self._planned is None else self._most - self._in_flight
        try:
            with interrupts.raised():  # The next item may be a long way off.
                for item in islice(self._to_give, wanted):
                    items.append(item)  # noqa: PERF402 -- those before an error are kept
        except Exception as error:
            self._fail(error)
        if self._source.is_stopped or interrupts.first is not None or self._is_last:
            items = []
        if len(items) < wanted:
            self._is_last = True
        if items:
            self._give(items)
        to_come = 0 if self._is_last and self._error is None and items else self._to_come()
        self._source.jobs_to_come(to_come)

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._source.feed_failed(error)

    def _give(self, items: Sequence[Item]) -> None:
        first = len(self.job_ids)
        try:
            job_ids = self._submit(items, first)
        except Exception as error:
            if not first:
                raise
            self._is_last = True
            if not (self._source.is_stopped and isinstance(error, HsmError)):
                self._fail(error)  # else it was stopped just now, and takes no more
            return
        if self._keeps_items:
            self.items += items
        self._watch(job_ids)
