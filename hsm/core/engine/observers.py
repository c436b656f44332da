"""Whoever watches a source: its observers or, where nobody does, the terminal for jobs' output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hsm.core.compute_source import RunningJob, SweepObserver
from hsm.core.display_hook import SweepDisplay, display_factory
from hsm.core.job import Job
from hsm.core.logger import get_logger
from hsm.core.paths import SweepPaths

_log = get_logger(__name__)


class Audience:
    """Tells observers what happens.

    Args:
        observers: the first ones.
        running: the source's jobs that run now.
        shows_output: print what jobs print, where there are no observers.

    Attributes:
        observers: any thread may add or remove one, at any time.
    """

    def __init__(
        self,
        observers: Iterable[SweepObserver],
        running: Callable[[], Sequence[RunningJob]],
        *,
        shows_output: bool,
    ) -> None:
        self.observers = list(observers)
        self._faulty: set[int] = set()  # the observers that have raised, by id
        self._running = running
        self._shows_output = shows_output
        self._printer: SweepDisplay | None = None

    def prepare(self, paths: SweepPaths) -> None:
        """Before the jobs of a sweep run: see that their output is shown, if it is to be shown."""
        if self._shows_output and not self.observers and self._printer is None:
            make_display = display_factory()
            self._printer = make_display(
                "none", show_output=True, paths=paths, running=self._running
            )

    def tell(self, event: str, *arguments: Any) -> None:
        """Call the method `event` of every observer; see `SweepObserver`.

        What one raises is logged, the first time, and is nobody else's business: neither the jobs
        nor the other observers can help it.
        """
        for observer in tuple(self.observers):  # one may be added or removed meanwhile
            try:
                getattr(observer, event)(*arguments)
            except Exception:
                if id(observer) not in self._faulty:
                    self._faulty.add(id(observer))
                    _log.exception("an observer of the sweep has failed: %r", observer)

    def warn(self, text: str) -> None:
        """Tell a one-line notice of something that must not stay unseen, such as lost records.

        Where no observer shows it, it is logged.
        """
        if not any(getattr(each, "shows_messages", True) for each in tuple(self.observers)):
            _log.warning("%s", text)
        self.tell("message", text)

    def tell_output(self, job: Job, stream: str, line: str) -> None:
        """`job` printed `line` on `stream`."""
        if self.observers:
            self.tell("job_output", job, stream, line)
        elif self._printer is not None:
            self._printer.job_output(job, stream, line)
