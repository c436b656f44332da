"""The base of all displays: counts a sweep's jobs, and never raises into the code that reports."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from hsm.core.engine.compute_source import RunningJob, SweepDisplay
from hsm.core.logger import get_logger
from hsm.core.printable import printable
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths
from hsm.display import wording
from hsm.display.counts import Counts
from hsm.display.stream import SafeStream
from hsm.display.text import clean
from hsm.display.varying import Varying

if TYPE_CHECKING:
    from hsm.core.results.goal import Goal
    from hsm.display.best_line import BestLine
    from hsm.display.failures import Detail

_log = get_logger(__name__)
_Display = TypeVar("_Display", bound="Display")


class Display(SweepDisplay):
    """Base class of the displays; counts jobs and leaves all printing to subclasses.

    A context manager: a live view exists only inside the block, and on exit the terminal is as it
    was. The block may be entered again. Every method may be called from any thread, before, inside
    and after the block, and none raises. `jobs_submitted` takes each job in the state that it has,
    without printing anything, so that a display can join a sweep that is already running.

    Attributes:
        error_follows: whether the exception of a job that failed will be shown after the summary,
            by somebody else; until then its last lines are enough.

    Args:
        paths: the sweep's directory.
        running: returns the jobs that are running now.
        title: the sweep's name; may be empty.
        stream: where to write; None for nowhere.
        show_output: whether to show the jobs' output as well.
    """

    def __init__(
        self,
        paths: SweepPaths,
        running: Callable[[], Sequence[RunningJob]],
        *,
        title: str = "",
        stream: TextIO | SafeStream | None = None,
        show_output: bool = False,
    ) -> None:
        self.paths = paths
        self.title = printable(title)
        #: By what the summary ranks jobs; None for what the sweep has on record.
        self.goal: Goal | None = None
        self.counts = Counts()
        self.varying = Varying()
        self._best: BestLine | None = None
        self._clock = time.time() - time.monotonic()
        self.stream = stream if isinstance(stream, SafeStream) else SafeStream(stream)
        self.show_output = show_output
        self.error_follows = False
        self._running = running
        self._kinds: set[str] = set()  # of the failures whose logs were shown
        # Reentrant: a signal handler may interrupt the thread that holds it, and print a message.
        self._lock = threading.RLock()

    #: Whether the summary tells the failures, which a display may show on its own to the end.
    _tells_failures = True

    def __enter__(self: _Display) -> _Display:
        with Shielded():
            if self._has_summary:
                # Not earlier, since the first jobs are starting by now; and not at the end, when
                # another hsm may be installed.
                import hsm.display.summary  # noqa: F401
            self._start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with Shielded():
            self._stop()

    def sweep_begun(self, facts: Mapping[str, Any], earlier: Sequence[Job]) -> None:
        with Shielded(), self._lock:
            from hsm.core.results.goal import Goal

            if Goal.recorded(facts).direction is None:
                self._best = None  # Nothing is best.
                return
            from hsm.display.best_line import BestLine  # as few sweeps need it

            self._best = BestLine(facts, self.paths)
            self._best.ended(earlier, {})

    def jobs_submitted(self, jobs: Sequence[Job]) -> None:
        with Shielded(), self._lock:
            self.counts.submitted(jobs, self._now())
            self.varying.add(jobs)

    def jobs_to_come(self, count: int | None) -> None:
        with Shielded(), self._lock:
            self.counts.to_come = count or 0

    def job_started(self, job: Job) -> None:
        with Shielded(), self._lock:
            self.counts.started(job, self._skew())
            self._show_start(job)

    def job_output(self, job: Job, stream: str, line: str) -> None:
        if self.show_output:
            with Shielded():
                self._show_output(job, stream, clean(line))

    def job_retried(self, job: Job, delay: float) -> None:
        with Shielded():
            with self._lock:
                self.counts.waits_again(job)
            self._show_message(wording.retried(job, delay))

    def job_ended(self, job: Job) -> None:
        self.jobs_ended([job])

    def jobs_ended(self, jobs: Sequence[Job]) -> None:
        with Shielded(), self._lock:
            skew = self._skew()
            for job in jobs:
                self.counts.ended_now(job, skew)
                self._show_end(job)
            if self._best and (line := self._best.ended(jobs, self.varying.names)):
                self._show_best(line)

    def sweep_paused(self, is_paused: bool) -> None:
        with Shielded(), self._lock:
            self.counts.is_paused = is_paused

    @property
    def shows_messages(self) -> bool:
        return type(self)._show_message is not Display._show_message

    def message(self, text: str) -> None:
        with Shielded():
            self._show_message(printable(text))

    def summary(self) -> None:
        """Print the summary: counts, times, the best jobs, failures, where to look further."""
        if not self._has_summary:
            return
        with Shielded():
            from hsm.display.summary import Shown, summary  # as `__enter__` has it

            shown = Shown(self.title, self._width(), self.goal, self._kinds, self._tells_failures)
            self._show_summary(summary(self.counts, self.paths, self._now(), shown))

    @property
    def _has_summary(self) -> bool:
        return type(self)._show_summary is not Display._show_summary

    def _failure_details(self, job: Job) -> list[Detail]:
        """The end of what a failed job printed; nothing if such a failure was shown before."""
        from hsm.core.results.failure_groups import kind_of_failure  # as `__enter__` has it
        from hsm.display.failures import failure_details, failure_message

        details = failure_details(job, self.paths, brief=self.error_follows)
        kind = kind_of_failure(job, failure_message(job, details))
        if kind in self._kinds:
            return []
        self._kinds.add(kind)
        return details

    def _width(self) -> int:
        """Columns of the terminal."""
        return self.stream.columns

    def _now(self) -> float:
        """The time in Unix seconds, as if nobody had set the clock since this display was made."""
        return time.monotonic() + self._clock

    def _skew(self) -> float:
        """How many seconds the clock has been set ahead since this display was made."""
        return time.time() - self._now()

    # Hooks for subclasses. Starts and ends arrive one at a time.

    def _start(self) -> None: ...

    def _stop(self) -> None: ...

    def _show_start(self, job: Job) -> None: ...

    def _show_output(self, job: Job, stream: str, line: str) -> None: ...

    def _show_end(self, job: Job) -> None: ...

    def _show_best(self, text: str) -> None: ...

    def _show_message(self, text: str) -> None: ...

    def _show_summary(self, lines: Sequence[str]) -> None: ...


class Shielded:
    """Logs exceptions instead of raising them: a sweep must not fail because its display does.

    Not a generator, which takes four times as long: this runs twice per job.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        _log.debug("the display of the sweep failed", exc_info=error)
        return True
