"""Printing for the commands: tables, JSON, and values as text."""

from __future__ import annotations

import json
import math
import re
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from hsm.cli._stdout import say
from hsm.core.printable import printable, printable_json
from hsm.display.text import shorten

if TYPE_CHECKING:
    from rich.console import Console

#: Characters between two columns of a table.
_GAP = 2
#: Characters that a wrapping column is never narrower than, unless its texts are shorter.
_MIN_TEXT_WIDTH = 20
#: Characters of a cell; a longer text is cut.
_MAX_LENGTH = 1000
#: A heading can be broken after a dot or an underscore.
_HEADING_PARTS = re.compile(r"[^._]*[._]?")


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
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
    wraps: Collection[str] = (),
    droppable: Sequence[str] = (),
    hint: str = "",
) -> None:
    """Print a table: drawn on a terminal, plain columns elsewhere.

    If the terminal is too narrow, columns in `wraps` and headings are wrapped first. Then columns
    in `droppable` are left out, and a line names them. Nothing else is cut, except texts of more
    than a thousand characters. If the table still does not fit, it is split into several, one below
    the other, each starting with the first column; or, if one column is as wide as the terminal,
    printed plain at its full width.

    Args:
        columns: headings. In them and in cells, control characters are made harmless.
        rows: cells.
        right: headings of right-aligned columns (numbers).
        wraps: headings of columns that may wrap (texts).
        droppable: headings of columns that may be left out, the least important first.
        hint: how to see the columns that were left out.
    """
    drawn = [
        _Column(_cell(name), [_cell(row[at]) for row in rows], name in right, name in wraps, name)
        for at, name in enumerate(columns)
    ]
    if not sys.stdout.isatty():
        _print_plain(drawn, len)
        return
    from rich.cells import cell_len
    from rich.console import Console

    console = Console(highlight=False)

    def fits(columns: Sequence[_Column]) -> bool:
        return _min_width(columns, cell_len) <= console.width

    shown, left_out = drawn, []
    if not fits(shown):
        shown = [column.with_narrow_heading(cell_len) for column in drawn]
    for name in droppable:
        if not fits(shown) and any(column.key == name for column in shown):
            shown = [column for column in shown if column.key != name]
            left_out.append(_cell(name))
    for number, band in enumerate(_bands(shown, fits)):
        if number:
            say()
        if fits(band):
            _draw(console, band)
        else:
            kept = {column.key for column in band}
            _print_plain([column for column in drawn if column.key in kept], cell_len)
    if left_out:
        say(f"this terminal is too narrow for {', '.join(left_out)}: {hint}")


def _cell(text: str) -> str:
    return printable(shorten(text, _MAX_LENGTH))


def _bands(
    columns: Sequence[_Column], fits: Callable[[Sequence[_Column]], bool]
) -> list[list[_Column]]:
    """Split the columns into tables that fit, each starting with the first column.

    If some column does not fit even beside the first one alone, all stay in one table.
    """
    if not columns:
        return []
    first, *others = columns
    bands = [[first]]
    for column in others:
        if fits([*bands[-1], column]):
            bands[-1].append(column)
        else:
            bands.append([first, column])
    return bands if all(map(fits, bands)) else [list(columns)]


@dataclass(frozen=True)
class _Column:
    """A column ready for printing; `key` is its heading as the caller gave it."""

    heading: str
    cells: list[str]
    is_right: bool
    wraps: bool
    key: str

    def width(self, measure: Callable[[str], int]) -> int:
        """Width of its longest line."""
        return max(map(measure, (*self.heading.split("\n"), *self.cells)))

    def with_narrow_heading(self, measure: Callable[[str], int]) -> _Column:
        """The same column with a wrapped heading: ``model.`` above ``n_estimators``."""
        parts = [part for part in _HEADING_PARTS.findall(self.heading) if part]
        room = max(map(measure, (*parts, *self.cells)), default=0)
        lines = [""]
        for part in parts:
            if measure(lines[-1] + part) <= room:
                lines[-1] += part
            else:
                lines.append(part)
        return replace(self, heading="\n".join(lines))


def _min_width(columns: Sequence[_Column], measure: Callable[[str], int]) -> int:
    """Width of the narrowest table that can hold the columns."""
    widths = (column.width(measure) for column in columns)
    narrowest = [
        min(width, _MIN_TEXT_WIDTH) if column.wraps else width
        for column, width in zip(columns, widths, strict=True)
    ]
    return sum(narrowest) + _GAP * (len(narrowest) - 1)


def _print_plain(columns: Sequence[_Column], measure: Callable[[str], int]) -> None:
    widths = [column.width(measure) for column in columns]
    for row in zip(*((column.heading, *column.cells) for column in columns), strict=True):
        padded = []
        for cell, width, column in zip(row, widths, columns, strict=True):
            space = " " * (width - measure(cell))
            padded.append(space + cell if column.is_right else cell + space)
        say((" " * _GAP).join(padded).rstrip())


def _draw(console: Console, columns: Sequence[_Column]) -> None:
    from rich.box import Box
    from rich.table import Table
    from rich.text import Text

    # A line below the headings and nothing else; the columns' padding makes the gaps.
    box = Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
    table = Table(
        box=box, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0), header_style="bold"
    )
    for column in columns:
        table.add_column(
            Text(column.heading),
            justify="right" if column.is_right else "left",
            no_wrap=not column.wraps,
            overflow="fold",
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console.print(table)


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
