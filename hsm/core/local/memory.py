"""The memory of jobs on this machine: enforcing their limit, and what is free for another job.

One thread samples the jobs' process trees and ends those above the memory limit, if there is one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from hsm.core.engine.backend import NoRoom, Usage
from hsm.core.engine.obstacles import start_thread
from hsm.core.local.usage import SAMPLE_AGE, UsageSampler
from hsm.core.logger import get_logger
from hsm.core.settings.resolve import LocalConf
from hsm.core.units import format_size

log = get_logger(__name__)

#: Seconds between looks. A job can exceed its limit by what it allocates in between.
_INTERVAL = 0.25
#: The thread pauses this many times as long as its last look took: it uses a fifth of a core at
#: most, however large the processes are. Without a limit, the sampler takes much less.
_PAUSE_FACTOR = 4


class _Watched(NamedTuple):
    began: float  # monotonic
    end: Callable[[str], None]  # ends the job; takes the reason


class Memory:
    """Watches the memory of one backend's jobs, identified by their pids. Thread-safe."""

    def __init__(self, conf: LocalConf) -> None:
        self._needed, self._limit = conf.min_free_memory, conf.memory_limit
        self._sampler = UsageSampler()
        self._changed = threading.Condition()  # guards what follows
        self._watched: dict[int, _Watched] = {}
        self._watcher: threading.Thread | None = None
        self._is_closed = False

    def lack(self) -> str:
        """What is missing of the memory that must be free for another job; empty if nothing is."""
        if self._needed is None:
            return ""
        import psutil  # as in `check_machine`

        if (free := psutil.virtual_memory().available) >= self._needed:
            return ""
        return f"memory: {format_size(free)} free, min_free_memory is {format_size(self._needed)}"

    def get_ready(self) -> None:
        """Start the thread that enforces the limit, if there is one. Raises NoRoom."""
        if self._limit is not None and self._watcher is None:
            with self._changed:
                self._start_watcher()

    def watch(self, pid: int, end: Callable[[str], None]) -> None:
        """Watch the memory of the job whose process `pid` has just started.

        Args:
            pid: the job's process.
            end: called with the reason, in one line, if the job exceeds the limit.
        """
        self._sampler.watch(pid)
        with self._changed:
            self._watched[pid] = _Watched(time.monotonic(), end)
            if self._limit is None:
                with suppress(NoRoom):  # the peaks are not noted then
                    self._start_watcher()

    def _start_watcher(self) -> None:
        """Start the thread, once. Call this with the mutex held. Raises NoRoom."""
        if self._watcher is None:
            self._watcher = start_thread(self._watch_all, "memory")

    def forget(self, pid: int) -> int:
        """Stop watching the job of `pid`; return its highest sample in bytes, 0 if none."""
        with self._changed:
            self._watched.pop(pid, None)
        return self._sampler.peak(pid)

    def usage(self, pid: int) -> Usage:
        """Return the usage of the job of `pid`, from a sample at most a second old."""
        return self._sampler.recent(self._pids()).get(pid, (None, None))

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._watcher is not None:
            self._watcher.join()

    def _pids(self, since_before: float | None = None) -> list[int]:
        """The pids of running jobs; leaves out those started after `since_before`, if given."""
        with self._changed:
            return [
                pid
                for pid, watched in self._watched.items()
                if since_before is None or watched.began <= since_before
            ]

    def _is_closed_within(self, seconds: float) -> bool:
        with self._changed:
            return self._is_closed or self._changed.wait_for(lambda: self._is_closed, seconds)

    def _watch_all(self) -> None:
        """Sample the jobs and end those above the limit, if there is one; the thread's loop."""
        pause = _INTERVAL if self._limit is not None else SAMPLE_AGE
        wait, was_logged = pause, False
        while not self._is_closed_within(wait):
            began = time.monotonic()
            try:
                self._look(began)
            except Exception:  # a bug, in hsm or psutil: without this thread there is no limit
                if not was_logged:
                    log.exception("a look at the jobs' memory failed; hsm goes on looking")
                was_logged = True
            wait = max(pause, _PAUSE_FACTOR * (time.monotonic() - began))

    def _look(self, now: float) -> None:
        if self._limit is not None:
            for pid, memory in self._sampler.above(self._pids(), self._limit).items():
                self._end(pid, memory, self._limit)
        if pids := self._pids(since_before=now - SAMPLE_AGE):
            self._sampler.recent(pids)  # notes peaks

    def _end(self, pid: int, memory: int, limit: int) -> None:
        with self._changed:
            watched = self._watched.get(pid)
        if watched is not None:
            allowed = f"memory_limit is {format_size(limit)}"
            watched.end(f"out of memory: used {format_size(memory)}, {allowed}")
