"""The memory of jobs on this machine: enforcing their limit, and waiting for room for another job.

One thread samples the jobs' process trees and ends those above the memory limit, if there is one.
Before a job starts, its thread of the scheduler waits here while memory is short.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil

from hsm.core.engine.backend import NoRoom, Usage
from hsm.core.engine.obstacles import start_thread
from hsm.core.engine.own_threads import OWN_THREADS
from hsm.core.errors import SettingsError
from hsm.core.local.usage import SAMPLE_AGE, UsageSampler
from hsm.core.settings.resolve import LocalConf
from hsm.core.units import format_size

#: Seconds between samples. A job can exceed its limit by what it allocates in between.
_INTERVAL = 0.25
#: Without a limit, the thread pauses this many times as long as the last sample took.
_PAUSE_FACTOR = 50


def check_machine(conf: LocalConf) -> None:
    """Raise SettingsError for a limit that this machine can never meet."""
    total = psutil.virtual_memory().total
    if conf.min_free_memory is not None and conf.min_free_memory > total:
        has = f"this machine's {format_size(total)}"
        message = (
            f"min_free_memory={format_size(conf.min_free_memory)} exceeds {has}: "
            "no job could ever start"
        )
        raise SettingsError(
            "min_free_memory", conf.min_free_memory, "settings", f"at most {has}", message=message
        )


@dataclass(frozen=True)
class _Watched:
    began: float  # monotonic
    end: Callable[[str], None]  # ends the job; takes the reason


class Memory:
    """Watches the memory of one backend's jobs, identified by their pids. Thread-safe."""

    def __init__(self, conf: LocalConf) -> None:
        self._needed, self._limit = conf.min_free_memory, conf.memory_limit
        self._sampler = UsageSampler()
        self._changed = threading.Condition()  # guards what follows
        self._watched: dict[int, _Watched] = {}
        self._is_short = False  # whether the notice was given
        self._watcher: threading.Thread | None = None
        self._is_closed = False

    def wait_for_room(self, is_wanted: Callable[[], bool], notice: Callable[[str], None]) -> None:
        """Wait until enough memory is free for a job, or until `is_wanted` returns False."""
        if self._needed is None:
            return
        while (free := psutil.virtual_memory().available) < self._needed and is_wanted():
            with self._changed:
                was_short, self._is_short = self._is_short, True
            if not was_short:
                needed = f"min_free_memory is {format_size(self._needed)}"
                notice(f"jobs wait for memory: {format_size(free)} free, {needed}")
            time.sleep(_INTERVAL)
        with self._changed:
            self._is_short = False

    def get_ready(self) -> None:
        """Start the thread that enforces the limit, if there is one. Raises NoRoom."""
        if self._limit is not None and self._watcher is None:
            with self._changed:
                self._start_watcher(self._enforce)

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
                    self._start_watcher(self._note_peaks)

    def _start_watcher(self, watch: Callable[[], None]) -> None:
        """Start the thread, once. Call this with the mutex held. Raises NoRoom."""
        if self._watcher is None:
            watcher = threading.Thread(target=watch, name=f"{OWN_THREADS}memory", daemon=True)
            start_thread(watcher)
            self._watcher = watcher

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

    def _note_peaks(self) -> None:
        """Sample jobs older than `SAMPLE_AGE`; the thread's loop if there is no limit.

        Uses at most a fiftieth of a core, however many processes the machine has.
        """
        pause = SAMPLE_AGE
        while not self._is_closed_within(pause):
            began = time.monotonic()
            pids = self._pids(since_before=began - SAMPLE_AGE)
            if pids:
                self._sampler.recent(pids)
            pause = max(SAMPLE_AGE, _PAUSE_FACTOR * (time.monotonic() - began))

    def _enforce(self) -> None:
        """Sample all jobs and end those above the limit; the thread's loop if there is one."""
        assert self._limit is not None
        while not self._is_closed_within(_INTERVAL):
            for pid, (_, memory) in self._sampler.sample(self._pids()).items():
                # Resident memory counts shared pages once per process, so it is never below the
                # exact figure. It is quick to read; ask for the exact one only above the limit.
                if memory is not None and memory > self._limit:
                    self._check(pid, self._limit)

    def _check(self, pid: int, limit: int) -> None:
        memory = self._sampler.exact(pid)
        with self._changed:
            watched = self._watched.get(pid)
        if memory > limit and watched is not None:
            allowed = f"memory_limit is {format_size(limit)}"
            watched.end(f"out of memory: used {format_size(memory)}, {allowed}")
