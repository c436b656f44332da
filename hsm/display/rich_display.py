"""The live display: failures and output scroll by above a view of the running jobs.

    any thread --lines, failed jobs--> queue --+
                                               |--> refresher: print the queue, redraw the view
    Counts, running() -------------------------+

Threads that report events only add to the queue. One thread, the refresher, reads files and writes
to the terminal a few times a second, so a thousand events a second cost only a few redraws.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TextIO, TypeAlias, cast

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment

from hsm.core.at_fork import in_child
from hsm.core.engine.compute_source import RunningJob
from hsm.core.logger import get_logger
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths
from hsm.display import wording
from hsm.display.base import Display, Shielded
from hsm.display.counts import FAILURES
from hsm.display.job_control import JobControl
from hsm.display.rich_view import LiveView
from hsm.display.stream import SafeStream
from hsm.display.styles import BOLD, BOLD_RED, CYAN, DIM, GREEN, YELLOW, Line

#: Seconds between two redraws; more if drawing would otherwise take more than its share of a core.
_INTERVAL, _MAX_INTERVAL = 0.25, 2.0
#: The share of a core that drawing may take. Many rows cost more and are redrawn less often.
_MAX_CPU_SHARE = 0.05
#: Seconds by which a redraw is late if the process may have been stopped in the meantime.
_LATE = 0.1
#: Characters of output that may be queued; beyond that `job_output` blocks.
_QUEUE_LIMIT = 4 << 20
#: Failures shown in full, and those whose logs are read, per redraw.
_MAX_DETAILS, _MAX_READ = 5, 50


@dataclass(frozen=True)
class _BestLine:
    """A line on a new best, which the next one makes superfluous."""

    line: Line


#: What is queued for printing: lines, and failed jobs, whose lines the refresher composes.
_Item: TypeAlias = Line | Job | _BestLine


class RichDisplay(Display):
    """Draws a live view inside its block; outside of it, prints at once.

    `job_output` blocks while too much output is queued for a slow terminal. No other method blocks.

    Args:
        console: where to draw, instead of on `stream`.
    """

    def __init__(
        self,
        paths: SweepPaths,
        running: Callable[[], Sequence[RunningJob]],
        *,
        title: str = "",
        stream: TextIO | SafeStream | None = None,
        show_output: bool = False,
        console: Console | None = None,
    ) -> None:
        super().__init__(paths, running, title=title, stream=stream, show_output=show_output)
        self._console = console or Console(
            file=cast("TextIO", self.stream),
            force_terminal=True,
            force_jupyter=False,
            highlight=False,
            markup=False,
            emoji=False,
        )
        # Held while drawing; self._lock is never taken under it.
        self._drawing = threading.RLock()
        self._live: Live | None = None
        self._latest = _Latest()
        self._last_running: Sequence[RunningJob] = ()
        self._is_hidden = False
        self._job_control = JobControl(self.stream, self._hide)
        self._redirection: _Redirection | None = None
        self._restore = ExitStack()
        # Guards the attributes below and is notified when they change.
        self._changed = threading.Condition()
        self._queue: deque[_Item] = deque()
        self._queued_output = 0
        self._refresher: threading.Thread | None = None
        self._stopping = False

    def _show_output(self, job: Job, stream: str, line: str) -> None:
        style = YELLOW if stream == "stderr" else CYAN
        self._put([(f"[{job.num}] ", style), (line, None)], len(line) + 50)

    def _show_end(self, job: Job) -> None:
        if job.state in FAILURES:
            self._put(job)

    def _show_best(self, text: str) -> None:
        self._put(_BestLine([(text, GREEN)]))

    def _show_message(self, text: str) -> None:
        self._put([(text, YELLOW)])

    def _show_summary(self, lines: Sequence[str]) -> None:
        for number, line in enumerate(lines):
            self._put([(line, None if number else BOLD)])

    def _put(self, item: _Item, size: int = 0) -> None:
        """Queue `item` for printing above the view; if it has a `size`, wait for room first."""
        with self._changed:
            if size:
                self._changed.wait_for(self._has_room)
            self._queue.append(item)
            self._queued_output += size
            if self._queued_output > _QUEUE_LIMIT // 2:
                self._changed.notify_all()
            live = self._refresher is not None
        if not live:
            self._draw()

    def _has_room(self) -> bool:
        return self._refresher is None or self._queued_output < _QUEUE_LIMIT

    def _start(self) -> None:
        if self._refresher is not None:
            return
        live = Live(
            self._latest,
            console=self._console,
            auto_refresh=False,
            transient=True,
            vertical_overflow="crop",
            # Prints to the terminal go above the view; streams that lead elsewhere stay untouched.
            redirect_stdout=_is_terminal(sys.stdout),
            redirect_stderr=_is_terminal(sys.stderr),
        )
        before = sys.stdout, sys.stderr
        # Runs last, whatever failed before: the user must get the cursor back.
        self._restore.callback(self._console.show_cursor, True)
        self._restore.callback(live.stop)
        live.start()
        self._redirection = _Redirection(before)
        self._restore.callback(self._redirection.undo)
        self._live = live
        self._is_hidden = False
        if not self._job_control.may_draw():
            self._hide()
        self._job_control.start()
        self._restore.callback(self._job_control.stop)
        in_child(self, RichDisplay._forget)
        self._stopping = False
        self._refresher = threading.Thread(target=self._refresh, name="hsm-display", daemon=True)
        self._refresher.start()

    def _stop(self) -> None:
        refresher = self._refresher
        try:
            with self._changed:
                self._stopping = True
                self._changed.notify_all()
            if refresher is not None:
                refresher.join()
        finally:
            with self._drawing:
                self._live = None
                self._restore.close()
            with self._changed:
                self._refresher = None
                self._changed.notify_all()
            self._draw()

    def _forget(self) -> None:
        """In a child forked while the display was live: never draw, for the screen is the parent's.

        Takes no locks: the refresher may have held any of them, and does not exist here.
        """
        if self._live is not None:
            self.stream.drop()
            self._restore.pop_all()
            if self._redirection is not None:
                self._redirection.undo()

    def _refresh(self) -> None:
        """Redraw until told to stop, at once if much output is queued; the refresher's loop."""
        # If there was a view before (of the last batch), draw at once so that it does not flicker.
        pause = _INTERVAL if self._latest.view is None else 0.0
        while not self._stopping:
            waits_from = time.monotonic()
            with self._changed:
                self._changed.wait_for(self._is_urgent, pause)
            if time.monotonic() > waits_from + pause + _LATE:
                time.sleep(_LATE)  # If the process was stopped, the main thread must hear of it.
            began = time.thread_time()
            with Shielded():
                self._draw()
            cost = time.thread_time() - began
            pause = min(max(_INTERVAL, cost / _MAX_CPU_SHARE), _MAX_INTERVAL)

    def _is_urgent(self) -> bool:
        return self._stopping or self._queued_output > _QUEUE_LIMIT // 2

    def _draw(self) -> None:
        """Print what is queued and, if live, redraw the view."""
        view = self._view() if self._live is not None else None
        with self._drawing:
            if not self._takes_terminal():
                view = None
            with self._changed:
                items = list(self._queue)
                self._queue.clear()
                self._queued_output = 0
                self._changed.notify_all()
            if view is not None:
                self._latest.view = view
            if items:
                # One print, after which rich redraws the view. Lines are not cut: the terminal
                # wraps them, and a long line copied from it is still one line.
                self._console.print(_Lines(list(self._lines(items))), crop=False, end="")
            elif self._live is not None and not self._is_hidden:
                self._live.refresh()

    def _takes_terminal(self) -> bool:
        """Follow the shell's job control; return whether the view is to be drawn."""
        if self._live is None:
            return False
        if self._job_control.was_moved:
            # Whatever is above the cursor now is not the view, so it must not be erased.
            self._job_control.was_moved = False
            with self._console.capture():
                self._hide()
        if not self._job_control.may_draw():
            self._hide()
            return False
        if self._is_hidden:
            self._is_hidden = False
            self._console.show_cursor(False)
        return True

    def _hide(self) -> None:
        """Erase the view and show the cursor, until `_draw` may take the terminal again."""
        with Shielded(), self._drawing:
            if self._live is not None and not self._is_hidden:
                self._is_hidden = True
                self._latest.view = None
                self._live.refresh()
                self._console.show_cursor(True)

    def _view(self) -> LiveView:
        try:
            self._last_running = sorted(self._running(), key=lambda job: job.num)
        except Exception:
            get_logger(__name__).debug("cannot list the running jobs", exc_info=True)
        running = self._last_running
        now = self._now()
        with self._lock:
            counts = self.counts
            eta = counts.eta([job.elapsed for job in running], now)
            return LiveView(
                self.title,
                counts.states(),
                counts.wall_seconds(now),
                eta,
                running,
                self.varying.names,
                self.varying.constants,
                is_paused=counts.is_paused,
            )

    def _lines(self, items: Sequence[_Item]) -> Iterator[Line]:
        details = read = 0
        best = next((item for item in reversed(items) if isinstance(item, _BestLine)), None)
        for item in items:
            if isinstance(item, _BestLine):
                if item is best:  # the latest, of what may be many at once
                    yield item.line
                continue
            if not isinstance(item, Job):
                yield item
                continue
            yield [(wording.outcome(item), BOLD_RED), (wording.label(item), BOLD)]
            read += 1
            if details == _MAX_DETAILS or read > _MAX_READ:
                continue
            if new := self._failure_details(item):
                details += 1
                for text, is_note in new:
                    yield [(f"    {text}", DIM if is_note else None)]

    def _width(self) -> int:
        return self._console.width


