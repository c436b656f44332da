"""Printing for the commands: tables, JSON, and values as text."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from hsm.cli._stdout import say
from hsm.core.printable import printable, printable_json, shorten
from hsm.core.table_layout import GAP, Column, Grid, lay_out, plain_lines

if TYPE_CHECKING:
    from rich.console import Console

#: Characters of a cell; a longer text is cut.
_MAX_LENGTH = 1000


def end_with_the_reader() -> None:
    """Let SIGPIPE end this process quietly when the reader of its output goes away (`| head`)."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print `value` as JSON; NaN and infinities, which JSON lacks, become null."""
    text = json.dumps(_plain(value), indent=indent, ensure_ascii=False, default=str)
    print(printable_json(text), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
    wraps: Collection[str] = (),
    shrinks: Collection[str] = (),
    droppable: Sequence[str] = (),
    hint: str = "",
) -> None:
    """Print a table of texts, as `print_columns` does.

    Args:
        headings: of the columns. In them and in cells, control characters are made harmless.
        rows: cells.
        right: headings of right-aligned columns (numbers).
        wraps: headings of columns that may wrap (texts).
        shrinks: headings of columns whose texts may be cut in the middle; then the table is never
            split.
        droppable, hint: as for `print_columns`.
    """
    columns = [
        Column(
            _cell(name),
            [_cell(row[at]) for row in rows],
            is_right=name in right,
            wraps=name in wraps,
            shrinks=name in shrinks,
            key=name,
        )
        for at, name in enumerate(headings)
    ]
    print_columns(columns, droppable=droppable, hint=hint)


def print_columns(
    columns: Sequence[Column],
    *,
    droppable: Sequence[str] = (),
    hint: str = "",
    lead: int = 1,
    above: Callable[[int], str] = lambda width: "",
) -> None:
    """Print a table: drawn on a terminal, plain columns elsewhere.

    If the terminal is too narrow, columns that wrap and headings are wrapped first. Then columns in
    `droppable` are left out. If the table still does not fit, it is split into several, one below
    the other; or, if one column is as wide as the terminal, printed plain at its full width.

    Args:
        columns: the columns; their texts are printable.
        droppable: keys of columns that may be left out, the least important first.
        hint: how to see the columns that were left out; if there is one, a line names them.
        lead: number of columns with which each of several tables begins.
        above: makes a line that is printed above the table, given the terminal's width.
    """
    if not sys.stdout.isatty():
        _print_plain(columns)
        return
    from rich.cells import cell_len
    from rich.console import Console

    console = Console(highlight=False)
    layout = lay_out(columns, console.width, cell_len, droppable=droppable, lead=lead)
    if line := above(console.width):
        say(line)
        say()
    for number, table in enumerate(layout.tables):
        if number:
            say()
        if layout.fits:
            _draw(console, table)
        else:
            _print_plain(table)
    if layout.left_out and hint:
        line = f"too narrow for {', '.join(map(_cell, layout.left_out))}: {hint}"
        if cell_len(line) > console.width:
            line = f"too narrow for {len(layout.left_out)} more columns: {hint}"
        say(line)


def _cell(text: str) -> str:
    return printable(shorten(text, _MAX_LENGTH))


def _print_plain(columns: Sequence[Column]) -> None:
    for line in plain_lines(columns):
        say(line)


def _draw(console: Console, columns: Sequence[Column]) -> None:
    """Print a table with a line below its headings and the states in colours.

    Not with rich's tables, which take seconds for a thousand rows.
    """
    from rich.segment import Segment, Segments
    from rich.style import Style

    grid = Grid(columns, console.width)
    styles = {text: Style.parse(style) for text, style in _STYLES.items()}
    gap, end = Segment(" " * GAP), Segment.line()
    bold = Style(bold=True)
    segments: list[Segment] = []
    for line in grid.headings():
        segments += [part for cell in line for part in (Segment(cell, bold), gap)][:-1]
        segments.append(end)
    segments += [Segment("─" * grid.width), end]
    for line in grid.body():
        segments += [
            part for cell in line for part in (Segment(cell, styles.get(cell.strip())), gap)
        ][:-1]
        segments.append(end)
    console.print(Segments(segments), crop=False, end="")


#: Styles for cells that hold exactly one of these words.
_STYLES = {
    "COMPLETED": "green",
    "PRUNED": "green",
    "FAILED": "bold red",
    "TIMEOUT": "bold red",
    "OUT_OF_MEMORY": "bold red",
    "CANCELLED": "yellow",
    "RUNNING": "cyan",
    "running": "cyan",
}
