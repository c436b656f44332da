"""One thread that makes delayed calls: a job waiting for a retry holds no slot and no thread."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Hashable

from hsm.core.own_threads import OWN_THREADS


class Timer:
    """Calls functions when they are due. Thread-safe; its thread lives while calls are waiting."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._order = itertools.count()  # orders heap entries that are due at the same time
        self._due: list[tuple[float, int, Hashable]] = []
        #: The waiting calls by key, each with its number from `_order`: if a key is cancelled and
        #: used again, the number tells the current heap entry from the stale one.
        self._calls: dict[Hashable, tuple[int, Callable[[], object]]] = {}
        self._is_running = False

    def later(self, seconds: float, key: Hashable, call: Callable[[], object]) -> None:
        """Call `call` in `seconds`, unless `key` is cancelled first.

        `call` must neither block nor raise. Raises RuntimeError if no thread can be started.
        """
        with self._changed:
            if not self._is_running:
                # The thread first waits for our lock. If it cannot start, nothing is queued.
                threading.Thread(target=self._run, name=f"{OWN_THREADS}timer", daemon=True).start()
                self._is_running = True
            order = next(self._order)
            heapq.heappush(self._due, (time.monotonic() + seconds, order, key))
            self._calls[key] = (order, call)
            self._changed.notify()

    def cancel(self, key: Hashable) -> bool:
        """Drop the call waiting under `key`; False if there is none (any more)."""
        with self._changed:
            cancelled = self._calls.pop(key, None) is not None
            self._changed.notify()
            return cancelled

    def hurry(self) -> None:
        """Make all waiting calls now."""
        with self._changed:
            self._due = [(0.0, order, key) for _, order, key in self._due]
            heapq.heapify(self._due)
            self._changed.notify()

    def _run(self) -> None:
        while (call := self._next()) is not None:
            call()

    def _next(self) -> Callable[[], object] | None:
        """Wait until a call is due and return it; None, which ends the thread, if none is left."""
        with self._changed:
            while self._due and self._calls:
                when, order, key = self._due[0]
                left = when - time.monotonic()
                waiting = self._calls.get(key)
                is_current = waiting is not None and waiting[0] == order
                if is_current and left > 0:
                    self._changed.wait(left)
                    continue
                heapq.heappop(self._due)
                if is_current:
                    return self._calls.pop(key)[1]
            self._due.clear()
            self._is_running = False
            return None
