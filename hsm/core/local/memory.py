"""The memory of jobs on this machine: what each may use, and when there is room for another.

One thread samples the process trees and ends those above the memory limit, if there is one. Each
job's own thread waits here while memory is short, before it starts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from hsm.core.engine.backend import Usage
from hsm.core.engine.own_threads import OWN_THREADS
from hsm.core.errors import SettingsError
from hsm.core.local.usage import SAMPLE_AGE, UsageSampler
from hsm.core.settings.resolve import LocalConf
from hsm.core.units import format_size

#: Seconds between looks at memory: a job can exceed its limit by what it allocates in between.
_INTERVAL = 0.25
#: How many times as long as a sample took the thread rests, where there is no limit to see to.
_REST = 50


def check_machine(conf: LocalConf) -> None:
    """Raises SettingsError for a limit that this machine can never meet."""
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
    end: Callable[[str], None]  # ends the job, for a reason


class Memory:
    """Watches the memory of one backend's jobs, each known by its process's pid. Thread-safe."""

    def __init__(self, conf: LocalConf) -> None:
        self._needed, self._limit = conf.min_free_memory, conf.memory_limit
        self._sampler = UsageSampler()
        self._changed = threading.Condition()  # guards what follows
        self._watched: dict[int, _Watched] = {}
        self._is_short = False  # people were told
        self._watcher: threading.Thread | None = None
        self._is_closed = False

    def wait_for_room(self, is_wanted: Callable[[], bool], notice: Callable[[str], None]) -> None:
        """Wait until enough memory is free for a job, or `is_wanted` says that it need not run."""
        if self._needed is None:
            return
        while (free := psutil.virtual_memory().available) < self._needed and is_wanted():
            with self._changed:
                was_short, self._is_short = self._is_short, True
            if not was_short:
                least = f"min_free_memory is {format_size(self._needed)}"
                notice(f"jobs wait for memory: {format_size(free)} free, {least}")
            time.sleep(_INTERVAL)
        with self._changed:
            self._is_short = False

    def watch(self, pid: int, end: Callable[[str], None]) -> None:
        """The process of a job runs: see that somebody looks at the job's memory.

        Args:
            end: called, with the reason in a line, if the job has to end because of that.

        Raises:
            RuntimeError: there is a limit, and no thread that could look after it.
        """
        self._sampler.watch(pid)
        with self._changed:
            self._watched[pid] = _Watched(time.monotonic(), end)
            if self._watcher is not None:
                return
            watch = self._note_peaks if self._limit is None else self._enforce
            watcher = threading.Thread(target=watch, name=f"{OWN_THREADS}memory", daemon=True)
            try:
                watcher.start()
            except RuntimeError:
                if self._limit is not None:
                    raise  # A limit that nobody looks after would be none.
            else:
                self._watcher = watcher

    def forget(self, pid: int) -> int:
        """The job of `pid` has ended; returns the most bytes that it was seen to use, 0 if none."""
        with self._changed:
            self._watched.pop(pid, None)
        return self._sampler.peak(pid)

    def usage(self, pid: int) -> Usage:
        """What the job of `pid` uses, by a sample that is at most a second old."""
        return self._sampler.recent(self._pids()).get(pid, (None, None))

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._watcher is not None:
            self._watcher.join()

    def _pids(self, since_before: float | None = None) -> list[int]:
        """The processes of jobs that run; those started after `since_before` left out."""
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
        """The thread, where there is no limit: samples the jobs that run for a while.

        It takes a fiftieth of a core at most, however many processes the machine has.
        """
        pause = SAMPLE_AGE
        while not self._is_closed_within(pause):
            began = time.monotonic()
            pids = self._pids(since_before=began - SAMPLE_AGE)
            if pids:
                self._sampler.recent(pids)
            pause = max(SAMPLE_AGE, _REST * (time.monotonic() - began))

    def _enforce(self) -> None:
        """The thread, where there is a limit."""
        assert self._limit is not None
        while not self._is_closed_within(_INTERVAL):
            for pid, (_, memory) in self._sampler.sample(self._pids()).items():
                # Resident memory counts what processes share once for each of them. It is quick to
                # read, and where it is below the limit the exact figure is as well.
                if memory is not None and memory > self._limit:
                    self._check(pid, self._limit)

    def _check(self, pid: int, limit: int) -> None:
        memory = self._sampler.exact(pid)
        with self._changed:
            watched = self._watched.get(pid)
        if memory > limit and watched is not None:
            most = f"memory_limit is {format_size(limit)}"
            watched.end(f"out of memory: used {format_size(memory)}, {most}")
