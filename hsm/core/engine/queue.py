"""The jobs that are waiting for a slot."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from hsm.core.engine.ledger import JobHandle


class JobQueue:
    """A queue from which jobs can be removed. Thread-safe.

    Retries come first: a retry is due when its delay is over, not after all jobs ever submitted.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        # A job that was removed stays here, with `is_queued` unset, until its turn comes.
        self._retries: deque[JobHandle] = deque()
        self._new: deque[JobHandle] = deque()

    def add(self, handles: Iterable[JobHandle]) -> None:
        """Append jobs."""
        with self._mutex:
            for handle in handles:
                handle.is_queued = True
                is_retry = len(handle.job.attempts) > handle.attempts_before
                (self._retries if is_retry else self._new).append(handle)

    def take(self) -> JobHandle | None:
        """Remove and return the next job; None if the queue is empty."""
        with self._mutex:
            return self._next()

    def take_all(self) -> list[JobHandle]:
        """Remove and return all jobs."""
        with self._mutex:
            return list(iter(self._next, None))

    def _next(self) -> JobHandle | None:
        for queue in (self._retries, self._new):
            while queue:
                handle = queue.popleft()
                if handle.is_queued:
                    handle.is_queued = False
                    return handle
        return None

    def remove(self, handle: JobHandle) -> bool:
        """Remove `handle`; False if it is not in the queue (any more)."""
        with self._mutex:
            was_queued, handle.is_queued = handle.is_queued, False
            return was_queued
