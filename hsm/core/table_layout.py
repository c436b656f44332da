"""Fitting the columns of a table into a number of character cells.

    columns --> wrapped headings --> fewer columns --> narrower texts --> several tables

Each step is taken only if the one before was not enough. A heading is broken where its words end
(``optimizer.`` above ``learning_`` above ``rate``), never inside a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

#: Characters between two columns.
GAP = 2
#: Characters that a wrapping column is never narrower than, unless its texts are shorter.
_MIN_TEXT = 20
#: The same if the table must stay in one piece.
_LEAST_TEXT = 10
#: To how many characters texts are cut in the middle, while that is enough.
_LEGIBLE_ID = 28
_HEADING_PARTS = re.compile(r"[^._/]*[._/]?")

#: Tells how many character cells a text takes.
Measure = Callable[[str], int]


@dataclass(frozen=True)
class Column:
    """A column, ready for printing.

    Attributes:
        heading: what stands above it; may have several lines.
        cells: its texts.
        is_right: whether it is aligned to the right.
        wraps: whether its texts may be wrapped.
        shrinks: whether they may be cut in the middle, so that the table stays in one piece.
        key: its name.
    """

    heading: str
    cells: Sequence[str]
    is_right: bool = False
    wraps: bool = False
    shrinks: bool = False
    key: str = ""

    def width(self, measure: Measure) -> int:
        """Width of its longest line."""
        return max(map(measure, (*self.heading.split("\n"), *self.cells)))

    def min_width(self, measure: Measure, min_text: int) -> int:
        width = self.width(measure)
        return min(width, min_text) if self.wraps else width

    def with_narrow_heading(self, measure: Measure) -> Column:
        """The same column with a heading in several lines, as narrow as its cells and words."""
        parts = [part for part in _HEADING_PARTS.findall(self.heading) if part]
        room = max(map(measure, (*parts, *self.cells)), default=0)
        lines = [""]
        for part in parts:
            if measure(lines[-1] + part) <= room:
                lines[-1] += part
            else:
                lines.append(part)
        return replace(self, heading="\n".join(lines))

    def cut(self, width: int, measure: Measure) -> Column:
        """The same column with its texts cut in the middle."""
        return replace(self, cells=[cut_in_middle(cell, width, measure) for cell in self.cells])


@dataclass(frozen=True)
class Layout:
    """How a table is printed.

    Attributes:
        tables: its columns; if there are several tables, each begins with those that tell a row.
        left_out: the keys of those that are not in it.
        fits: whether the tables are no wider than there is room.
    """

    tables: list[list[Column]]
    left_out: list[str]
    fits: bool


def lay_out(
    columns: Sequence[Column],
    width: int,
    measure: Measure,
    *,
    droppable: Sequence[str] = (),
    lead: int = 1,
) -> Layout:
    """Fit a table's columns into `width` cells.

    If some column does not fit even beside the first one alone, all stay in one table, which is
    wider.

    Args:
        columns: the columns. If some of them shrink, there is only one table.
        width: in cells.
        measure: tells the width of a text.
        droppable: keys of columns that may be left out, the least important first.
        lead: number of columns that tell a row; if there are several tables, and these columns
            leave room for others, each table begins with them.
    """

    def fits(columns: Sequence[Column], min_text: int = _MIN_TEXT) -> bool:
        widths = [column.min_width(measure, min_text) for column in columns]
        return sum(widths) + GAP * (len(widths) - 1) <= width

    shown, left_out = list(columns), []
    if not fits(shown):
        shown = [column.with_narrow_heading(measure) for column in shown]
    for name in droppable:
        if not fits(shown) and any(column.key == name for column in shown):
            shown = [column for column in shown if column.key != name]
            left_out.append(name)
    if fits(shown):
        return Layout([shown], left_out, fits=True)
    if any(column.shrinks for column in shown):
        shrunk = _shrunk(shown, width, measure, _MIN_TEXT, _LEGIBLE_ID)
        if not fits(shrunk):
            shrunk = _shrunk(shown, width, measure, _LEAST_TEXT, _LEAST_TEXT)
        return Layout([shrunk], left_out, fits(shrunk, _LEAST_TEXT))
    tables = _bands(shown, fits, lead) or _bands(shown, fits, 1)
    return Layout(tables or [shown], left_out, fits=bool(tables))


def _bands(
    columns: Sequence[Column], fits: Callable[[Sequence[Column]], bool], lead: int
) -> list[list[Column]]:
    """Split the columns into tables that begin with the same ones; none if they do not fit."""
    first, others = columns[:lead], columns[lead:]
    bands = [list(first)]
    for column in others:
        if fits([*bands[-1], column]):
            bands[-1].append(column)
        else:
            bands.append([*first, column])
    return bands if all(map(fits, bands)) else []


def _shrunk(
    columns: Sequence[Column], width: int, measure: Measure, min_text: int, min_cut: int
) -> list[Column]:
    """Cut the texts of the columns that shrink, as far as is needed but not below `min_cut`."""
    shrunk = list(columns)
    for at, column in enumerate(columns):
        widths = [each.min_width(measure, min_text) for each in shrunk]
        excess = sum(widths) + GAP * (len(widths) - 1) - width
        if column.shrinks and excess > 0:
            shrunk[at] = column.cut(max(min_cut, widths[at] - excess), measure)
    return shrunk


def cut_in_middle(text: str, width: int, measure: Measure) -> str:
    """Cut `text` to `width` cells; a cut leaves its beginning and its end around an ellipsis."""
    if measure(text) <= width:
        return text
    kept = width - 1
    while True:
        end = kept // 2
        cut = text[: kept - end] + "…" + text[len(text) - end :]
        if measure(cut) <= width or kept <= 0:
            return cut
        kept -= 1


def plain_lines(columns: Sequence[Column], measure: Measure) -> Iterator[str]:
    """The lines of a table, headings first, in which columns are as wide as they have to be."""
    widths = [column.width(measure) for column in columns]
    for row in (*_heading_rows(columns), *zip(*(each.cells for each in columns), strict=True)):
        padded = []
        for cell, width, column in zip(row, widths, columns, strict=True):
            space = " " * (width - measure(cell))
            padded.append(space + cell if column.is_right else cell + space)
        yield (" " * GAP).join(padded).rstrip()


def _heading_rows(columns: Sequence[Column]) -> list[tuple[str, ...]]:
    """The headings' lines, which end on the same row."""
    upwards = [column.heading.split("\n")[::-1] for column in columns]
    return list(zip_longest(*upwards, fillvalue=""))[::-1]


def cell_width(text: str) -> int:
    """How many cells a text takes on most terminals, as far as Unicode tells."""
    if text.isascii():
        return len(text)
    return sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
