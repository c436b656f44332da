"""Fitting the columns of a table into a number of character cells.

    columns --> wrapped headings --> fewer columns --> narrower texts --> several tables

Each step is taken only if the one before was not enough. A heading is broken where its words end
(``optimizer.`` above ``learning_`` above ``rate``), never inside a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest

#: Characters between two columns.
GAP = 2
#: Characters that a wrapping column is never narrower than, unless its texts are shorter.
_MIN_TEXT = 20
#: The same if the table must stay in one piece: the words "interrupted" and "completed" fit.
_LEAST_TEXT = 11
#: To how many characters texts are cut in the middle, while that is enough, and at most.
_LEGIBLE_ID, _LEAST_ID = 28, 9
_HEADING_PARTS = re.compile(r"[^._/]*[._/]?")

#: Tells how many character cells a text takes.
Measure = Callable[[str], int]


@dataclass(frozen=True, eq=False)
class Column:
    """A column, ready for printing.

    Attributes:
        heading: what stands above it; may have several lines.
        cells: its texts.
        is_right: whether it is aligned to the right.
        wraps: whether its texts may be wrapped.
        shrinks: whether they may be cut in the middle, so that the table stays in one piece.
        key: its name.
        measure: tells how wide its texts are.
    """

    heading: str
    cells: Sequence[str]
    is_right: bool = False
    wraps: bool = False
    shrinks: bool = False
    key: str = ""
    measure: Measure = len

    @cached_property
    def width(self) -> int:
        """Width of its longest line."""
        return max(map(self.measure, (*self.heading.split("\n"), *self.cells)))

    def min_width(self, min_text: int) -> int:
        return min(self.width, min_text) if self.wraps else self.width

    def with_narrow_heading(self) -> Column:
        """The same column with a heading in several lines, as narrow as its cells and words."""
        parts = [part for part in _HEADING_PARTS.findall(self.heading) if part]
        room = max(map(self.measure, (*parts, *self.cells)), default=0)
        lines = [""]
        for part in parts:
            if self.measure(lines[-1] + part) <= room:
                lines[-1] += part
            else:
                lines.append(part)
        return replace(self, heading="\n".join(lines))

    def cut(self, width: int) -> Column:
        """The same column with its texts cut in the middle."""
        cells = [cut_in_middle(cell, width, self.measure) for cell in self.cells]
        return replace(self, cells=cells)


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
        return _total(column.min_width(min_text) for column in columns) <= width

    shown, left_out = [replace(column, measure=measure) for column in columns], []
    if not fits(shown):
        shown = [column.with_narrow_heading() for column in shown]
    for name in droppable:
        if not fits(shown) and any(column.key == name for column in shown):
            shown = [column for column in shown if column.key != name]
            left_out.append(name)
    if fits(shown):
        return Layout([shown], left_out, fits=True)
    if any(column.shrinks for column in shown):
        shrunk = _shrunk(shown, width, _MIN_TEXT, _LEGIBLE_ID)
        if not fits(shrunk):
            shrunk = _shrunk(shown, width, _LEAST_TEXT, _LEAST_ID)
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


def _shrunk(columns: Sequence[Column], width: int, min_text: int, min_cut: int) -> list[Column]:
    """Cut the texts of the columns that shrink, as far as is needed but not below `min_cut`."""
    shrunk = list(columns)
    for at, column in enumerate(columns):
        excess = _total(each.min_width(min_text) for each in shrunk) - width
        if column.shrinks and excess > 0:
            shrunk[at] = column.cut(max(min_cut, column.width - excess))
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


class Grid:
    """The lines of a table, each a list of cells that are padded to the widths of their columns.

    Args:
        columns: the columns.
        width: what those that wrap make room for; None if nothing is wrapped.
    """

    def __init__(self, columns: Sequence[Column], width: int | None = None) -> None:
        self._columns = columns
        self._widths = [column.width for column in columns]
        if width is not None:
            self._narrow(width)

    @property
    def width(self) -> int:
        return _total(self._widths)

    def headings(self) -> list[list[str]]:
        """The lines of the headings, which end on the same line."""
        wrapped = [
            [part for line in column.heading.split("\n") for part in self._wrapped(at, line)][::-1]
            for at, column in enumerate(self._columns)
        ]
        return [self._padded(line) for line in zip_longest(*wrapped, fillvalue="")][::-1]

    def body(self) -> Iterator[list[str]]:
        """The lines of the rows."""
        wrapping = [at for at, each in enumerate(self._columns) if each.width > self._widths[at]]
        for row in zip(*(column.cells for column in self._columns), strict=True):
            if not wrapping:
                yield self._padded(row)
                continue
            cells = [
                self._wrapped(at, cell) if at in wrapping else [cell] for at, cell in enumerate(row)
            ]
            yield from map(self._padded, zip_longest(*cells, fillvalue=""))

    def _narrow(self, width: int) -> None:
        """Make the columns that wrap narrower, the widest first."""
        wrapping = [at for at, column in enumerate(self._columns) if column.wraps]
        while wrapping and self.width > width:
            widest = max(wrapping, key=self._widths.__getitem__)
            if self._widths[widest] <= 1:
                break
            self._widths[widest] -= 1

    def _wrapped(self, at: int, text: str) -> list[str]:
        return wrapped(text, self._widths[at], self._columns[at].measure)

    def _padded(self, cells: Sequence[str]) -> list[str]:
        padded = []
        for cell, width, column in zip(cells, self._widths, self._columns, strict=True):
            space = " " * (width - column.measure(cell))
            padded.append(space + cell if column.is_right else cell + space)
        return padded


def wrapped(text: str, width: int, measure: Measure) -> list[str]:
    """Break a text into lines of `width` cells: between words, or in one that is longer."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if measure(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for char in word:
            if lines[-1] and measure(lines[-1] + char) > width:
                lines.append("")
            lines[-1] += char
    return lines


def plain_lines(columns: Sequence[Column]) -> Iterator[str]:
    """The lines of a table, headings first, in which columns are as wide as they have to be."""
    grid = Grid(columns)
    for line in (*grid.headings(), *grid.body()):
        yield (" " * GAP).join(line).rstrip()


def _total(widths: Iterable[int]) -> int:
    """Width of a table with columns of these widths."""
    parts = list(widths)
    return sum(parts) + GAP * max(0, len(parts) - 1)


def cell_width(text: str) -> int:
    """How many cells a text takes on most terminals, as far as Unicode tells."""
    if text.isascii():
        return len(text)
    return sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
