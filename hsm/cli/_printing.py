"""What the commands print: tables, JSON, values in words."""

from __future__ import annotations

import json
import math
import re
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsm.cli._stdout import say
from hsm.core.printable import printable, printable_json
from hsm.display.text import shorten

if TYPE_CHECKING:
    from rich.console import Console

#: Characters between two columns of a table.
_GAP = 2
#: Characters that a column of texts has at least, if they are that long.
_NARROWEST = 20
#: Characters of a cell; more of a text is no matter for a table.
_MAX_LENGTH = 1000
#: Where a heading can be broken: behind a dot or an underscore.
_HEADING_PARTS = re.compile(r"[^._]*[._]?")


def end_with_the_reader() -> None:
    """Let this process end as other programs do when whoever reads its output goes (`| head`)."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print `value` as JSON, which has no NaN: null stands for it."""
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

    Where a terminal is too narrow, first the columns in `wraps` and the headings take several
    lines, then the columns in `droppable` are left out, and a line tells which; nothing else is
    cut, but for a text of more than a thousand characters. If that is not enough, it becomes
    several tables, one below the other, each with the first column; or, for a column that is as
    wide as the terminal, a plain one of any width.

    Args:
        columns: the headings; in them and in the cells, what could steer a terminal is made
            harmless.
        rows: the cells.
        right: the headings of the columns of figures.
        wraps: the headings of the columns of texts.
        droppable: the headings of the columns that may be left out, the least important first.
        hint: how to see what was left out.
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
        return _least_width(columns, cell_len) <= console.width

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
    """The columns in tables that fit, each of which begins with the first column.

    One table that does not fit, if there is a column that fits beside the first one nowhere.
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
    """A column as it is shown; `key` is its heading as it was given."""

    heading: str
    cells: list[str]
    is_right: bool
    wraps: bool
    key: str

    def width(self, measure: Callable[[str], int]) -> int:
        """Characters that its longest line takes."""
        return max(map(measure, (*self.heading.split("\n"), *self.cells)))

    def with_narrow_heading(self, measure: Callable[[str], int]) -> _Column:
        """The same, its heading in lines: ``model.`` above ``n_estimators``."""
        parts = [part for part in _HEADING_PARTS.findall(self.heading) if part]
        room = max(map(measure, (*parts, *self.cells)), default=0)
        lines = [""]
        for part in parts:
            if measure(lines[-1] + part) <= room:
                lines[-1] += part
            else:
                lines.append(part)
        return replace(self, heading="\n".join(lines))


def _least_width(columns: Sequence[_Column], measure: Callable[[str], int]) -> int:
    """Characters that a drawn table takes at least."""
    widths = (column.width(measure) for column in columns)
    least = [
        min(width, _NARROWEST) if column.wraps else width
        for column, width in zip(columns, widths, strict=True)
    ]
    return sum(least) + _GAP * (len(least) - 1)


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

    # A line below the headings, and nothing else: the gap is the columns' padding.
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


#: Words that stand out, wherever they are all that a cell holds.
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


def setting_text(value: Any) -> str:
    """The value of a setting as one would write it: ``90``, ``true``, ``none``."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def from_here(path: Path) -> str:
    """`path` as one would type it: relative if it is below the current directory."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (OSError, ValueError):
        return str(path)
