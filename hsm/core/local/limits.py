"""What a job may use, and when the machine has room for another: time and memory.

One thread samples the process trees and ends those above the memory limit, if there is one. Each
job's own thread waits here while memory is short, before it starts, and asks for its deadline.
"""

from __future__ import annotations

import bisect
import statistics
import threading
import time
from collections.abc import Callable

import psutil

from hsm.core.config import LocalConf
from hsm.core.engine.judgement import Stop
from hsm.core.engine.ledger import JobHandle, Ledger
from hsm.core.engine.own_threads import OWN_THREADS
from hsm.core.engine.policy import History
from hsm.core.errors import SettingsError
from hsm.core.job import JobState
from hsm.core.local.usage import SAMPLE_AGE, UsageSampler

#: Seconds between looks at memory: a job can exceed its limit by what it allocates in between.
_INTERVAL = 0.25
#: How many times as long as a sample took the thread rests, where there is no limit to see to.
_REST = 50
#: Jobs that must have completed before their median says anything.
_ENOUGH = 3


def check_machine(conf: LocalConf) -> None:
    """Raises SettingsError for a limit that this machine can never meet."""
    total = psutil.virtual_memory().total
    if conf.min_free_memory is not None and conf.min_free_memory > total:
        allowed = f"less than the {_size(total)} that this machine has"
        hint = "jobs would wait for ever"
        given = _size(conf.min_free_memory)
        raise SettingsError("min_free_memory", given, "settings", allowed, hint)


class Limits:
    """The limits of one source. Thread-safe."""

    def __init__(
        self,
        conf: LocalConf,
        ledger: Ledger,
        sampler: UsageSampler,
        tell: Callable[..., None],
        history: History | None = None,
    ) -> None:
        self._conf = conf
        self._ledger = ledger
        self._sampler = sampler
        self._tell = tell
        self._changed = threading.Condition()  # guards what follows
        self._durations = (history or History()).durations
        self._is_short = False  # of memory: people were told
        self._watcher: threading.Thread | None = None
        self._is_closed = False

    # --- time ---

    def completed(self, duration: float | None) -> None:
        """A job has completed in `duration` seconds."""
        if duration is not None and self._conf.timeout_factor is not None:
            with self._changed:
                bisect.insort(self._durations, duration)

    def timeout(self) -> tuple[float, str] | None:
        """Seconds that a job may run, as things stand, and why; None for no limit."""
        limits = []
        if self._conf.timeout is not None:
            limits.append((self._conf.timeout, f"timeout after {self._conf.timeout:g} s"))
        factor = self._conf.timeout_factor
        with self._changed:
            if factor is not None and len(self._durations) >= _ENOUGH:
                median = statistics.median(self._durations)
                reason = f"timeout after {factor * median:.3g} s, {factor:g} times the median"
                limits.append((factor * median, reason))
        return min(limits, default=None)

    @property
    def timeout_may_change(self) -> bool:
        """Whether `timeout` has to be asked again while a job runs."""
        return self._conf.timeout_factor is not None

    # --- memory ---

    def wait_for_memory(self, is_wanted: Callable[[], bool]) -> None:
        """Wait until enough memory is free for a job, or `is_wanted` says that it need not run."""
        needed = self._conf.min_free_memory
        if needed is None:
            return
        while (free := psutil.virtual_memory().available) < needed and is_wanted():
            self._say_short(free, needed)
            with self._changed:
                self._changed.wait(_INTERVAL)
        with self._changed:
            self._is_short = False

    def _say_short(self, free: int, needed: int) -> None:
        with self._changed:
            was_short, self._is_short = self._is_short, True
        if not was_short:
            text = (
                f"jobs wait: {_size(free)} of memory are free, min_free_memory is {_size(needed)}"
            )
            self._tell("message", text)

    def watch(self, pid: int) -> None:
        """The process of a job runs: see that somebody looks at the job's memory."""
        self._sampler.watch(pid)
        with self._changed:
            if self._watcher is not None:
                return
            watch = self._note_peaks if self._conf.memory_limit is None else self._enforce
            watcher = threading.Thread(target=watch, name=f"{OWN_THREADS}memory", daemon=True)
            try:
                watcher.start()
            except RuntimeError:
                if self._conf.memory_limit is not None:
                    raise  # A limit that nobody looks after would be none.
            else:
                self._watcher = watcher

    def peak(self, pid: int) -> int:
        """The most bytes that the job of `pid` was seen to use, which has ended; 0 if unknown."""
        return self._sampler.peak(pid)

    def wake(self) -> None:
        """Look again at whether jobs are wanted."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._watcher is not None:
            self._watcher.join()

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
            pids = self._ledger.pids(started_before=began - SAMPLE_AGE)
            if pids:
                self._sampler.recent(pids)
            pause = max(SAMPLE_AGE, _REST * (time.monotonic() - began))

    def _enforce(self) -> None:
        """The thread, where there is a limit."""
        limit = self._conf.memory_limit
        while not self._is_closed_within(_INTERVAL):
            usage = self._sampler.sample(self._ledger.pids())
            for job_id, (_, memory) in usage.items():
                # Resident memory counts what processes share once for each of them. It is quick to
                # read, and where it is below the limit the exact figure is as well.
                if memory is not None and memory > limit:
                    self._check(self._ledger[job_id], limit)

    def _check(self, handle: JobHandle, limit: int) -> None:
        attempt = handle.job.attempt
        if attempt is None or attempt.pid is None:
            return
        memory = self._sampler.exact(attempt.pid)
        if memory > limit:
            reason = f"out of memory: it used {_size(memory)}, memory_limit is {_size(limit)}"
            # SIGKILL at once: in the seconds of a grace it could take all that there is.
            self._ledger.end(handle, Stop(JobState.OUT_OF_MEMORY, reason), 0.0)


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"
