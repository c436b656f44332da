"""The live view, rendered for rich and cut to fit the terminal.

    digits ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━───────────── 37/50
    35 done  2 failed  2 running  11 pending                      1:23  ETA 0:31
    all jobs: data=mnist seed=0
     job  lr model    time    cpu   memory last output
      37 0.1 svm      0:12    99%  1.2 GiB epoch 3 loss 0.21
      38 0.1 forest   0:04   398%  340 MiB loading the data

A bar, a line of counts and times, what does not vary, and the running jobs: see `RunningTable`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment

from hsm.core.engine.compute_source import RunningJob
from hsm.core.record.job import JobState
from hsm.core.units import format_clock
from hsm.display.counts import FAILURES
from hsm.display.running_table import RunningTable, fit
from hsm.display.styles import BOLD, BOLD_RED, CYAN, DIM, GREEN, RED, YELLOW, Line

#: Cells; a narrower terminal gets no table.
_MIN_WIDTH = 40
#: Cells of the line of counts; in a wider one, the times would be too far from them.
_MAX_COUNTS = 100


@dataclass(frozen=True)
class LiveView:
    """A snapshot of a sweep that renders itself into the rows and columns of the terminal.

    Attributes:
        title: the sweep's name; may be empty.
        by_state: number of jobs in each state.
        wall: seconds since the sweep began.
        eta: estimated seconds until it ends; None if unknown.
        running: the running jobs.
        names: the parameters that vary between jobs, and their headings.
        constants: the other ones, in one line.
        is_paused: whether no jobs start.
    """

    title: str
    by_state: Mapping[JobState, int]
    wall: float
    eta: float | None
    running: Sequence[RunningJob]
    names: Mapping[str, str] = field(default_factory=dict)
    constants: str = ""
    is_paused: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Leave one row free, where rich puts the cursor when it removes the view.
        for line in self.lines(options.max_width, options.size.height - 1, options.ascii_only):
            for text, style in line:
                yield Segment(text, style)
            yield Segment.line()

    def lines(self, width: int, height: int, ascii_only: bool = False) -> Iterator[Line]:
        """Yield at most `height` lines of at most `width` cells each."""
        yield self._bar(width, ascii_only)
        if height >= 2:
            yield self._counts(min(width, _MAX_COUNTS))
        if height < 4 or width < _MIN_WIDTH or not self.running:
            return
        rows = height - 2
        if self.constants and height >= 6:
            text = f"all jobs: {self.constants}"
            text = text.replace("…", "~") if ascii_only else text
            yield [(fit(text, width, ascii_only).rstrip(), DIM)]
            rows -= 1
        yield from RunningTable(self.running, self.names, width, ascii_only).lines(rows)

    def _bar(self, width: int, ascii_only: bool) -> Line:
        completed = self.by_state[JobState.COMPLETED] + self.by_state[JobState.PRUNED]
        failed = _failed(self.by_state)
        total = sum(self.by_state.values())
        ended = completed + failed + self.by_state[JobState.CANCELLED]
        figures = f" {ended}/{total}"
        title = ""
        if self.title:
            title = fit(self.title, min(cell_len(self.title), 2 * width // 5), ascii_only) + " "
        cells = width - cell_len(title) - len(figures)
        if cells < 1:
            return [(set_cell_size(figures.strip(), width), BOLD)]
        green, red, yellow = (
            cells * count // max(1, total) for count in (completed, completed + failed, ended)
        )
        if failed and red == green:
            # Keep a single failure among thousands of jobs visible.
            red = min(cells, green + 1)
            green, yellow = red - 1, max(red, yellow)
        full, empty = ("#", "-") if ascii_only else ("━", "─")
        return [
            (title, BOLD),
            (full * green, GREEN),
            (full * (red - green), RED),
            (full * (yellow - red), YELLOW),
            (empty * (cells - yellow), DIM),
            (figures, BOLD),
        ]

    def _counts(self, width: int) -> Line:
        count = self.by_state
        failed = _failed(count)
        parts: Line = [("paused", YELLOW)] if self.is_paused else []
        parts.append((f"{count[JobState.COMPLETED]} done", GREEN))
        if count[JobState.PRUNED]:
            parts.append((f"{count[JobState.PRUNED]} pruned", GREEN))
        parts.append((f"{failed} failed", BOLD_RED if failed else DIM))
        if count[JobState.CANCELLED]:
            parts.append((f"{count[JobState.CANCELLED]} cancelled", YELLOW))
        parts.append((f"{count[JobState.RUNNING]} running", CYAN))
        if count[JobState.PENDING]:
            parts.append((f"{count[JobState.PENDING]} pending", None))
        times = format_clock(self.wall) + (
            "" if self.eta is None else f"  ETA {format_clock(self.eta)}"
        )
        line: Line = []
        room = width - len(times)
        for text, style in parts:
            if len(text) + 2 > room:
                break
            line += [(text, style), ("  ", None)]
            room -= len(text) + 2
        return [*line, (" " * room, None), (set_cell_size(times, min(width, len(times))), BOLD)]


def _failed(by_state: Mapping[JobState, int]) -> int:
    return sum(by_state[state] for state in FAILURES)
