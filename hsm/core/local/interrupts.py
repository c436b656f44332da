"""Ctrl-C, SIGTERM and SIGHUP while the main thread waits for jobs.

The first ends the jobs in good order, the second at once. The handlers only put the signal's number
into a queue, which is all that is safe to do between any two instructions of the main thread.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from hsm.core.job import signal_name

if TYPE_CHECKING:
    from hsm.core.local.compute_source import LocalComputeSource

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Handler:
    """Puts a signal's number into a queue. `replaced` is the handler that jobs get back."""

    def __init__(self, events: SimpleQueue[int | None], replaced: Any) -> None:
        self._events = events
        self.replaced = replaced

    def __call__(self, number: int, frame: object) -> None:
        self._events.put(number)


class Interrupts:
    """Collects signals from creation to the end of the block; outside the main thread, none."""

    def __init__(self) -> None:
        self._events: SimpleQueue[int | None] = SimpleQueue()

    @contextmanager
    def caught(self) -> Iterator[Interrupts]:
        """Install the handlers. A signal that is ignored (nohup, a background job) stays so."""
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in map(int, _SIGNALS):
                handler = signal.getsignal(number)
                if handler is not signal.SIG_IGN:
                    before[number] = handler
                    signal.signal(number, _Handler(self._events, handler))
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def wait(self, source: LocalComputeSource, job_ids: Sequence[str]) -> int | None:
        """Wait until the jobs have ended; returns the signal that made them, or None."""
        # Whoever cancels the sweep from elsewhere means what a SIGTERM means.
        source.on_cancel = lambda: self._events.put(signal.SIGTERM)
        source.when_ended(job_ids, lambda: self._events.put(None))
        first = self._events.get()
        if first is None:
            return None
        source.stop(f"interrupted by {signal_name(first)}")
        while self._events.get() is not None:
            source.stop(f"interrupted by {signal_name(first)}", grace=0.0)
        return first