class _Latest:
    """Renders the latest view, so that rich can redraw it whenever something is printed above."""

    view: LiveView | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.view is not None:
            yield self.view


@dataclass(frozen=True)
class _Lines:
    """Renders lines as they are, neither wrapped nor cut."""

    lines: Sequence[Line]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        newline = Segment.line()
        for line in self.lines:
            for text, style in line:
                yield Segment(text, style)
            yield newline


class _Redirection:
    """Points log handlers from the original stdout and stderr to the streams that replaced them.

    A handler keeps the stream that it was made with. It would bypass the one that rich puts into
    `sys`, and write into the middle of the view.

    Args:
        before: `sys.stdout` and `sys.stderr` before rich replaced them.
    """

    def __init__(self, before: tuple[TextIO, TextIO]) -> None:
        self._before = before
        self._after = after = sys.stdout, sys.stderr
        self._moved: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []
        for handler in logging.getLogger().handlers:
            if not isinstance(handler, logging.StreamHandler):
                continue
            for old, new in zip(before, after, strict=True):
                if handler.stream is old is not new:
                    handler.stream = new
                    self._moved.append((handler, old))

    def undo(self) -> None:
        # Not with setStream: that flushes, which in a forked child may block forever.
        for handler, stream in self._moved:
            handler.stream = stream
        if sys.stdout is self._after[0]:
            sys.stdout = self._before[0]
        if sys.stderr is self._after[1]:
            sys.stderr = self._before[1]


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False
