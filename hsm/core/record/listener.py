"""Checks for requests to a launcher's sweeps, twice a second, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from hsm.core.record.paths import SweepPaths
from hsm.core.record.requests import Request, take_requests

#: Seconds between two checks for requests.
_INTERVAL = 0.5


class Listener:
    """Checks for requests to one launcher's sweeps, in its own thread. Thread-safe.

    Args:
        take: called with a sweep's paths and each request to it, in their order. It must not block
            and must not raise.
        thread_name: the name of the thread, which starts with the first sweep.
        look: called with a sweep's paths before each check.
    """

    def __init__(
        self,
        take: Callable[[SweepPaths, Request], None],
        thread_name: str,
        look: Callable[[SweepPaths], None] = lambda paths: None,
    ) -> None:
        self._take = take
        self._look = look
        self._thread_name = thread_name
        self._mutex = threading.Lock()
        self._sweeps: list[SweepPaths] = []
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def add(self, paths: SweepPaths) -> None:
        """Check for requests to the sweep at `paths`, which this process is launching.

        If no thread can be started, `hsm cancel` sends a signal instead, until a later call can.
        """
        with self._mutex:
            self._sweeps.append(paths)
            if self._thread is None:
                thread = threading.Thread(target=self._listen, name=self._thread_name, daemon=True)
                with suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    def stop(self) -> None:
        """Stop checking. Idempotent; may be called from `take`."""
        self._stopped.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _listen(self) -> None:
        while not self._stopped.wait(_INTERVAL):
            with self._mutex:
                sweeps = list(self._sweeps)
            for paths in sweeps:
                self._look(paths)
                for request in take_requests(paths):
                    self._take(paths, request)
