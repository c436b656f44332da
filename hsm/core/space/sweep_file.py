"""Sweep files -> axes: YAML with grid, paired and jobs; CSV; JSON lines.

`hsm.core.space.definition` describes the formats. Every mistake in a file raises a SettingsError
that names the file and, if known, the line.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from hsm.core.errors import SettingsError, UnknownSetting, shown
from hsm.core.needs import NEEDS
from hsm.core.settings.point_needs import read_needs
from hsm.core.space.arguments import to_override
from hsm.core.space.axes import STRING_KEYS, Axis, Listed, Rows, Values, Zipped
from hsm.core.space.grammar import check_key, plain_key, read_scalar
from hsm.core.yaml_lines import Lined, load_yaml

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

_SECTIONS = ("grid", "paired", "jobs")
_CALL = re.compile(r"\s*[A-Za-z_][A-Za-z0-9_-]*\s*\(")
#: How a YAML file begins: with a key, or with the marks of a document.
_YAML_START = re.compile(r"""(---|%YAML|["']?[\w.+@/-]+["']?\s*:(\s|$))""")
_GROUPS = "a list of named groups, as in `- size: {width: [64, 128], depth: [2, 4]}`"


def read_blocks(
    path: str | os.PathLike[str], config_loader: ConfigLoader | None = None
) -> list[list[Axis]]:
    """Read the blocks of axes that a file defines; ``glob()`` looks up groups in `config_loader`.

    Raises:
        SettingsError: the file cannot be read, or is not valid.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        endings = f"its name must end in {', '.join(_READERS)}"
        raise _unreadable(str(path), endings, endings)
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise _unreadable(str(path), "one that can be read", reason) from error
    except ValueError as error:  # a NUL in its name
        raise _unreadable(str(path), "one that can be read", str(error)) from error
    return _blocks(data, str(path), config_loader, reader)


def blocks_of(
    data: bytes, name: str, config_loader: ConfigLoader | None = None
) -> list[list[Axis]]:
    """The blocks of axes that a text defines, whose own first lines tell its format.

    Args:
        data: the text.
        name: what it is called in messages.
        config_loader: see `read_blocks`.

    Raises:
        SettingsError: it is not valid.
    """
    return _blocks(data, name, config_loader, None)


def _blocks(
    data: bytes, name: str, config_loader: ConfigLoader | None, reader: _Reader | None
) -> list[list[Axis]]:
    try:
        text = data.decode("utf-8-sig")  # Spreadsheets write a byte order mark.
    except UnicodeDecodeError as error:
        raise _unreadable(name, "text in UTF-8", f"it is not UTF-8: {error}") from error
    try:
        return (reader or _reader_for(text))(_File(name, text, config_loader))
    except RecursionError:
        raise _unreadable(name, "less deeply nested", "it is nested too deeply") from None


def _reader_for(text: str) -> _Reader:
    """The reader for a text of any format, by its first line that is neither blank nor a comment.

    JSON lines begin with a brace, and YAML with ``sweep:`` or another key; all else is CSV.
    """
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    if first.startswith("{"):
        return _read_jsonl
    return _read_yaml if _YAML_START.match(first) else _read_csv


def _unreadable(name: str, allowed: str, reason: str) -> SettingsError:
    message = f"cannot read the sweep file {shown(name)}: {reason}"
    return SettingsError("the file", name, "sweep file", allowed, reason, message=message)


@dataclass(frozen=True)
class _File:
    """A file's content, with its path for messages and the config loader for ``glob()``."""

    path: str
    text: str
    config_loader: ConfigLoader | None = None

    def at(self, line: int | None) -> str:
        return f"{self.path}, line {line}" if line else self.path

    def refuse(
        self,
        line: int | None,
        key: str,
        value: object,
        allowed: str,
        hint: str = "",
        *,
        problem: str = "",
    ) -> NoReturn:
        """Raise SettingsError; `problem` says what is wrong where "must be" would be stiff."""
        message = f"{self.at(line)}: {problem}" if problem else ""
        raise SettingsError(key, value, self.at(line), allowed, hint, message=message)


def _read_yaml(file: _File) -> list[list[Axis]]:
    top = load_yaml(file.text, file.path)
    form = "a mapping with the one key sweep: (and grid:, paired: or jobs: below it)"
    if not isinstance(top, Lined) or not top:
        file.refuse(None, "the file", top, form)
    _check_names(file, top, ("sweep",))
    sweep = top["sweep"]
    if not isinstance(sweep, Lined) or not sweep:
        allowed = "a mapping with grid:, paired: or jobs:"
        file.refuse(top.lines.get("sweep"), "sweep:", sweep, allowed)
    _check_names(file, sweep, _SECTIONS)
    taken = _TakenKeys(file)
    axes: list[Axis] = []
    if "grid" in sweep:
        axes += _grid(file, sweep["grid"], sweep.lines.get("grid"), taken)
    if "paired" in sweep:
        axes += _paired(file, sweep["paired"], sweep.lines.get("paired"), taken)
    blocks = [axes] if axes else []
    if "jobs" in sweep:
        blocks.append([_jobs(file, sweep["jobs"], sweep.lines.get("jobs"))])
    return blocks


def _check_names(file: _File, mapping: Lined, known: Sequence[str]) -> None:
    for name in mapping:
        if name not in known:
            raise UnknownSetting.among(name, name, file.at(mapping.lines.get(name)), known)


@dataclass
class _TakenKeys:
    """The parameters set so far by the grid and the groups; none may be set twice."""

    file: _File

    def __post_init__(self) -> None:
        self._where: dict[str, tuple[str, int | None]] = {}

    def add(self, key: str, where: str, line: int | None) -> None:
        name = plain_key(key)
        if name in self._where:
            first, first_line = self._where[name]
            problem = f"{shown(key)} is set twice"
            if first != where:
                problem += f": by {where} and by {first}"
            if first_line and first_line != line:
                problem += f", first in line {first_line}"
            self.file.refuse(line, f"a key of {where}", key, "new", problem=problem)
        self._where[name] = (where, line)


def _grid(file: _File, grid: Any, line: int | None, taken: _TakenKeys) -> list[Axis]:
    if not isinstance(grid, dict) or not grid:
        file.refuse(line, "grid:", grid, "a mapping of parameters to their values")
    axes: list[Axis] = []
    for key, value, at in _flat(file, grid, line):
        taken.add(key, "grid", at)
        if isinstance(value, list) or (_is_expression(value) and key != NEEDS):
            axes.append(Zipped({key: _column(file, key, value, at)}))
        elif isinstance(value, dict) and key != NEEDS:
            file.refuse(at, key, value, "a value, a list of values, or a mapping that has keys")
        else:
            axes.append(Zipped({key: Listed([_checked(file, key, value, at)])}))
    return axes


def _paired(file: _File, groups: Any, line: int | None, taken: _TakenKeys) -> list[Axis]:
    if not isinstance(groups, list) or not groups:
        file.refuse(line, "paired:", groups, _GROUPS)
    axes: list[Axis] = []
    for group in groups:
        at = group.line if isinstance(group, Lined) else line
        if not isinstance(group, dict) or len(group) != 1:
            file.refuse(at, "paired:", group, _GROUPS)
        [(name, columns)] = group.items()
        if not isinstance(columns, dict) or not columns:
            file.refuse(at, "paired:", group, _GROUPS)
        if any(axis.name == str(name) for axis in axes):
            problem = f"two paired groups are called {shown(name)}"
            file.refuse(at, "paired:", name, "groups with different names", problem=problem)
        axes.append(_group(file, str(name), columns, at, taken))
    return axes


def _group(
    file: _File, name: str, group: dict[Any, Any], line: int | None, taken: _TakenKeys
) -> Zipped:
    where = f"paired group {name!r}"
    columns: dict[str, Values] = {}
    for key, value, at in _flat(file, group, line):
        taken.add(key, where, at)
        columns[key] = _column(file, key, value, at)
    counts = {key: values.count for key, values in columns.items()}
    if len(set(counts.values())) > 1:
        lengths = ", ".join(f"{key} has {count}" for key, count in counts.items())
        problem = f"the lists of {where} differ in length: {lengths}"
        file.refuse(line, where, lengths, "lists of equal length", problem=problem)
    return Zipped(columns, name)


def _jobs(file: _File, jobs: Any, line: int | None) -> Rows:
    if not isinstance(jobs, list) or not jobs:
        file.refuse(line, "jobs:", jobs, "a list of mappings, one for each job")
    rows = []
    for job in jobs:
        if not isinstance(job, dict):
            file.refuse(line, "jobs:", job, "a list of mappings, one for each job")
        rows.append(_row(file, job, job.line if isinstance(job, Lined) else line))
    return Rows(rows, "jobs")


def _row(file: _File, row: Mapping[Any, Any], line: int | None) -> dict[str, Any]:
    taken = _TakenKeys(file)
    assignments = {}
    for key, value, at in _flat(file, row, line):
        taken.add(key, "a job", at)
        assignments[key] = _checked(file, key, value, at)
    return assignments


def _flat(
    file: _File, mapping: Mapping[Any, Any], line: int | None, prefix: str = ""
) -> Iterator[tuple[str, Any, int | None]]:
    """Yield the dotted keys of a mapping of mappings, with their values and lines."""
    for key, value in mapping.items():
        at = mapping.lines.get(key, line) if isinstance(mapping, Lined) else line
        if not isinstance(key, str):
            check_key(key, file.at(at))
        if isinstance(value, dict) and value and prefix + key != NEEDS:
            yield from _flat(file, value, at, f"{prefix}{key}.")
        else:
            yield check_key(prefix + key, file.at(at)), value, at


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and ("," in value or _CALL.match(value) is not None)


def _column(file: _File, key: str, value: Any, line: int | None) -> Values:
    """Return the values of a parameter in the grid or a group."""
    if isinstance(value, list) and value:
        return Listed([_checked(file, key, item, line) for item in value])
    if not _is_expression(value):
        allowed = "a list with at least one value, or a string such as range(1, 5)"
        file.refuse(line, key, value, allowed)
    from hsm.core.space.overrides import values_from_expression

    try:
        return values_from_expression(key, value, file.at(line), file.config_loader)
    except SettingsError as error:
        message = f"{error}; to use the string as it is, put it in a list"
        raise SettingsError(
            error.key, error.value, error.origin, error.allowed, error.hint, message=message
        ) from None


def _checked(file: _File, key: str, value: Any, line: int | None) -> Any:
    """Return `value` in plain types; refuse it if an argument cannot hold it."""
    if key == NEEDS:
        return read_needs(value or None, file.at(line))
    if value is None or isinstance(value, (bool, float)):
        return value
    if not isinstance(value, str) or not value.isascii() or "\0" in value:
        if _has_other_keys(value):
            problem = f"{key}: {STRING_KEYS}"
            file.refuse(line, key, value, STRING_KEYS, problem=problem)
        value = _plain(value)
        to_override(key, value, file.at(line))
    return value


def _has_other_keys(value: Any) -> bool:
    """Whether a dict in `value` has a key that is not a string."""
    if isinstance(value, dict):
        return any(not isinstance(k, str) or _has_other_keys(v) for k, v in value.items())
    return isinstance(value, (list, tuple)) and any(map(_has_other_keys, value))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    # Tuples come from YAML's !!omap.
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _read_csv(file: _File) -> list[list[Axis]]:
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
                value = _checked(file, name, cell, reader.line_num) if own else read_scalar(cell)
                column.append(value)
    except csv.Error as error:
        problem = f"not valid CSV: {error}"
        file.refuse(reader.line_num, "the file", file.path, "valid CSV", problem=problem)
    if "\0" in file.text:
        line = file.text[: file.text.index("\0")].count("\n") + 1
        file.refuse(line, "a cell", "\0", "a text without NUL characters")
    if not any(columns.values()):
        file.refuse(None, "the file", file.path, "a line of names and at least one row")
    return [[Zipped({name: Listed(column) for name, column in columns.items()})]]


def _header(file: _File, cells: list[str], line: int) -> list[str]:
    names = [cell.strip(" \t") for cell in cells]
    taken = _TakenKeys(file)
    hint = "the first line names the parameters, separated by commas"
    for name in names:
        check_key(name, file.at(line), hint)
        if not isinstance(read_scalar(name), str):  # 0.1 would be a valid key: item 1 of item 0
            file.refuse(line, "the first line", cells, "names and not values", hint)
        taken.add(name, "the first line", line)
    return names


def _read_jsonl(file: _File) -> list[list[Axis]]:
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
        rows.append(_row(file, row, number))
    if not rows:
        file.refuse(None, "the file", file.path, "lines with one JSON object each")
    return [[Rows(rows)]]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} appears twice")
    return mapping


_Reader: TypeAlias = Callable[[_File], list[list[Axis]]]
_READERS: dict[str, _Reader] = {
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
}
