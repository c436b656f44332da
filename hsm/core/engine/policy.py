"""Decides what follows a job's end: a retry, the end of the whole sweep, or nothing."""

from __future__ import annotations

import threading

from hsm.core.record.job import Ending, JobState
from hsm.core.settings.resolve import SweepConf


def failure_kinds(ending: Ending) -> frozenset[str]:
    """The values of `retry_on` that cover this ending; empty if it is not a failure."""
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
        """Seconds until the next attempt after `attempts` attempts; None for no retry.

        The first retry comes after `retry_delay`; the delay doubles with each further one, up to
        `retry_max_delay`.
        """
        conf = self._conf
        if attempts > conf.max_retries or not failure_kinds(ending) & set(conf.retry_on):
            return None
        # Bound the exponent: 2.0 ** 5000 overflows.
        return float(min(conf.retry_delay * 2.0 ** min(attempts - 1, 60), conf.retry_max_delay))


class StopPolicy:
    """Whether to stop a sweep because of its failures. Thread-safe.

    Attributes:
        failures: how many jobs failed, which those that were pruned or cancelled have not.
        in_a_row: how many failed since the last one that completed or was pruned.
        has_completed: whether any job has completed, in an earlier run of the sweep perhaps.
    """

    def __init__(self, conf: SweepConf) -> None:
        self._conf = conf
        self._mutex = threading.Lock()
        self.failures = 0
        self.in_a_row = 0
        self.has_completed = False

    def note(self, num: int, state: JobState) -> str | None:
        """Count the end of job `num` in `state`; returns a reason to stop everything, or None."""
        if state is JobState.CANCELLED:
            return None
        with self._mutex:
            self.has_completed |= state is JobState.COMPLETED
            if not state.has_failed:
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
        limit = conf.max_consecutive_failures
        if limit is not None and self.in_a_row >= limit:
            return f"max_consecutive_failures: {self.in_a_row} jobs in a row did not complete"
        return None
