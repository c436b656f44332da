"""The view of a sweep in a notebook, as HTML: no scripts, and every text in it is escaped.

digits 37/50
▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇────────
35 done, 2 failed, 11 pending, 2 running; 1:23, ETA 0:31
best so far: 0.1234 by job 17: lr=0.01
all jobs: seed=0 data=mnist
job   lr  C   time  cpu   memory  last output
 37  0.1  1   0:12  99%  1.2 GiB  epoch 3 loss 0.21
2 jobs FAILED: ValueError: not finite (4,9)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from hsm.core.engine.compute_source import RunningJob
from hsm.core.printable import printable, shorten
from hsm.core.record.job import JobState
from hsm.core.results.html_table import NO_MATH, element_table
from hsm.core.table_layout import Column
from hsm.core.units import format_clock
from hsm.display.counts import FAILURES
from hsm.display.log_prefix import without_prefix
from hsm.display.text import clean, cpu_text, gpu_text, memory_text, reported_text
from hsm.display.varying import text_of

#: Rows of the table of running jobs, columns of parameters, and characters of a text in it.
_MAX_ROWS, _MAX_PARAMETERS, _MAX_TEXT = 12, 8, 80
_GREEN, _RED, _YELLOW, _GREY = "seagreen", "firebrick", "darkorange", "rgba(128, 128, 128, 0.25)"


@dataclass(frozen=True)
class FailedJobs:
    """Jobs that failed in the same way.

    Attributes:
        text: how, and which jobs.
        details: the last lines of one of them; empty while the sweep runs.
    """

    text: str
    details: Sequence[str] = ()


@dataclass(frozen=True)
class NotebookView:
    """A snapshot of a sweep.

    Attributes:
        title: the sweep's name; may be empty.
        by_state: number of jobs in each state.
        wall: seconds since the sweep began.
        eta: estimated seconds until it ends; None if unknown.
        running: the running jobs.
        names: the parameters that vary, and their short names.
        constants: the other parameters, in one line.
        failed: the failures.
        messages: notices.
        summary: what is said at the end, if it has come.
        is_paused: whether no jobs start.
        best: what is best so far, in one line; empty if nothing is.
    """

    title: str
    by_state: Mapping[JobState, int]
    wall: float
    eta: float | None
    running: Sequence[RunningJob]
    names: Mapping[str, str]
    constants: str
    failed: Sequence[FailedJobs]
    messages: Sequence[str]
    summary: Sequence[str]
    is_paused: bool = False
    best: str = ""

    def text(self) -> str:
        """The view in a line or two, for programs that show no HTML."""
        head = f"{self.title}: {self._figures()}: {', '.join(self._counts())}"
        return "\n".join(self.summary or [head])

    def html(self) -> str:
        return "\n".join(self._parts())

    def _parts(self) -> Iterator[str]:
        yield f'<div class="{NO_MATH}">'
        yield f"<div><b>{escape(self.title)}</b> {self._figures()}</div>"
        yield self._bar()
        times = format_clock(self.wall)
        if self.eta is not None:
            times += f", ETA {format_clock(self.eta)}"
        yield f"<div>{', '.join(self._counts())}; {times}</div>"
        if self.best and not self.summary:
            yield f"<div>{escape(self.best)}</div>"
        if self.constants:
            yield f'<div style="opacity: 0.7">all jobs: {escape(self.constants)}</div>'
        if self.running:
            yield from element_table(_columns(self.running[:_MAX_ROWS], self.names))
            if len(self.running) > _MAX_ROWS:
                yield f"<div>+{len(self.running) - _MAX_ROWS} more running</div>"
        for failed in self.failed:
            yield _failure(failed)
        for message in self.messages:
            yield f'<div style="color: {_YELLOW}">{escape(message)}</div>'
        if self.summary:
            yield _pre(self.summary)
        yield "</div>"

    def _figures(self) -> str:
        ended = sum(count for state, count in self.by_state.items() if state.is_final)
        return f"{ended}/{sum(self.by_state.values())}"

    def _counts(self) -> Iterator[str]:
        if self.is_paused:
            yield "paused"
        words = {JobState.COMPLETED: "done"}
        for state in sorted(self.by_state, key=lambda state: not state.is_final):
            count = self.by_state[state]
            if count or state is JobState.COMPLETED:
                yield f"{count} {words.get(state, state.words)}"

    def _bar(self) -> str:
        total = max(1, sum(self.by_state.values()))
        succeeded = sum(count for state, count in self.by_state.items() if state.has_succeeded)
        failed = sum(self.by_state[state] for state in FAILURES)
        parts = (
            (succeeded, _GREEN),
            (failed, _RED),
            (self.by_state[JobState.CANCELLED], _YELLOW),
        )
        spans = "".join(
            f'<div style="width: {100 * count / total:.2f}%; background: {colour}"></div>'
            for count, colour in parts
            if count
        )
        style = f"display: flex; height: 8px; max-width: 600px; background: {_GREY}"
        return f'<div style="{style}">{spans}</div>'


def _failure(failed: FailedJobs) -> str:
    head = f'<span style="color: {_RED}">{escape(failed.text)}</span>'
    if not failed.details:
        return f"<div>{head}</div>"
    return f"<details><summary>{head}</summary>{_pre(failed.details)}</details>"


def _pre(lines: Sequence[str]) -> str:
    return f'<pre style="white-space: pre; overflow-x: auto">{escape(chr(10).join(lines))}</pre>'


def _columns(running: Sequence[RunningJob], names: Mapping[str, str]) -> list[Column]:
    reported = [reported_text(job.step, job.reported) for job in running]
    lines = [without_prefix(clean(job.last_line)) for job in running]
    gpus = [gpu_text(job) for job in running]
    return [
        Column("job", [str(job.num) for job in running], is_right=True),
        *_parameters(running, names),
        Column("time", [format_clock(job.elapsed) for job in running], is_right=True),
        Column("cpu", [cpu_text(job) for job in running], is_right=True),
        Column("memory", [memory_text(job) for job in running], is_right=True),
        *([Column("gpu", gpus)] if any(gpus) else []),
        *(
            [Column("reported", [shorten(text, _MAX_TEXT) for text in reported])]
            if any(reported)
            else []
        ),
        Column(
            "last output", [shorten(f"{level} {text}".strip(), _MAX_TEXT) for level, text in lines]
        ),
    ]


def _parameters(running: Sequence[RunningJob], names: Mapping[str, str]) -> Iterator[Column]:
    """A column for each parameter that varies, or one with the labels of jobs."""
    if not 0 < len(names) <= _MAX_PARAMETERS or not all(job.params for job in running):
        labels = [shorten(printable(job.label), _MAX_TEXT) for job in running]
        yield Column("overrides", labels)
        return
    for name, short in names.items():
        values = [job.params[name] for job in running if job.params and name in job.params]
        texts = [
            text_of(job.params[name]) if job.params and name in job.params else ""
            for job in running
        ]
        is_number = all(type(value) in (int, float) for value in values)
        yield Column(short, [shorten(text, _MAX_TEXT) for text in texts], is_number)
