"""Whoever watches a source: its observers or, where nobody does, the terminal for jobs' output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hsm.core.engine.compute_source import RunningJob, SweepDisplay, SweepObserver
from hsm.core.engine.display_hook import display_factory
from hsm.core.logger import get_logger
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths

_log = get_logger(__name__)


class Observers(SweepObserver):
    """An observer that tells all others.

    What one raises is logged, the first time, and is nobody else's business: neither the jobs nor
    the other observers can help it.

    Args:
        observers: the first ones.
        running: the source's jobs that run now.
        shows_output: print what jobs print, where there are no observers.

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
        """Before the jobs of a sweep run: see that their output is shown, if it is to be shown."""
        if self._shows_output and not self.all and self._printer is None:
            make_display = display_factory()
            self._printer = make_display(
                "none", show_output=True, paths=paths, running=self._running
            )

    def jobs_submitted(self, jobs: Sequence[Job]) -> None:
        self._tell(lambda each: each.jobs_submitted(jobs))

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

    def message(self, text: str) -> None:
        self._tell(lambda each: each.message(text))

    def warn(self, text: str) -> None:
        """Tell a one-line notice of something that must not stay unseen, such as lost records.

        Where no observer shows it, it is logged.
        """
        if not any(getattr(each, "shows_messages", True) for each in tuple(self.all)):
            _log.warning("%s", text)
        self.message(text)

    def _tell(self, tell: Callable[[SweepObserver], None]) -> None:
        for observer in tuple(self.all):  # one may be added or removed meanwhile
            try:
                tell(observer)
            except Exception:
                if id(observer) not in self._faulty:
                    self._faulty.add(id(observer))
                    _log.exception("an observer of the sweep failed: %r", observer)
