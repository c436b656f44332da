"""The table of running jobs in the live view: a row each, cut to fit the terminal.

     job   lr model     time    cpu   memory reported           last output
      37  0.1 svm       0:12    99%  1.2 GiB step 3  loss 0.21  epoch 3 has ended
      38  0.1 forest    0:04   398%  340 MiB                    loading the data

A job is told by the parameters that vary, a column each. If there is no room for so many, by its
label. Of a value or a label that is cut, the end is kept: there is what changes from job to job.
What jobs report (`hsm.report`) comes before what they print, if any of them reports something.

If any job has GPUs of hsm's, they follow its memory, with the memory there: ``2,3  6.2 GiB``. On a
narrow terminal first this memory goes, then the GPUs, before parameters are cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from rich.cells import cell_len, set_cell_size

from hsm.core.engine.compute_source import RunningJob
from hsm.core.printable import printable
from hsm.core.units import format_clock, format_size
from hsm.display.log_prefix import without_prefix
from hsm.display.styles import CYAN, DIM, RED, YELLOW, Line
from hsm.display.text import clean, cpu_text, gpu_text, memory_text, reported_text
from hsm.display.varying import text_of

_GAP = " "
_GAP_OF_COLUMNS = "  "
#: The heading of what jobs report.
_REPORTED = "reported"
#: The headings of the GPUs that jobs have, and of the memory there.
_GPU, _MEMORY = "gpu", "memory"
#: Cells; a narrower column of text would be useless.
_MIN_TEXT = 8
#: Cells of the last output that columns and a label leave to it on a wide terminal.
_MIN_OUTPUT, _MIN_OUTPUT_BESIDE_LABEL = 24, 60
#: Cells of what a job reports.
_MAX_REPORTED = 48
#: Cells that parameters and output have on a wide terminal, where GPUs are shown in any case.
_WIDE = 64
#: Cells of a parameter's column.
_MIN_COLUMN, _MAX_COLUMN = 6, 40


class RunningTable:
    """Lays out its columns once for all rows.

    Args:
        running: the jobs.
        names: the parameters that tell them apart, and their headings.
        width: of the terminal, in cells.
        ascii_only: whether the terminal has only ASCII.
    """

    def __init__(
        self, running: Sequence[RunningJob], names: Mapping[str, str], width: int, ascii_only: bool
    ) -> None:
        self._running = running
        self._ascii_only = ascii_only
        self._num = max(3, *(len(str(job.num)) for job in running))
        self._time = max(6, *(len(format_clock(job.elapsed)) for job in running))
        self._cpu = max(6, *(len(cpu_text(job)) for job in running))
        self._memory = max(8, *(len(memory_text(job)) for job in running))
        figures = self._cpu + self._memory
        rest = width - (self._num + self._time + 4 * len(_GAP) + figures + 1)
        self._figures = rest >= _MIN_TEXT
        if not self._figures:
            rest = width - (self._num + self._time + 2 * len(_GAP) + 1)
        for self._gpus in _gpu_columns(running):
            self._identity = _identity(running, names, rest - self._gpus.width, ascii_only)
            if rest - self._gpus.width >= _WIDE or self._identity.is_whole:
                break
        rest -= self._gpus.width
        self._output = rest - self._identity.width - len(_GAP)
        if self._output < _MIN_TEXT:
            self._identity, self._output = _Labels(running, names, max(0, rest), ascii_only), 0
        self._reported = 0
        if self._output and (widest := max(cell_len(_reported(job)) for job in running)):
            self._share_output(min(widest, _MAX_REPORTED))
        self._width = width

    def _share_output(self, widest: int) -> None:
        """Give what jobs report the cells that it needs, up to all that their output would have."""
        self._reported = min(max(widest, len(_REPORTED)), self._output)
        left = self._output - self._reported - len(_GAP_OF_COLUMNS)
        self._output = left if left >= _MIN_TEXT else 0

    def lines(self, height: int) -> Iterator[Line]:
        """Yield the table in at most `height` lines; `height` is at least 2."""
        fitting = min(len(self._running), height - 1)
        if fitting < len(self._running):
            fitting -= 1
        head = self._line("job", self._identity.heading, "time", "cpu", "memory")
        head.append((self._gpus.heading, None))
        if self._reported:
            head.append((_GAP + set_cell_size(_REPORTED, self._reported), None))
        if self._output:
            gap = _GAP_OF_COLUMNS if self._reported else _GAP
            head.append((gap + set_cell_size("last output", self._output).rstrip(), None))
        yield [("".join(text for text, _ in head).rstrip(), DIM)]
        for job in self._running[:fitting]:
            elapsed = format_clock(job.elapsed)
            row = self._line(
                str(job.num), self._identity.of(job), elapsed, cpu_text(job), memory_text(job)
            )
            row.append((self._gpus.of(job), None))
            if self._reported:
                row.append((_GAP + fit(_reported(job), self._reported, self._ascii_only), None))
            yield row + self._last_output(job)
        if fitting < len(self._running):
            more = f"{'+':>{self._num + 1}}{len(self._running) - fitting} more running"
            yield [(set_cell_size(more, min(self._width, len(more))), DIM)]

    def _line(self, num: str, identity: str, elapsed: str, cpu: str, used: str) -> Line:
        line: Line = [
            (f"{num:>{self._num + 1}}{_GAP}", CYAN),
            (identity, None),
            (f"{_GAP}{elapsed:>{self._time}}", None),
        ]
        if self._figures:
            line.append((f"{_GAP}{cpu:>{self._cpu}}{_GAP}{used:>{self._memory}}", None))
        return line

    def _last_output(self, job: RunningJob) -> Line:
        if not self._output:
            return []
        level, text = without_prefix(clean(job.last_line))
        line: Line = [(_GAP_OF_COLUMNS if self._reported else _GAP, None)]
        room = self._output
        if level and len(level) + _MIN_TEXT < room:
            line.append((level, YELLOW if level.startswith("WARN") else RED))
            text = f" {text}"
            room -= len(level)
        return [*line, (fit(text, room, self._ascii_only).rstrip(), DIM)]


def _reported(job: RunningJob) -> str:
    return reported_text(job.step, job.reported)


class _Gpus:
    """The part of a row that says which GPUs a job has, `width` cells wide with the gap before it.

    Args:
        running: the jobs.
        memory: whether it says as well how much memory the job has there.
    """

    def __init__(self, running: Sequence[RunningJob], *, memory: bool) -> None:
        ids = max((cell_len(gpu_text(job, memory=False)) for job in running), default=0)
        self._ids = max(ids, len(_GPU)) if ids else 0
        used = max((cell_len(_gpu_memory(job)) for job in running), default=0) if memory else 0
        self._memory = max(used, len(_MEMORY)) if ids and used else 0
        self.heading = self._line(_GPU, _MEMORY)
        self.width = len(self.heading)

    def of(self, job: RunningJob) -> str:
        return self._line(gpu_text(job, memory=False), _gpu_memory(job))

    def _line(self, ids: str, used: str) -> str:
        line = _GAP + set_cell_size(ids, self._ids) if self._ids else ""
        return f"{line}{_GAP}{used:>{self._memory}}" if self._memory else line


def _gpu_memory(job: RunningJob) -> str:
    return "" if job.gpu_memory is None else format_size(job.gpu_memory)


def _gpu_columns(running: Sequence[RunningJob]) -> Iterator[_Gpus]:
    """What may be said of GPUs, the widest first; the last one takes no room."""
    if any(job.gpus for job in running):
        yield _Gpus(running, memory=True)
        yield _Gpus(running, memory=False)
    yield _Gpus((), memory=False)


class _Identity(Protocol):
    """The part of a row that says which job it is, `width` cells wide.

    Attributes:
        is_whole: whether nothing of it is cut.
    """

    width: int
    heading: str
    is_whole: bool

    def of(self, job: RunningJob) -> str: ...


def _identity(
    running: Sequence[RunningJob], names: Mapping[str, str], rest: int, ascii_only: bool
) -> _Identity:
    """What tells jobs apart, with the width that it needs.

    On a narrow terminal it gets half of the `rest` of a row at most.
    """
    room = max(rest // 2, rest - _MIN_OUTPUT)
    columns = _Columns(running, names, room, ascii_only)
    if names and columns.width <= room:
        return columns
    room = max(rest // 2, rest - _MIN_OUTPUT_BESIDE_LABEL)
    return _Labels(running, names, max(0, room), ascii_only)


class _Columns:
    """A column per parameter; the widest are cut if they do not fit into `room` cells.

    Numbers are aligned at their end.
    """

    def __init__(
        self, running: Sequence[RunningJob], names: Mapping[str, str], room: int, ascii_only: bool
    ) -> None:
        self._ascii_only = ascii_only
        self._widths: dict[str, int] = {}
        self._numbers: set[str] = set()
        for name, short in names.items():
            values = [job.params[name] for job in running if job.params and name in job.params]
            widest = max(cell_len(short), *(cell_len(text_of(value)) for value in values), 0)
            self._widths[name] = min(widest, _MAX_COLUMN)
            if all(type(value) in (int, float) for value in values):
                self._numbers.add(name)
        gaps = len(_GAP_OF_COLUMNS) * max(0, len(names) - 1)
        self.is_whole = sum(self._widths.values()) <= room - gaps
        _narrow(self._widths, room - gaps)
        self.width = sum(self._widths.values()) + gaps
        cells = (self._cell(name, short, is_name=True) for name, short in names.items())
        self.heading = _GAP_OF_COLUMNS.join(cells)

    def of(self, job: RunningJob) -> str:
        params = job.params
        if not params:
            return fit(printable(job.label), self.width, self._ascii_only, keeps_end=True)
        return _GAP_OF_COLUMNS.join(
            self._cell(name, text_of(params[name]) if name in params else "")
            for name in self._widths
        )

    def _cell(self, name: str, text: str, *, is_name: bool = False) -> str:
        width = self._widths[name]
        if name in self._numbers:
            text = " " * (width - cell_len(text)) + text
        return fit(text, width, self._ascii_only, keeps_end=not is_name)


def _narrow(widths: dict[str, int], room: int) -> None:
    """Cut the widest columns until all fit into `room` cells, or none may be cut further."""
    while sum(widths.values()) > room:
        widest = max(widths, key=widths.__getitem__)
        if widths[widest] <= _MIN_COLUMN:
            return
        widths[widest] -= 1


class _Labels:
    """One column of ``name=value``, in at most `room` cells."""

    def __init__(
        self,
        running: Sequence[RunningJob],
        names: Mapping[str, str],
        room: int,
        ascii_only: bool,
    ) -> None:
        self._names = names
        self._ascii_only = ascii_only
        heading = "overrides"
        needed = max(len(heading), *(cell_len(self._text(job)) for job in running))
        self.width = min(room, needed)
        self.is_whole = not names and needed <= room  # else columns had no room
        self.heading = fit(heading, self.width, ascii_only)

    def of(self, job: RunningJob) -> str:
        return fit(self._text(job), self.width, self._ascii_only, keeps_end=True)

    def _text(self, job: RunningJob) -> str:
        if not self._names or not job.params:
            return printable(job.label)
        return " ".join(
            f"{short}={text_of(job.params[name])}"
            for name, short in self._names.items()
            if name in job.params
        )


def fit(text: str, width: int, ascii_only: bool, *, keeps_end: bool = False) -> str:
    """Pad or cut `text` to exactly `width` cells; an ellipsis is where it is cut."""
    if width < 1:
        return ""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    mark = "~" if ascii_only else "…"
    if keeps_end:
        return mark + set_cell_size(text[::-1], width - 1)[::-1]
    return set_cell_size(text, width - 1) + mark
