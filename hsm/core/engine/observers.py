"""Passes a source's events to its observers; without any, prints what jobs print."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hsm.core.engine.compute_source import RunningJob, SweepDisplay, SweepObserver
from hsm.core.engine.display_hook import display_factory
from hsm.core.logger import get_logger
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths

_log = get_logger(__name__)


class Observers(SweepObserver):
    """An observer that passes every event on to all others.

    An observer's first exception is logged. None affects the jobs or the other observers.

    Args:
        observers: the initial ones.
        running: lists the source's running jobs.
        shows_output: print what jobs print if there are no observers.

    Attributes:
        all: any thread may add or remove one, at any time.
    """

    def __init__(
        self,
        observers: Iterable[SweepObserver],
        running: Callable[[], Sequence[RunningJob]],
        *,
        shows_output: bool,
    ) -> None:
        self.all = list(observers)
        self._faulty: set[int] = set()  # the observers that have raised, by id
        self._running = running
        self._shows_output = shows_output
        self._printer: SweepDisplay | None = None

    def prepare(self, paths: SweepPaths) -> None:
        """Call before a sweep's jobs run: sets up printing their output, if that is needed."""
        if self._shows_output and not self.all and self._printer is None:
            make_display = display_factory()
            self._printer = make_display(
                "none", show_output=True, paths=paths, running=self._running
            )

    def sweep_begun(self, facts: Mapping[str, Any], earlier: Sequence[Job]) -> None:
        self._tell(lambda each: each.sweep_begun(facts, earlier))

    def jobs_submitted(self, jobs: Sequence[Job]) -> None:
        self._tell(lambda each: each.jobs_submitted(jobs))

    def jobs_to_come(self, count: int | None) -> None:
        self._tell(lambda each: each.jobs_to_come(count))

    def job_started(self, job: Job) -> None:
        self._tell(lambda each: each.job_started(job))

    def job_output(self, job: Job, stream: str, line: str) -> None:
        if self.all:
            self._tell(lambda each: each.job_output(job, stream, line))
        elif self._printer is not None:
            self._printer.job_output(job, stream, line)

    def job_retried(self, job: Job, delay: float) -> None:
        self._tell(lambda each: each.job_retried(job, delay))

    def job_ended(self, job: Job) -> None:
        self._tell(lambda each: each.job_ended(job))

    def jobs_ended(self, jobs: Sequence[Job]) -> None:
        self._tell(lambda each: each.jobs_ended(jobs))

    def sweep_paused(self, is_paused: bool) -> None:
        self._tell(lambda each: each.sweep_paused(is_paused))

    def message(self, text: str) -> None:
        self._tell(lambda each: each.message(text))

    def warn(self, text: str) -> None:
        """Send a one-line notice that must not go unseen, such as a lost record.

        If no observer shows messages, the notice is logged as well.
        """
        if not any(getattr(each, "shows_messages", True) for each in tuple(self.all)):
            _log.warning("%s", text)
        self.message(text)

    def _tell(self, tell: Callable[[SweepObserver], None]) -> None:
        for observer in tuple(self.all):  # A copy: another thread may add or remove one.
            try:
                tell(observer)
            except Exception:
                if id(observer) not in self._faulty:
                    self._faulty.add(id(observer))
                    _log.exception("an observer of the sweep failed: %r", observer)
