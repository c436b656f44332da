"""Progress displays for a sweep, in its own process or, from the journal, in another.

    source or replay --events--> Display: Counts --+--> PlainDisplay   lines
                     --running()-------------------+--> RichDisplay    one live view
                                                   +--> NotebookDisplay  the same, below a cell

`progress` is one of

    rich   a bar, a row per running job, failures as they happen; redrawn in place, also in a
           notebook
    plain  one line per start and end, for files and simple terminals
    none   nothing, except the jobs' output if show_output is set
    auto   rich on a terminal that can redraw and in a notebook, else plain

The rich library is imported only for the rich display.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from hsm.core.engine.compute_source import RunningJob
from hsm.core.errors import SettingsError, did_you_mean
from hsm.core.record.paths import SweepPaths
from hsm.core.settings.resolve import ProgressMode
from hsm.display.base import Display
from hsm.display.plain_display import NoDisplay, PlainDisplay
from hsm.display.stream import SafeStream

__all__ = ["PROGRESS", "Display", "make_display"]

PROGRESS = tuple(map(str, ProgressMode))


def make_display(
    progress: str,
    *,
    show_output: bool,
    paths: SweepPaths,
    running: Callable[[], Sequence[RunningJob]],
    title: str = "",
    stream: TextIO | None = None,
) -> Display:
    """Make the display that `progress` names.

    Args:
        progress: one of `PROGRESS`.
        show_output: whether to show every line that jobs print, as ``[3] text``.
        paths: the sweep's directory.
        running: returns the jobs that are running now; a live view calls it a few times a second
            from its own thread.
        title: the sweep's name; may be empty.
        stream: where to write; stdout by default.

    Raises:
        SettingsError: `progress` is not one of `PROGRESS`.
    """
    if progress not in PROGRESS:
        hint = did_you_mean(progress, PROGRESS)
        allowed = f"one of {', '.join(PROGRESS)}"
        raise SettingsError("progress", progress, "argument progress", allowed, hint)
    out = SafeStream(sys.stdout if stream is None else stream)
    in_notebook = stream is None and _is_notebook()
    if progress == "auto":
        progress = "rich" if in_notebook or (out.isatty() and _can_redraw()) else "plain"
    kind: type[Display]
    if progress == "rich" and in_notebook:
        from hsm.display.notebook_display import NotebookDisplay

        kind = NotebookDisplay
    elif progress == "rich":
        from hsm.display.rich_display import RichDisplay

        kind = RichDisplay
    else:
        kind = PlainDisplay if progress == "plain" else NoDisplay
    return kind(paths, running, title=title, stream=out, show_output=show_output)


def _is_notebook() -> bool:
    """Whether this program is a notebook's kernel; IPython is not imported to find out."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(get_ipython()).__mro__)


def _can_redraw() -> bool:
    return os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
