"""What the current attempt of a job has reported, as several threads read it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from hsm.core.record.job import Job
from hsm.core.record.metrics import Measured, Measurement, MetricsFile
from hsm.core.record.paths import SweepPaths

#: Seconds for which what was read for a display is new enough.
_SHOWN_FOR = 0.5
#: Values of steps that are told apart, in any order; beyond that, only larger steps are new.
_MAX_STEPS = 100_000


class Reported:
    """Reads what one attempt of a job reports. Thread-safe, but for `new_steps`.

    Args:
        job: the job.
        paths: its sweep's.
        start: where the attempt begins in the file; None: at the file's end.

    Attributes:
        start: see above.
        reason: why the job is to end early; None if it is not.
        answer: the last answer that the job got.
        is_ending: whether the attempt is over, so that the rest is to be read.
        is_over: set once that has been read.
    """

    __slots__ = (
        *("job", "paths", "start", "reason", "answer", "is_ending", "is_over"),
        *("_file", "_mutex", "_looks_at", "_steps", "_last_step"),
    )

    def __init__(self, job: Job, paths: SweepPaths, start: int | None = None) -> None:
        self.job, self.paths = job, paths
        self._file = MetricsFile(paths, job.num, start)
        self.start = self._file.offset
        self.reason: str | None = None
        self.answer = b""
        self.is_ending = False
        self.is_over: threading.Event | None = None
        self._mutex = threading.Lock()  # guards the next two
        self._looks_at = 0.0  # when a display may have it read again
        self._steps: set[tuple[int, str]] = set()
        self._last_step = -1

    @property
    def measured(self) -> Measured:
        """All that was read, in short; changes as long as it is followed."""
        return self._file.measured

    @property
    def offset(self) -> int:
        """The bytes up to here have been read."""
        return self._file.offset

    def read(self) -> list[Measurement]:
        """The next measurements; all that are left if the attempt is over."""
        with self._mutex:
            return self._file.finish() if self.is_ending else self._file.read()

    def shown(self, *, reads: bool) -> Measured:
        """What there is, for a display.

        Args:
            reads: look whether there is more, from time to time; else somebody reads it anyway.
        """
        with self._mutex:
            now = time.monotonic()
            if reads and not self.is_ending and now >= self._looks_at:
                self._looks_at = now + _SHOWN_FOR
                self._file.read()
            measured = self._file.measured
            return replace(measured, latest=dict(measured.latest))

    def new_steps(self, found: Iterable[Measurement]) -> Iterator[Measurement]:
        """The measurements, without values of steps that were there before.

        A job that goes back to a checkpoint, and each of several ranks, may report a step again.
        """
        for measurement in found:
            step, values = measurement
            if step is not None:
                if len(self._steps) < _MAX_STEPS:
                    values = {
                        name: value
                        for name, value in values.items()
                        if (step, name) not in self._steps
                    }
                    self._steps.update((step, name) for name in values)
                elif step <= self._last_step:
                    continue
                self._last_step = max(step, self._last_step)
                if not values:
                    continue
            yield Measurement(step, values)
