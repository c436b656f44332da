"""Writes a table of results as CSV, JSON, Markdown or Parquet; `collect` makes the table."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from hsm.core.errors import HsmError
from hsm.core.printable import printable, printable_json

Rows = Sequence[dict[str, Any]]

#: What starts a formula in a spreadsheet, also after whitespace and invisible characters.
_FORMULA = r"[^\S\t\r\n]*[\ufeff\u200b-\u200f\u2060]*[=+\-@\uff1d\uff0b\uff0d\uff20]"
#: Where a cell starts, also for programs that split cells at semicolons, tabs or line ends.
_RUNS = re.compile(rf"(?:^|(?<=[;\t\r\n]))(?={_FORMULA})|^(?=[\t\r\n])")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_NEEDS_QUOTES = re.compile(r'[,"\r\n]')
#: Whatever ends a cell, or could start emphasis, code, math, a link, an image or HTML.
_MARKDOWN_ESCAPES = str.maketrans(
    {char: f"\\{char}" for char in "|\\`*[]~$"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
)
#: Characters of a list or dict that is whole in Markdown.
_MAX_LIST = 100
_BREAKS = str.maketrans("\n\r\t", "   ")
#: An underscore; but between letters or digits, as in max_memory, Markdown ignores it.
_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")


def to_csv(rows: Rows, columns: Sequence[str]) -> str:
    """Comma-separated values with a header line; see `as_text` for the cells.

    A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    return _to_csv(rows, columns, _without_formula)


def to_csv_on_terminal(rows: Rows, columns: Sequence[str]) -> str:
    """CSV with exactly one line per job, and nothing in it that could control a terminal."""
    return _to_csv(rows, columns, lambda text: printable(_without_formula(text)))


def _to_csv(rows: Rows, columns: Sequence[str], edit: Callable[[str], str]) -> str:
    lines = [[edit(name) for name in columns]]
    for row in rows:
        cells = (row[name] for name in columns)
        lines.append([as_text(cell) if _is_number(cell) else edit(as_text(cell)) for cell in cells])
    return "".join(_csv_line(line) for line in lines)


def _csv_line(cells: Sequence[str]) -> str:
    # Not with the csv module: whether it quotes a carriage return depends on Python's version.
    if list(cells) == [""]:
        return '""\n'  # Otherwise it would be an empty line, which readers skip.
    quoted = (
        '"' + cell.replace('"', '""') + '"' if _NEEDS_QUOTES.search(cell) else cell
        for cell in cells
    )
    return ",".join(quoted) + "\n"


def _is_number(cell: Any) -> bool:
    return cell is None or isinstance(cell, (bool, int, float))


def _without_formula(text: str) -> str:
    return text if _NUMBER.fullmatch(text) else _RUNS.sub("'", text)


def to_json(rows: Rows, columns: Sequence[str]) -> str:
    """A list of objects, one per line; NaN and infinities, which JSON lacks, become null."""
    lines = (_json({name: row[name] for name in columns}) for row in rows)
    return printable_json("[" + ",\n ".join(lines) + "]\n")


def to_markdown(rows: Rows, columns: Sequence[str]) -> str:
    """A table in GitHub's Markdown, for people: floats are rounded to six significant digits.

    Texts are escaped, so that none becomes a link, an image or HTML. Of a list or dict that would
    take more than a line only the length is given.
    """
    is_number = {
        name: all(isinstance(row[name], (int, float, type(None))) for row in rows)
        for name in columns
    }
    lines = [
        [_markdown(name) for name in columns],
        ["---:" if is_number[name] else "---" for name in columns],
        *([_markdown(counted(row[name], _MAX_LIST)) for name in columns] for row in rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _markdown(text: str) -> str:
    # `printable` first, so that the backslashes of its escapes are escaped for Markdown, too.
    text = printable(text.translate(_BREAKS)).translate(_MARKDOWN_ESCAPES)
    return _UNDERSCORE.sub(r"\\_", text)


def to_parquet(rows: Rows, columns: Sequence[str], target: Any) -> None:
    """Write one Parquet column per column; if its values have no common type, as text as in CSV.

    Raises:
        HsmError: pyarrow is not installed.
    """
    arrow = import_extra("pyarrow", "parquet")
    arrays = [_arrow_array(arrow, [row[name] for row in rows]) for name in columns]
    names = [encodable(name) for name in columns]
    import_extra("pyarrow.parquet", "parquet").write_table(
        arrow.Table.from_arrays(arrays, names=names), target
    )


def _arrow_array(arrow: Any, values: list[Any]) -> Any:
    if not any(isinstance(value, (list, dict)) for value in values):
        try:
            return arrow.array(values)
        except (arrow.ArrowException, ValueError, TypeError, OverflowError):
            pass  # Numbers mixed with text, an integer of more than 64 bits, a lone surrogate.
    texts = [None if value is None else encodable(as_text(value)) for value in values]
    return arrow.array(texts, arrow.string())


def import_extra(module: str, extra: str) -> Any:
    """Import a package of an optional extra. Raises HsmError, which names the extra to install."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise HsmError(
            f"this needs {package}, which is not installed: "
            f"pip install 'hpc-sweep-manager[{extra}]'"
        ) from error


def as_text(value: Any) -> str:
    """A cell's text: strings as they are, nothing for None, and JSON for anything else."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)  # JSON has no nan and inf.
    return str(value) if type(value) is int else _json(value)


def encodable(text: str) -> str:
    r"""`text` with lone surrogates, which UTF-8 cannot encode, as escapes (``\ud800``).

    In JSON the escapes mean the same characters.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(value), ensure_ascii=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def counted(value: Any, most: int) -> str:
    """A cell's text as `for_people` has it; of a list or dict that is longer, ``[30 values]``."""
    text = for_people(value)
    if not isinstance(value, (list, dict)) or len(text) <= most:
        return text
    plural = "" if len(value) == 1 else "s"
    if isinstance(value, list):
        return f"[{len(value)} value{plural}]"
    return f"{{{len(value)} key{plural}}}"


def for_people(value: Any) -> str:
    """A cell's text, with floats rounded to six significant digits."""
    return f"{value:.6g}" if isinstance(value, float) else as_text(value)


def sort_key(value: Any) -> tuple[int, Any]:
    """A key to sort values of any type: numbers, then strings, then anything else by its text."""
    if isinstance(value, (bool, int, float)):
        return 0, value
    return (1, value) if isinstance(value, str) else (2, as_text(value))


def is_missing(value: Any) -> bool:
    """Whether a value is None or NaN, and so cannot be sorted."""
    return value is None or (isinstance(value, float) and math.isnan(value))


Writer = Callable[[Rows, Sequence[str]], str]
