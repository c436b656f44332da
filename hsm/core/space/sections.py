"""The parts of a sweep as a mapping: grids, groups that are zipped, points, and how to choose.

    params, grid -> axes, a block for each grid --.
    zip, paired  -> axes of every grid's block ---+--> blocks of a SweepDefinition
    points, jobs -> a block of their own ---------'
    method, n_trials, seed, … -> what `hsm.core.space.choosing` checks

The mapping comes from a sweep file, or from Python.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hsm.core.errors import SettingsError, UnknownSetting, shown
from hsm.core.needs import NEEDS
from hsm.core.space.axes import Axis, Listed, Values, Zipped
from hsm.core.space.choosing import KEYS
from hsm.core.space.domains import Interval
from hsm.core.space.row_files import read_list, read_points_file
from hsm.core.space.sweep_text import SweepText, TakenKeys, checked, flat
from hsm.core.yaml_lines import Lined

#: Names of one thing each; the first is the one that Hydra's sweepers and hsm's share.
_GRID, _GROUPS, _POINTS = ("params", "grid"), ("zip", "paired"), ("points", "jobs")
SECTIONS = (*_GRID, *_GROUPS, *_POINTS)
_CALL = re.compile(r"\s*[A-Za-z_][A-Za-z0-9_-]*\s*\(")
_PAIRED = "a list of named groups, as in `- size: {width: [64, 128], depth: [2, 4]}`"
_ZIP = "a mapping of named groups, as in `size: {width: [64, 128], depth: [2, 4]}`"
_ITEMS = "a list of mappings, one for each job"


def check_names(file: SweepText, mapping: Mapping[Any, Any], known: Sequence[str]) -> None:
    """Refuse keys that are not `known`. Raises SettingsError."""
    for name in mapping:
        if name not in known:
            raise UnknownSetting.among(name, name, file.at(line_of(mapping, name)), known)


def line_of(mapping: Mapping[Any, Any], name: str) -> int | None:
    """The line of a key, if it is known."""
    return mapping.lines.get(name) if isinstance(mapping, Lined) else None


def read_sections(file: SweepText, sweep: Mapping[str, Any]) -> list[list[Axis]]:
    """Read the blocks of axes that a mapping with the keys `SECTIONS` defines.

    Raises:
        SettingsError: it is not valid.
    """
    grid, groups, points = (_only_one(file, sweep, names) for names in (_GRID, _GROUPS, _POINTS))
    blocks: list[list[Axis]] = []
    if grid or groups:
        for one, line in _grids(file, sweep, grid):
            taken = TakenKeys(file)
            axes: list[Axis] = []
            if grid:
                axes += _grid(file, grid, one, line, taken)
            if groups:
                axes += _groups(file, groups, sweep[groups], line_of(sweep, groups), taken)
            blocks.append(axes)
    if points:
        blocks.append([_points(file, points, sweep[points], line_of(sweep, points))])
    return blocks


def read_choosing(file: SweepText, sweep: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """What a mapping says about choosing points: each key's value, unchecked, and its place."""
    keys = [key for key in (*KEYS, *file.more_keys) if key in sweep]
    return {key: (sweep[key], file.at(line_of(sweep, key))) for key in keys}


def _only_one(file: SweepText, sweep: Mapping[str, Any], names: tuple[str, str]) -> str:
    """The one of two names for one thing that a mapping has; "" without either."""
    found = [name for name in names if name in sweep]
    if len(found) > 1:
        first, second = names
        line = max((line_of(sweep, name) or 0) for name in names)
        problem = f"{first}: and {second}: are two names of one thing: use one of them"
        file.refuse(line or None, f"{second}:", sweep[second], "left out", problem=problem)
    return found[0] if found else ""


def _grids(
    file: SweepText, sweep: Mapping[str, Any], name: str
) -> Iterable[tuple[Any, int | None]]:
    """Each grid of a union, with its line; a mapping is the only one."""
    if not name:
        return [({}, None)]
    grid, line = sweep[name], line_of(sweep, name)
    if not isinstance(grid, list):
        return [(grid, line)]
    if not grid:
        file.refuse(line, f"{name}:", grid, "a mapping, or a list of mappings, one for each grid")
    return [(one, one.line if isinstance(one, Lined) else line) for one in grid]


