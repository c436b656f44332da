"""The jobs that wait for a slot."""

from __future__ import annotations

import threading
from collections import OrderedDict

from hsm.core.engine.ledger import JobHandle


class JobQueue:
    """A queue whose members can leave it. Thread-safe.

    Jobs that have run before come first: the next attempt of one is due when its delay is over, and
    not when all that was submitted has started.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._again: OrderedDict[JobHandle, None] = OrderedDict()
        self._new: OrderedDict[JobHandle, None] = OrderedDict()

    def add(self, handle: JobHandle) -> None:
        """`handle` waits from now on."""
        has_run = len(handle.job.attempts) > handle.attempts_before
        with self._mutex:
            (self._again if has_run else self._new)[handle] = None

    def take(self) -> JobHandle | None:
        """The next one, which waits no longer; None if nobody does."""
        with self._mutex:
            for queue in (self._again, self._new):
                if queue:
                    return queue.popitem(last=False)[0]
        return None

    def remove(self, handle: JobHandle) -> bool:
        """Let `handle` wait no longer; False if it does not (any more)."""
        with self._mutex:
            for queue in (self._again, self._new):
                if handle in queue:
                    del queue[handle]
                    return True
        return False
