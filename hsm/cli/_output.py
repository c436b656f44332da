"""What the commands print: tables, JSON, values in words."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from hsm.display.text import clean


def end_with_the_reader() -> None:
    """Let this process end as other programs do when whoever reads its output goes (`| head`)."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print `value` as JSON, which has no NaN: null stands for it."""
    print(json.dumps(_plain(value), indent=indent, ensure_ascii=False, default=str), flush=True)


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
    whole: Collection[str] = (),
) -> None:
    """Print a table: drawn on a terminal, plain columns elsewhere.

    Args:
        columns: the headings.
        rows: their cells; what could steer a terminal is made harmless.
        right: the headings of the columns of figures.
        whole: the headings of the columns that are not to be cut or wrapped if others can be.
    """
    cells = [[clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(columns, cells, right, {*right, *whole})
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in (columns, *cells):
        padded = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(row, widths, columns, strict=True)
        ]
        print("  ".join(padded).rstrip())


def _draw(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Collection[str],
    whole: Collection[str],
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in columns:
        justify: Literal["left", "right"] = "right" if name in right else "left"
        table.add_column(name, justify=justify, no_wrap=name in whole, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)


#: Words that stand out, wherever they are all that a cell holds.
_STYLES = {
    "COMPLETED": "green",
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
