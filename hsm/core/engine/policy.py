"""What follows from a job's end: another attempt, the end of the whole sweep, or nothing."""

from __future__ import annotations

import threading

from hsm.core.record.job import Ending, JobState
from hsm.core.settings.resolve import SweepConf


def failure_kinds(ending: Ending) -> frozenset[str]:
    """By which names `retry_on` may have meant this ending; empty for one that is no failure."""
    kinds = {
        JobState.FAILED: {"failed"},
        JobState.TIMEOUT: {"timeout"},
        JobState.OUT_OF_MEMORY: {"out_of_memory"},
    }.get(ending.state, set())
    if ending.state is JobState.FAILED and ending.signal is not None:
        kinds = {"crashed"}
    return frozenset(kinds)


class RetryPolicy:
    """Whether a job gets another attempt, and when."""

    def __init__(self, conf: SweepConf) -> None:
        self._conf = conf

    def delay(self, ending: Ending, attempts: int) -> float | None:
        """Seconds until the next attempt after `attempts` of them; None if there is to be none.

        The first retry comes after `retry_delay`, each further one after twice as long as the one
        before, up to `retry_max_delay`.
        """
        conf = self._conf
        if attempts > conf.max_retries or not failure_kinds(ending) & set(conf.retry_on):
            return None
        # The exponent is bounded, as 2.0 ** 5000 is no float.
        return float(min(conf.retry_delay * 2.0 ** min(attempts - 1, 60), conf.retry_max_delay))


class StopPolicy:
    """Whether a sweep has seen enough failures. Thread-safe.

    Attributes:
        failures: jobs that did not complete.
        in_a_row: how many did not since the last one that did.
    """

    def __init__(self, conf: SweepConf) -> None:
        self._conf = conf
        self._mutex = threading.Lock()
        self.failures = 0
        self.in_a_row = 0

    def note(self, num: int, state: JobState) -> str | None:
        """Job `num` has ended in `state`; the reason to stop everything, if that is one."""
        if state is JobState.CANCELLED:
            return None
        with self._mutex:
            if state.has_succeeded:
                self.in_a_row = 0
                return None
            self.failures += 1
            self.in_a_row += 1
            return self._reason(num)

    def _reason(self, num: int) -> str | None:
        conf = self._conf
        if conf.fail_fast:
            return f"fail_fast: job {num} did not complete"
        if conf.max_failures is not None and self.failures >= conf.max_failures:
            return f"max_failures: {self.failures} jobs did not complete"
        most = conf.max_consecutive_failures
        if most is not None and self.in_a_row >= most:
            return f"max_consecutive_failures: {self.in_a_row} jobs in a row did not complete"
        return None
