"""One thread that calls things later.

So jobs that wait for their next attempt hold neither a slot nor a thread.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Hashable

from hsm.core.engine.own_threads import OWN_THREADS


class Timer:
    """Calls functions when they are due. Thread-safe; its thread lives while something waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._order = itertools.count()  # among equals in the heap
        self._due: list[tuple[float, int, Hashable]] = []
        #: What waits, each with its place in `_order`: a key that was cancelled and given again
        #: leaves an entry in the heap that is no longer meant.
        self._calls: dict[Hashable, tuple[int, Callable[[], None]]] = {}
        self._is_running = False

    def later(self, seconds: float, key: Hashable, call: Callable[[], None]) -> None:
        """Call `call` in `seconds`, unless `key` is cancelled before.

        It must neither block nor raise. Raises RuntimeError if the machine has no thread for it.
        """
        with self._changed:
            if not self._is_running:
                # It waits for the lock first. If it cannot start, nothing is kept.
                threading.Thread(target=self._run, name=f"{OWN_THREADS}timer", daemon=True).start()
                self._is_running = True
            order = next(self._order)
            heapq.heappush(self._due, (time.monotonic() + seconds, order, key))
            self._calls[key] = (order, call)
            self._changed.notify()

    def cancel(self, key: Hashable) -> bool:
        """Forget what waits under `key`; False if nothing does (any more)."""
        with self._changed:
            cancelled = self._calls.pop(key, None) is not None
            self._changed.notify()
            return cancelled

    def hurry(self) -> None:
        """Call everything that waits now."""
        with self._changed:
            self._due = [(0.0, order, key) for _, order, key in self._due]
            heapq.heapify(self._due)
            self._changed.notify()

    def _run(self) -> None:
        while (call := self._next()) is not None:
            call()

    def _next(self) -> Callable[[], None] | None:
        """Wait for the next call that is due; None, and the thread ends, if none is left."""
        with self._changed:
            while self._due and self._calls:
                when, order, key = self._due[0]
                left = when - time.monotonic()
                waiting = self._calls.get(key)
                is_meant = waiting is not None and waiting[0] == order
                if is_meant and left > 0:
                    self._changed.wait(left)
                    continue
                heapq.heappop(self._due)
                if is_meant:
                    return self._calls.pop(key)[1]
            self._due.clear()
            self._is_running = False
            return None
