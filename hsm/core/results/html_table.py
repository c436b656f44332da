"""A table as HTML, for notebooks: no scripts, and every text in it is escaped."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from hsm.core.printable import printable
from hsm.core.results.overview import Overview, quoted
from hsm.core.table_layout import Column

#: Rows of a table; of a longer one the first and the last are shown.
_MAX_ROWS = 60
#: Notebooks would set what stands between dollar signs as a formula, but for elements of these.
NO_MATH = "tex2jax_ignore mathjax_ignore"
_COLOURS = {
    "COMPLETED": "green",
    "PRUNED": "green",
    "FAILED": "firebrick",
    "TIMEOUT": "firebrick",
    "OUT_OF_MEMORY": "firebrick",
    "CANCELLED": "darkorange",
    "RUNNING": "teal",
}


def html_table(shown: Overview, row_word: str, size: str) -> str:
    """The table as an HTML element.

    Args:
        shown: what is shown of it.
        row_word: what a row is.
        size: its rows and columns in words, for a table that is shown in part.
    """
    return "\n".join(_parts(shown, row_word, size))


def _parts(shown: Overview, row_word: str, size: str) -> Iterator[str]:
    yield f'<div class="{NO_MATH}" style="overflow-x: auto">'
    if shown.constants:
        items = (f"{printable(name)}={quoted(text)}" for name, text in shown.constants.items())
        yield f"<p>the same for all {row_word}s: {escape(' '.join(items))}</p>"
    if shown.rows:
        columns = shown.only_ends(_MAX_ROWS).columns
        yield from element_table(columns)
    else:
        yield f"<p>no {row_word}s</p>"
    if shown.rows > _MAX_ROWS:
        yield f"<p>{escape(size)}</p>"
    yield "</div>"


def element_table(columns: list[Column]) -> Iterator[str]:
    """A table element; a cell that names a state has its colour."""
    yield '<table class="dataframe"><thead><tr>'
    yield "".join(f"<th{_style(each)}>{escape(each.heading)}</th>" for each in columns)
    yield "</tr></thead><tbody>"
    for row in zip(*(each.cells for each in columns), strict=True):
        cells = zip(columns, row, strict=True)
        texts = (f"<td{_style(*cell)}>{escape(cell[1])}</td>" for cell in cells)
        yield f"<tr>{''.join(texts)}</tr>"
    yield "</tbody></table>"


def _style(column: Column, cell: str = "") -> str:
    side = "right" if column.is_right else "left"
    colour = f"; color: {_COLOURS[cell]}" if cell in _COLOURS else ""
    return f' style="text-align: {side}{colour}"'
