"""How long a job may run: a fixed number of seconds, or a multiple of what other jobs took."""

from __future__ import annotations

import bisect
import threading

from hsm.core.settings.resolve import SweepConf

#: Jobs that must have completed before their median is meaningful.
_MIN_COMPLETED = 3


class TimeLimits:
    """The limits of one source's jobs. Thread-safe."""

    def __init__(self, conf: SweepConf) -> None:
        self._conf = conf
        self._mutex = threading.Lock()  # guards the next attribute
        self._durations: list[float] = []  # of the jobs that completed, sorted

    @property
    def may_change(self) -> bool:
        """Whether `timeout` may change while a job is running."""
        return self._conf.timeout_factor is not None

    def completed(self, duration: float | None) -> None:
        """Count a job that completed in `duration` seconds."""
        if duration is not None and self.may_change:
            with self._mutex:
                bisect.insort(self._durations, duration)

    def timeout(self) -> tuple[float, str] | None:
        """The current limit in seconds and the reason to give for it; None for no limit."""
        limits = []
        timeout = self._conf.timeout  # which another thread may change
        if timeout is not None:
            limits.append((timeout, f"timeout after {timeout:g} s"))
        factor = self._conf.timeout_factor
        with self._mutex:
            if factor is not None and len(self._durations) >= _MIN_COMPLETED:
                import statistics  # slow to import, and few sweeps have such a limit

                median = statistics.median(self._durations)
                reason = f"timeout after {factor * median:.3g} s, {factor:g} times the median"
                limits.append((factor * median, reason))
        return min(limits, default=None)
