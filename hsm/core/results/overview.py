"""What a person is shown of a table: what tells its rows apart, in short.

rows --> Overview: columns of short texts, what all rows have in common --> text, HTML, terminal
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hsm.core.printable import printable, shorten
from hsm.core.results import tables
from hsm.core.table_layout import Column
from hsm.core.units import format_size

#: hsm's own columns that may be left out where there is no room, the least important first.
DROPPABLE = (
    *("cpu_seconds", "gpu_load", "max_memory", "gpu_memory", "gpus"),
    *("attempts", "duration", "signal", "exit_code"),
    *("note", "reason"),
)
#: Columns of texts that say what went wrong: they may be long.
EXPLANATIONS = ("reason", "note")
#: Characters of a list or dict that is shown whole, of a text, and of any cell.
_MAX_LIST, _MAX_TEXT, _MAX_LENGTH = 24, 40, 1000


@dataclass(frozen=True)
class Overview:
    """What is shown of a table.

    Attributes:
        columns: the columns; none is empty.
        constants: what all rows have in common, by column, as text.
        rows: number of rows.
        lead: number of columns that tell a row.
    """

    columns: list[Column]
    constants: dict[str, str]
    rows: int
    lead: int = 1

    def only_ends(self, most: int) -> Overview:
        """The same with its first and last rows around an ellipsis, if it has more than `most`."""
        if self.rows <= most:
            return self
        half = most // 2
        columns = [
            replace(each, cells=[*each.cells[:half], "…", *each.cells[-half:]])
            for each in self.columns
        ]
        return replace(self, columns=columns)

    def constants_line(self, row_word: str, width: int) -> str:
        """``the same for all jobs: seed=0 depth=3``, at most about `width` long; may be empty."""
        if not self.constants:
            return ""
        line = f"the same for all {row_word}s:"
        items = [f" {printable(name)}={quoted(text)}" for name, text in self.constants.items()]
        if len(line) + sum(map(len, items)) <= width:
            return line + "".join(items)
        room = width - len(line) - len(f" … and {len(items)} more")
        left_out = 0
        for item in items:
            if len(item) > room:
                left_out += 1
            else:
                line += item
                room -= len(item)
        return f"{line} … and {left_out} more"


@dataclass(frozen=True)
class Field:
    """A column of which it is to be seen whether it is shown.

    Attributes:
        name: its name.
        values: what is in it.
        texts: the same as a person is shown it.
        is_told: for each row, whether it would have a value if it could: a failed job has no
            metrics, which does not make them vary.
        is_kept: show it even if all rows have the same value.
    """

    name: str
    values: Sequence[Any]
    texts: Sequence[str]
    is_told: Sequence[bool]
    is_kept: bool

    @property
    def is_empty(self) -> bool:
        return all(value is None for value in self.values)

    @property
    def constant(self) -> str | None:
        """The text that is in all rows that tell one; None if there is no such text."""
        told = {
            (tables.as_text(value), text)
            for value, text, is_told in zip(self.values, self.texts, self.is_told, strict=True)
            if is_told
        }
        return told.pop()[1] if len(told) == 1 else None

    def column(self) -> Column:
        is_number = not any(isinstance(value, (str, list, dict)) for value in self.values)
        texts = [_line(text) for text in self.texts]
        return Column(_line(self.name), texts, is_number, self.name in EXPLANATIONS, key=self.name)


def overview(
    fields: Iterable[Field], rows: int, telling: Collection[str], *, with_empty: bool
) -> Overview:
    """Make the overview of a table.

    Args:
        fields: its columns.
        rows: number of its rows.
        telling: names of columns, the first ones, that tell which row is which.
        with_empty: show also columns in which no row has a value.
    """
    columns, constants = [], {}
    for field in fields:
        if field.is_empty and not with_empty:
            continue
        constant = None if field.is_kept or rows < 2 else field.constant
        if constant is None:
            columns.append(field.column())
        else:
            constants[field.name] = _line(constant)
    lead = sum(column.key in telling for column in columns)
    return Overview(columns, constants, rows, max(1, lead))


def _line(text: str) -> str:
    return printable(shorten(text, _MAX_LENGTH))


def own_text(name: str, value: Any) -> str:
    """What stands in one of hsm's own columns: memory and load with a unit, all else whole."""
    if value is not None and name in ("max_memory", "gpu_memory"):
        return format_size(value)
    is_load = value is not None and name == "gpu_load"
    return f"{value:.0f}%" if is_load else tables.for_people(value)


def brief(value: Any, *, counts: bool) -> str:
    """A value in short: a float to six digits, the start of a long text.

    Args:
        value: the value.
        counts: show a long list as ``[30 values]`` and a dict as ``{4 keys}``, not their starts.
    """
    text = tables.counted(value, _MAX_LIST) if counts else tables.for_people(value)
    return shorten(text, _MAX_TEXT)


def quoted(text: str) -> str:
    """A text in quotes if it is empty or has spaces in it, so that one sees where it ends."""
    return f"'{text}'" if not text or (" " in text and text[0] not in "[{") else text
