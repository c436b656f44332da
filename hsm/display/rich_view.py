"""The live view, rendered for rich and cut to fit the terminal.

    digits ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━───────────── 37/50
    35 done  2 failed  2 running  11 pending                      1:23  ETA 0:31
     job overrides                 time    cpu   memory last output
      37 lr=0.1 model=svm          0:12    99%  1.2 GiB epoch 3 loss 0.21
      38 lr=0.1 model=forest       0:04   398%  340 MiB loading the data

A bar, a line of counts and times, and a row per running job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from hsm.core.engine.compute_source import RunningJob
from hsm.core.printable import printable
from hsm.core.record.job import JobState
from hsm.core.units import format_clock, format_size
from hsm.display.counts import FAILURES
from hsm.display.text import clean

GREEN = Style(color="green")
RED = Style(color="red")
YELLOW = Style(color="yellow")
CYAN = Style(color="cyan")
BOLD = Style(bold=True)
BOLD_RED = Style(color="red", bold=True)
DIM = Style(dim=True)

Span = tuple[str, "Style | None"]
Line = list[Span]

_GAP = " "
#: Cells; a narrower terminal gets no table.
_MIN_WIDTH = 40
#: Cells; a narrower column of text would be useless.
_MIN_TEXT = 8
#: Cells of the bar and the counts; wider, the figures at both ends would be too far apart.
_MAX_HEAD = 100


@dataclass(frozen=True)
class LiveView:
    """A snapshot of a sweep that renders itself into the rows and columns of the terminal.

    Attributes:
        title: the sweep's name; may be empty.
        by_state: number of jobs in each state.
        wall: seconds since the sweep began.
        eta: estimated seconds until it ends; None if unknown.
        running: the running jobs.
    """

    title: str
    by_state: Mapping[JobState, int]
    wall: float
    eta: float | None
    running: Sequence[RunningJob]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Leave one row free, where rich puts the cursor when it removes the view.
        for line in self.lines(options.max_width, options.size.height - 1, options.ascii_only):
            for text, style in line:
                yield Segment(text, style)
            yield Segment.line()

    def lines(self, width: int, height: int, ascii_only: bool = False) -> Iterator[Line]:
        """Yield at most `height` lines of at most `width` cells each."""
        yield self._bar(min(width, _MAX_HEAD), ascii_only)
        if height >= 2:
            yield self._counts(min(width, _MAX_HEAD))
        if height >= 4 and width >= _MIN_WIDTH and self.running:
            yield from _Rows(self.running, width, ascii_only).lines(height - 2)

    def _bar(self, width: int, ascii_only: bool) -> Line:
        completed = self.by_state[JobState.COMPLETED] + self.by_state[JobState.PRUNED]
        failed = _failed(self.by_state)
        total = sum(self.by_state.values())
        ended = completed + failed + self.by_state[JobState.CANCELLED]
        figures = f" {ended}/{total}"
        title = ""
        if self.title:
            title = _fit(self.title, min(cell_len(self.title), 2 * width // 5), ascii_only) + " "
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
        parts: Line = [(f"{count[JobState.COMPLETED]} done", GREEN)]
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


class _Rows:
    """The table of running jobs; lays out its columns once for all rows."""

    def __init__(self, running: Sequence[RunningJob], width: int, ascii_only: bool) -> None:
        self._running = running
        self._ascii_only = ascii_only
        self._num = max(3, *(len(str(job.num)) for job in running))
        self._time = max(6, *(len(format_clock(job.elapsed)) for job in running))
        self._labels = [printable(job.label) for job in running]
        self._cpu = max(6, *(len(_cpu(job)) for job in running))
        self._memory = max(8, *(len(_memory(job)) for job in running))
        figures = self._cpu + self._memory
        rest = width - (self._num + self._time + 4 * len(_GAP) + figures + 1)
        self._figures = rest >= _MIN_TEXT
        if not self._figures:
            rest = width - (self._num + self._time + 2 * len(_GAP) + 1)
        # Labels tell jobs apart, so they get the width that they need, but at most half of what is
        # left on a narrow terminal.
        longest = max(len("overrides"), *map(cell_len, self._labels))
        self._label = max(0, min(longest, max(rest // 2, rest - 60)))
        self._output = rest - self._label - len(_GAP)
        if self._output < _MIN_TEXT:
            self._label, self._output = max(0, rest), 0
        self._width = width

    def lines(self, height: int) -> Iterator[Line]:
        """Yield the table in at most `height` lines; `height` is at least 2."""
        fitting = min(len(self._running), height - 1)
        if fitting < len(self._running):
            fitting -= 1
        head = self._line("job", "overrides", "time", "cpu", "memory", "last output")
        yield [("".join(text for text, _ in head), DIM)]
        for job, label in zip(self._running[:fitting], self._labels, strict=False):
            yield self._line(
                str(job.num),
                label,
                format_clock(job.elapsed),
                _cpu(job),
                _memory(job),
                clean(job.last_line),
            )
        if fitting < len(self._running):
            more = f"{'+':>{self._num + 1}}{len(self._running) - fitting} more running"
            yield [(set_cell_size(more, min(self._width, len(more))), DIM)]

    def _line(self, num: str, label: str, elapsed: str, cpu: str, used: str, output: str) -> Line:
        line: Line = [
            (f"{num:>{self._num + 1}}{_GAP}", CYAN),
            (_fit(label, self._label, self._ascii_only), None),
            (f"{_GAP}{elapsed:>{self._time}}", None),
        ]
        if self._figures:
            line.append((f"{_GAP}{cpu:>{self._cpu}}{_GAP}{used:>{self._memory}}", None))
        if self._output:
            text = _fit(output, self._output, self._ascii_only).rstrip()
            line.append((f"{_GAP}{text}", DIM))
        return line


def _cpu(job: RunningJob) -> str:
    return "" if job.cpu_percent is None else f"{job.cpu_percent:.0f}%"


def _memory(job: RunningJob) -> str:
    return "" if job.memory is None else format_size(job.memory)


def _failed(by_state: Mapping[JobState, int]) -> int:
    return sum(by_state[state] for state in FAILURES)


def _fit(text: str, width: int, ascii_only: bool) -> str:
    """Pad or cut `text` to exactly `width` cells; a cut ends with an ellipsis."""
    if width < 1:
        return ""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    mark = "~" if ascii_only else "…"
    return set_cell_size(text, width - 1) + mark
