"""The display in a notebook: one output of the cell, which is replaced in place.

    any thread --counts, failures, messages--> refresher --HTML, twice a second--> the output

The last update, by `summary`, stays in the notebook: counts, failures with the last lines that they
printed, and the summary.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TextIO
from uuid import uuid4

from hsm.core.at_fork import in_child
from hsm.core.engine.compute_source import RunningJob
from hsm.core.job_numbers import show_numbers
from hsm.core.logger import get_logger
from hsm.core.printable import shorten
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths
from hsm.core.results.failure_groups import kind_of_failure
from hsm.display.base import Shielded
from hsm.display.counts import FAILURES
from hsm.display.failures import Detail, failure_details, failure_message
from hsm.display.notebook_view import FailedJobs, NotebookView
from hsm.display.plain_display import NoDisplay
from hsm.display.stream import SafeStream

#: Seconds between two updates.
_INTERVAL = 0.5
#: Kinds of failures that are shown, and messages.
_MAX_KINDS, _MAX_MESSAGES = 10, 10
#: Characters of a list of jobs' numbers, and of a line of the summary.
_MAX_NUMBERS, _WIDTH = 40, 100


class NotebookDisplay(NoDisplay):
    """Shows a view below the cell; the jobs' output, if wanted, is what the cell prints."""

    _tells_failures = False  # the view does

    def __init__(
        self,
        paths: SweepPaths,
        running: Callable[[], Sequence[RunningJob]],
        *,
        title: str = "",
        stream: TextIO | SafeStream | None = None,
        show_output: bool = False,
    ) -> None:
        super().__init__(paths, running, title=title, stream=stream, show_output=show_output)
        self._output = _Output()
        self._failures: dict[str, _Failures] = {}
        self._messages: deque[str] = deque(maxlen=_MAX_MESSAGES)
        self._best_line = ""
        self._summary: Sequence[str] = ()
        self._stopping = threading.Event()
        self._refresher: threading.Thread | None = None

    def _show_end(self, job: Job) -> None:
        if job.state in FAILURES:
            details = failure_details(job, self.paths)
            message = failure_message(job, details)
            kind = kind_of_failure(job, message)
            if kind not in self._failures:
                self._failures[kind] = _Failures(f"{job.state}: {message}", details)
            self._failures[kind].numbers.append(job.num)

    def _width(self) -> int:
        return _WIDTH

    def _show_best(self, text: str) -> None:
        self._best_line = text

    def _show_message(self, text: str) -> None:
        with self._lock:
            self._messages.append(text)
        if self._refresher is None:
            self._update()

    def _show_summary(self, lines: Sequence[str]) -> None:
        self._summary = lines
        self._update()

    def _start(self) -> None:
        if self._refresher is not None:
            return
        self._summary = ()
        self._stopping.clear()
        self._update()
        # In this thread's context, which tells the kernel below which cell the output is.
        run = contextvars.copy_context().run
        self._refresher = threading.Thread(
            target=run, args=(self._refresh,), name="hsm-display", daemon=True
        )
        in_child(self, NotebookDisplay._forget)
        self._refresher.start()

    def _stop(self) -> None:
        refresher, self._refresher = self._refresher, None
        self._stopping.set()
        if refresher is not None:
            refresher.join()
            self._update()

    def _forget(self) -> None:
        """In a forked child: the notebook is the parent's."""
        self.stream.drop()
        self._output.drop()
        self._refresher = None

    def _refresh(self) -> None:
        while not self._stopping.wait(_INTERVAL):
            with Shielded():
                self._update()

    def _update(self) -> None:
        view = self._view()
        self._output.show(view.html(), view.text())

    def _view(self) -> NotebookView:
        running: Sequence[RunningJob] = ()
        if self._refresher is not None:
            try:
                running = sorted(self._running(), key=lambda job: job.num)
            except Exception:
                get_logger(__name__).debug("cannot list the running jobs", exc_info=True)
        now = self._now()
        with self._lock:
            counts = self.counts
            return NotebookView(
                self.title,
                counts.states(),
                counts.wall_seconds(now),
                counts.eta([job.elapsed for job in running], now),
                running,
                self.varying.names,
                self.varying.constants,
                self._failed(),
                list(self._messages),
                self._summary,
                counts.is_paused,
                self._best_line,
            )

    def _failed(self) -> list[FailedJobs]:
        kinds = sorted(self._failures.values(), key=lambda each: -len(each.numbers))
        failed = []
        for each in kinds[:_MAX_KINDS]:
            text = f"job {each.numbers[0]} {each.how}"
            if len(each.numbers) > 1:
                numbers = shorten(show_numbers(each.numbers), _MAX_NUMBERS)
                text = f"{len(each.numbers)} jobs {each.how} ({numbers})"
            # Only once it stays: an update closes what a reader has opened.
            details = [line.text for line in each.details] if self._summary else ()
            failed.append(FailedJobs(text, details))
        if len(kinds) > _MAX_KINDS:
            failed.append(FailedJobs(f"and {len(kinds) - _MAX_KINDS} other kinds of failure"))
        return failed


@dataclass(frozen=True)
class _Failures:
    """Jobs that failed in the same way: how, the end of what one printed, and their numbers."""

    how: str
    details: Sequence[Detail]
    numbers: list[int] = field(default_factory=list)


class _Output:
    """An output of the cell that runs, which is replaced in place."""

    def __init__(self) -> None:
        self._id = f"hsm-{uuid4().hex}"
        self._lock = threading.Lock()
        self._shown: str | None = None
        self._is_dropped = False

    def show(self, html: str, text: str) -> None:
        with self._lock:
            if self._is_dropped or html == self._shown:
                return
            display = import_module("IPython.display").display  # loaded already, in a notebook
            data = {"text/html": html, "text/plain": text}
            display(data, raw=True, display_id=self._id, update=self._shown is not None)
            self._shown = html

    def drop(self) -> None:
        """Show nothing from now on."""
        self._is_dropped = True
