"""A table: what `Results` and the groups that `group_by` makes of them have in common."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from typing import Any, TypeVar, overload

from hsm.core.errors import SettingsError, did_you_mean
from hsm.core.results import tables
from hsm.core.results.overview import EXPLANATIONS, Field, Overview, brief, overview, own_text
from hsm.core.results.text_table import text_table
from hsm.core.user_files import replacing

Target = str | os.PathLike[str]
_Table = TypeVar("_Table", bound="Table")


class Table:
    """A table; iterate over it for rows. Each is a dict with all columns, None where empty.

    ``print`` shows it as text, a notebook as HTML. Both show what tells the rows apart: a column
    with one value is mentioned once, above, and long values are shortened.

    Attributes:
        columns: the columns' names, in order.
        sweep_id: the sweep's id.
        parameters: the names of the columns that hold parameters.
        metrics: the names of those that hold what jobs returned or wrote: return values,
            results.json and metrics.json.
        problems: what could not be read, one line each.
    """

    #: What a row is, in words.
    row_word = "row"

    def __init__(
        self,
        rows: Iterable[dict[str, Any]],
        columns: Iterable[str],
        *,
        sweep_id: str,
        parameters: Iterable[str] = (),
        metrics: Iterable[str] = (),
        problems: Iterable[str] = (),
    ) -> None:
        self._rows = list(rows)
        self.columns = list(columns)
        self.sweep_id = sweep_id
        self.parameters = [name for name in parameters if name in self.columns]
        self.metrics = [name for name in metrics if name in self.columns]
        self.problems = list(problems)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        return self._rows[index]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of sweep {self.sweep_id}: {self._size()}>"

    def __str__(self) -> str:
        return text_table(self.overview(), self.row_word, self._size())

    def _repr_html_(self) -> str:
        from hsm.core.results.html_table import html_table  # notebooks alone need it

        return html_table(self.overview(), self.row_word, self._size())

    def _size(self) -> str:
        rows = "1 " + self.row_word if len(self) == 1 else f"{len(self)} {self.row_word}s"
        return f"{rows}, {len(self.columns)} columns"

    def overview(self, *, with_constants: bool = False, with_empty: bool = False) -> Overview:
        """What a person is shown of the table.

        Args:
            with_constants: show also columns in which all rows have the same value.
            with_empty: show also columns in which no row has a value.
        """
        fields = (
            Field(
                name,
                [row[name] for row in self],
                [self._cell(row, name) for row in self],
                [row[name] is not None or self._must_tell(row, name) for row in self],
                with_constants or self._is_kept(name),
            )
            for name in self._shown_columns()
        )
        return overview(fields, len(self), self._telling(), with_empty=with_empty)

    def _telling(self) -> Sequence[str]:
        """The columns, the first ones, that tell which row is which."""
        return self.columns[:1]

    def _is_kept(self, name: str) -> bool:
        """Whether a column is shown even if all rows have the same value there."""
        return name in EXPLANATIONS or self.metrics == [name]

    def _must_tell(self, row: dict[str, Any], name: str) -> bool:
        """Whether it says something that a row has no value in a column."""
        return True

    def _shown_columns(self) -> list[str]:
        return self.columns

    def _cell(self, row: dict[str, Any], name: str) -> str:
        if name in self.parameters or name in self.metrics:
            return brief(row[name], counts=name in self.metrics)
        return own_text(name, row[name])

    # --- choosing rows and columns ---

    def sorted_by(self: _Table, column: str, descending: bool = False) -> _Table:
        """The rows sorted by a column; rows with None or NaN there come last.

        Raises:
            SettingsError: there is no such column.
        """
        self._check([column], "sorted_by")
        missing = [row for row in self if tables.is_missing(row[column])]
        present = [row for row in self if not tables.is_missing(row[column])]
        present.sort(key=lambda row: tables.sort_key(row[column]), reverse=descending)
        return self._with([*present, *missing], self.columns)

    def select(self: _Table, columns: Sequence[str]) -> _Table:
        """Only these columns, in this order.

        Raises:
            SettingsError: there is no such column.
        """
        self._check(columns, "select")
        return self._with([{name: row[name] for name in columns} for row in self], columns)

    def _with(self: _Table, rows: Iterable[dict[str, Any]], columns: Iterable[str]) -> _Table:
        changed = copy(self)
        changed._rows, changed.columns = list(rows), list(columns)
        changed.parameters = [name for name in self.parameters if name in changed.columns]
        changed.metrics = [name for name in self.metrics if name in changed.columns]
        return changed

    def _check(self, columns: Iterable[str], origin: str) -> None:
        for name in columns:
            if name not in self.columns:
                allowed = f"one of {', '.join(self.columns)}"
                hint = did_you_mean(str(name), self.columns)
                raise SettingsError("column", name, origin, allowed, hint)

    # --- writing ---

    def to_csv(self, target: Target | Any = None) -> str:
        """The table as CSV; also written to `target` (a path or a text file), if given.

        None becomes an empty cell, lists and dicts become JSON. A text or name that a spreadsheet
        would run as a formula gets an apostrophe in front; JSON and Parquet keep every text as it
        is. For a terminal, control characters are escaped as well.
        """
        writer = tables.to_csv_on_terminal if _is_terminal(target) else tables.to_csv
        return self._write(writer, target)

    def to_json(self, target: Target | Any = None) -> str:
        """The table as a JSON list of objects; NaN and infinities, which JSON lacks, become null.

        Also written to `target`, as by `to_csv`.
        """
        return self._write(tables.to_json, target)

    def to_markdown(self, target: Target | Any = None) -> str:
        """The table in Markdown, for people: floats are rounded to six significant digits.

        Texts are escaped, so that none becomes a link, an image or HTML. Of a list or dict that
        would take more than a line only the length is given. Also written to `target`,
        as by `to_csv`.
        """
        return self._write(tables.to_markdown, target)

    def to_parquet(self, target: Target | Any) -> None:
        """Write a Parquet file. Raises HsmError if pyarrow is not installed."""
        if hasattr(target, "write"):
            tables.to_parquet(self._rows, self.columns, target)
            return
        with replacing(target) as file:
            tables.to_parquet(self._rows, self.columns, file)

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame. Raises HsmError if pandas is not installed."""
        pandas = tables.import_extra("pandas", "pandas")
        return pandas.DataFrame(self._rows, columns=self.columns)

    def _write(self, writer: tables.Writer, target: Target | Any) -> str:
        text = tables.encodable(writer(self._rows, self.columns))
        if target is None:
            return text
        if hasattr(target, "write"):
            target.write(text)
        else:
            with replacing(target) as file:
                file.write(text.encode())
        return text


def _is_terminal(target: Any) -> bool:
    try:
        return bool(target.isatty())
    except (AttributeError, ValueError):  # A path or None; a closed file.
        return False
