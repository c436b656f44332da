"""The jobs that are waiting for a slot."""

from __future__ import annotations

import threading
from collections import OrderedDict

from hsm.core.engine.ledger import JobHandle


class JobQueue:
    """A queue from which jobs can be removed. Thread-safe.

    Retries come first: a retry is due when its delay is over, not after all jobs ever submitted.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._retries: OrderedDict[JobHandle, None] = OrderedDict()
        self._new: OrderedDict[JobHandle, None] = OrderedDict()

    def add(self, handle: JobHandle) -> None:
        """Append `handle`."""
        is_retry = len(handle.job.attempts) > handle.attempts_before
        with self._mutex:
            (self._retries if is_retry else self._new)[handle] = None

    def take(self) -> JobHandle | None:
        """Remove and return the next job; None if the queue is empty."""
        with self._mutex:
            for queue in (self._retries, self._new):
                if queue:
                    return queue.popitem(last=False)[0]
        return None

    def remove(self, handle: JobHandle) -> bool:
        """Remove `handle`; False if it is not in the queue (any more)."""
        with self._mutex:
            for queue in (self._retries, self._new):
                if handle in queue:
                    del queue[handle]
                    return True
        return False
