"""Points that are written out: CSV, JSON lines, and lists in YAML.

`hsm.core.space.definition` describes the formats.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from hsm.core.needs import NEEDS
from hsm.core.space.axes import Axis, Listed, Rows, Zipped
from hsm.core.space.grammar import check_key, read_scalar
from hsm.core.space.sweep_text import (
    SweepText,
    TakenKeys,
    checked,
    decoded,
    read_bytes,
    read_row,
    unreadable,
)
from hsm.core.yaml_lines import Lined, load_yaml

_TOO_DEEP = "it is nested too deeply"


def read_points_file(path: str | os.PathLike[str]) -> Axis:
    """Read the points that a CSV, JSONL or YAML file lists. Raises SettingsError."""
    reader = _READERS.get(Path(path).suffix.lower())
    if reader is None:
        endings = f"its name must end in {', '.join(_READERS)}"
        raise unreadable(str(path), endings, endings)
    text = decoded(read_bytes(path), str(path))
    try:
        return reader(SweepText(str(path), text))
    except RecursionError:
        raise unreadable(str(path), "less deeply nested", _TOO_DEEP) from None


def read_csv(file: SweepText) -> Zipped:
    """Read a table whose first line names the parameters."""
    reader = csv.reader(io.StringIO(file.text, newline=""), strict=True)
    columns: dict[str, list[Any]] = {}
    try:
        for row in reader:
            if not row:  # an empty line
                continue
            if not columns:
                columns = {name: [] for name in _header(file, row, reader.line_num)}
                continue
            if len(row) != len(columns):
                allowed = f"{len(columns)} cells ({', '.join(columns)})"
                problem = f"expected {allowed}, got {len(row)}"
                file.refuse(reader.line_num, "a row", row, allowed, problem=problem)
            for (name, column), cell in zip(columns.items(), row, strict=True):
                own = name == NEEDS
                value = checked(file, name, cell, reader.line_num) if own else read_scalar(cell)
                column.append(value)
    except csv.Error as error:
        problem = f"not valid CSV: {error}"
        file.refuse(reader.line_num, "the file", file.path, "valid CSV", problem=problem)
    if "\0" in file.text:
        line = file.text[: file.text.index("\0")].count("\n") + 1
        file.refuse(line, "a cell", "\0", "a text without NUL characters")
    if not any(columns.values()):
        file.refuse(None, "the file", file.path, "a line of names and at least one row")
    return Zipped({name: Listed(column) for name, column in columns.items()})


def _header(file: SweepText, cells: list[str], line: int) -> list[str]:
    names = [cell.strip(" \t") for cell in cells]
    taken = TakenKeys(file)
    hint = "the first line names the parameters, separated by commas"
    for name in names:
        check_key(name, file.at(line), hint)
        if not isinstance(read_scalar(name), str):  # 0.1 would be a valid key: item 1 of item 0
            file.refuse(line, "the first line", cells, "names and not values", hint)
        taken.add(name, "the first line", line)
    return names


def read_jsonl(file: SweepText) -> Rows:
    """Read one object a line."""
    rows = []
    for number, line in enumerate(file.text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except json.JSONDecodeError as error:
            problem = f"not valid JSON: {error.msg}, at character {error.pos + 1}"
            file.refuse(number, "a line", line.strip(), "one JSON object", problem=problem)
        except (ValueError, RecursionError) as error:
            problem = f"cannot use this JSON: {error}"
            file.refuse(number, "a line", line.strip(), "one JSON object", problem=problem)
        if not isinstance(row, dict):
            file.refuse(number, "a line", line.strip(), "one JSON object")
        rows.append(read_row(file, row, number))
    if not rows:
        file.refuse(None, "the file", file.path, "lines with one JSON object each")
    return Rows(rows)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} appears twice")
    return mapping


def _read_yaml(file: SweepText) -> Rows:
    points = load_yaml(file.text, file.path)
    return read_list(file, points, None, "the file", "a list of mappings, one for each point")


def read_list(
    file: SweepText, points: Any, line: int | None, key: str, allowed: str, name: str = ""
) -> Rows:
    """Read a list of mappings.

    Args:
        file: what it is written in.
        points: what should be one.
        line: where it begins.
        key: what messages call it.
        allowed: what it must be, for messages.
        name: the axis's.
    """
    if not isinstance(points, list) or not points:
        file.refuse(line, key, points, allowed)
    rows = []
    for point in points:
        if not isinstance(point, dict):
            file.refuse(line, key, point, allowed)
        rows.append(read_row(file, point, point.line if isinstance(point, Lined) else line))
    return Rows(rows, name)


_Reader: TypeAlias = Callable[[SweepText], Axis]
_READERS: dict[str, _Reader] = {
    ".csv": read_csv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}
