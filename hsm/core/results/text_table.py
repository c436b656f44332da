"""A table as plain text, as wide as the terminal: what ``print(results)`` shows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

from hsm.core.printable import shorten
from hsm.core.results.overview import DROPPABLE, Overview
from hsm.core.table_layout import cell_width, lay_out, plain_lines

#: Rows of a table; of a longer one the first and the last are shown.
_MAX_ROWS = 30
#: Columns of the screen if there is none, at least, and at most.
_WIDTH, _MIN_WIDTH, _MAX_WIDTH = 100, 40, 200
#: Characters of a text that would wrap on a terminal.
_MAX_TEXT = 60


def text_table(shown: Overview, row_word: str, size: str) -> str:
    """The table as lines of text.

    Args:
        shown: what is shown of it.
        row_word: what a row is.
        size: its rows and columns in words, for a table that is shown in part.
    """
    return "\n".join(_lines(shown, row_word, size))


def _lines(shown: Overview, row_word: str, size: str) -> Iterator[str]:
    if not shown.rows:
        yield f"no {row_word}s"
        return
    width = shutil.get_terminal_size((_WIDTH, 0)).columns
    width = max(_MIN_WIDTH, min(width, _MAX_WIDTH))
    constants = shown.constants_line(row_word, width)
    if constants:
        yield constants
        yield ""
    columns = [
        replace(each, wraps=False, cells=[shorten(cell, _MAX_TEXT) for cell in each.cells])
        for each in shown.only_ends(_MAX_ROWS).columns
    ]
    layout = lay_out(columns, width, cell_width, droppable=DROPPABLE, lead=shown.lead)
    for number, table in enumerate(layout.tables):
        if number:
            yield ""
        yield from plain_lines(table)
    if shown.rows > _MAX_ROWS or layout.left_out:
        hidden = f"; not shown: {', '.join(layout.left_out)}" if layout.left_out else ""
        yield ""
        yield f"{size}{hidden}"
