"""Preparing text for the screen: lines that jobs print, as a terminal would leave them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from hsm.core.printable import printable, shorten, without_sequences
from hsm.core.record.gpu_facts import gpus_text
from hsm.core.table_layout import cell_width
from hsm.core.units import format_size

if TYPE_CHECKING:
    from hsm.core.engine.compute_source import RunningJob
    from hsm.core.record.metrics import Value

#: Reported values that are shown, and characters of each.
_MAX_VALUES, _MAX_VALUE = 8, 40
#: Characters of the GPUs of a job.
_MAX_GPUS = 32


def clean(line: str) -> str:
    """Return a job's line as a terminal would have left it, safe to print.

    Removes escape sequences, colours included; keeps the last state of what carriage returns
    redrew; turns tabs into spaces; for the rest see `printable`.
    """
    if not line.isprintable():
        line = last_redraw(without_sequences(line)).expandtabs(8)
    return printable(line)


def last_redraw(line: str) -> str:
    r"""Return the last state of a line that carriage returns redrew: ``10%\r20%\r`` -> ``20%``."""
    if "\r" not in line:
        return line
    return line.rstrip("\r").rpartition("\r")[2]


def fit(text: str, width: int) -> str:
    """Cut a printable text to at most `width` columns; a cut ends with an ellipsis."""
    if cell_width(text) <= width:
        return text
    kept, room = [], width - 1
    for char in text:
        room -= cell_width(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept) + "…"


def shorten_start(text: str, length: int) -> str:
    """Cut `text` to its last `length` characters; a cut begins with an ellipsis."""
    return text if len(text) <= length else "…" + text[1 - length :]


def cpu_text(job: RunningJob) -> str:
    """The share of a core that a job takes, as ``99%``; empty until it is known."""
    return "" if job.cpu_percent is None else f"{job.cpu_percent:.0f}%"


def memory_text(job: RunningJob) -> str:
    """The memory that a job takes, as ``1.2 GiB``; empty until it is known."""
    return "" if job.memory is None else format_size(job.memory)


def gpu_text(job: RunningJob, *, memory: bool = True) -> str:
    """The GPUs that a job has, and the memory that it takes there: ``2,3  6.2 GiB``."""
    text = shorten(gpus_text(job.gpus, short=True), _MAX_GPUS)
    used = memory and job.gpu_memory is not None
    return f"{text}  {format_size(job.gpu_memory or 0)}" if text and used else text


def reported_text(step: int | None, values: Mapping[str, Value]) -> str:
    """What a job has reported last, as ``step 12  loss 0.31``; empty if it has reported nothing."""
    parts = [] if step is None else [f"step {step}"]
    for name, value in islice(values.items(), _MAX_VALUES):
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        parts.append(shorten(printable(f"{name} {text}"), _MAX_VALUE))
    return "  ".join(parts)


def from_here(path: Path) -> str:
    """Return `path` as a user would type it: relative if it is below the current directory."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (OSError, ValueError):  # the current directory was removed, or is elsewhere
        return str(path)