def _grid(file: SweepText, name: str, grid: Any, line: int | None, taken: TakenKeys) -> list[Axis]:
    if not isinstance(grid, dict) or not grid:
        file.refuse(line, f"{name}:", grid, "a mapping of parameters to their values")
    axes: list[Axis] = []
    for key, value, at in flat(file, grid, line):
        taken.add(key, name, at)
        if isinstance(value, list) or (_is_expression(value) and key != NEEDS):
            axes.append(Zipped({key: _column(file, key, value, at)}))
        elif isinstance(value, dict) and key != NEEDS:
            file.refuse(at, key, value, "a value, a list of values, or a mapping that has keys")
        else:
            axes.append(Zipped({key: Listed([checked(file, key, value, at)])}))
    return axes


def _groups(
    file: SweepText, section: str, groups: Any, line: int | None, taken: TakenKeys
) -> list[Axis]:
    allowed = _ZIP if section == "zip" else _PAIRED
    axes: list[Axis] = []
    for name, columns, at in _named(file, section, groups, line, allowed):
        if any(axis.name == name for axis in axes):
            problem = f"two {section} groups are called {shown(name)}"
            file.refuse(at, f"{section}:", name, "groups with different names", problem=problem)
        axes.append(_group(file, f"{section} group {name!r}", name, columns, at, taken))
    return axes


def _named(
    file: SweepText, section: str, groups: Any, line: int | None, allowed: str
) -> Iterable[tuple[str, dict[Any, Any], int | None]]:
    """Each group's name, columns and line, from a list of mappings of one group, or a mapping."""
    if isinstance(groups, dict) and section == "zip":
        found = [(name, each, line_of(groups, name) or line) for name, each in groups.items()]
    else:
        if not isinstance(groups, list):
            file.refuse(line, f"{section}:", groups, allowed)
        found = []
        for group in groups:
            at = group.line if isinstance(group, Lined) else line
            if not isinstance(group, dict) or len(group) != 1:
                file.refuse(at, f"{section}:", group, allowed)
            found += [(name, columns, at) for name, columns in group.items()]
    if not found:
        file.refuse(line, f"{section}:", groups, allowed)
    for name, columns, at in found:
        if not isinstance(columns, dict) or not columns:
            file.refuse(at, f"{section}:", {name: columns}, allowed)
    return [(str(name), columns, at) for name, columns, at in found]


def _group(
    file: SweepText,
    where: str,
    name: str,
    group: dict[Any, Any],
    line: int | None,
    taken: TakenKeys,
) -> Zipped:
    columns: dict[str, Values] = {}
    for key, value, at in flat(file, group, line):
        taken.add(key, where, at)
        columns[key] = _column(file, key, value, at)
        if isinstance(columns[key], Interval):
            problem = f"{key} in {where}: an interval has no list of values to advance with others"
            file.refuse(at, key, value, "values that can be listed", problem=problem)
    _check_lengths(file, where, columns, line)
    return Zipped(columns, name)


def _check_lengths(
    file: SweepText, where: str, columns: Mapping[str, Values], line: int | None
) -> None:
    """Refuse columns that cannot advance together, as they have different lengths.

    Raises:
        SettingsError: they have.
    """
    counts = {key: values.count for key, values in columns.items()}
    if len(set(counts.values())) > 1:
        lengths = ", ".join(f"{key} has {count}" for key, count in counts.items())
        problem = f"the lists of {where} differ in length: {lengths}"
        file.refuse(line, where, lengths, "lists of equal length", problem=problem)


def _points(file: SweepText, name: str, points: Any, line: int | None) -> Axis:
    if name == "points" and isinstance(points, (str, os.PathLike)) and str(points):
        # Relative to the sweep file, so that the two can be moved together.
        return read_points_file(Path(file.path).parent / Path(points).expanduser())
    allowed = f"{_ITEMS}, or the path of a file of points" if name == "points" else _ITEMS
    return read_list(file, points, line, f"{name}:", allowed, name)


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and ("," in value or _CALL.match(value) is not None)


def _column(file: SweepText, key: str, value: Any, line: int | None) -> Values:
    """Return the values of a parameter in a grid or a group."""
    if isinstance(value, list) and value:
        return Listed([checked(file, key, item, line) for item in value])
    if not _is_expression(value):
        allowed = "a list with at least one value, or a string such as range(1, 5)"
        file.refuse(line, key, value, allowed)
    from hsm.core.space.overrides import values_from_expression

    try:
        return values_from_expression(
            key, value, file.at(line), file.config_loader, intervals=file.intervals
        )
    except SettingsError as error:
        message = f"{error}; to use the string as it is, put it in a list"
        raise SettingsError(
            error.key, error.value, error.origin, error.allowed, error.hint, message=message
        ) from None
