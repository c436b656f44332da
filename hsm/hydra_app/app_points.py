"""The points of a Hydra app's sweep, from what hydra.sweeper says and the command line.

    params, zip (hydra.sweeper) --.
    points (hydra.sweeper) -------+--> SweepDefinition --iterate--> point --point_texts--> overrides
    lr=0.1,1 (command line) ------'

The blocks of the definition are the grids, one for each mapping in `params` with the groups of
`zip`, and then the `points`, which take nothing from a grid. The command line is part of each: it
wins for the keys that it sets.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf

from hsm.core.errors import SettingsError, shown
from hsm.core.needs import NEEDS
from hsm.core.space.arguments import to_override
from hsm.core.space.axes import Axis, Listed, Rows, Values, Zipped
from hsm.core.space.definition import SweepDefinition
from hsm.core.space.grammar import check_key, plain_key
from hsm.core.space.row_files import read_points_file

#: Where the points are written, for messages.
ORIGIN = "hydra.sweeper"

#: A parameter of `params` or `zip`: its key; and either its override or its values.
_Entry = tuple[str, str | list[Any]]


class AppPoints(NamedTuple):
    """What hydra.sweeper says of the points, as Hydra composed it.

    Attributes:
        params: a mapping, or a list of mappings.
        zip: a mapping of groups.
        points: a list of mappings, or the path of a file.
    """

    params: Any = None
    zip: Any = None
    points: Any = None

    def definition(
        self,
        arguments: Sequence[str],
        loader: ConfigLoader,
        values_of: Callable[[Override], Values],
    ) -> SweepDefinition:
        """The points that these and the command line define.

        Args:
            arguments: the overrides of the command line.
            loader: looks up config groups.
            values_of: the values of an override.

        Raises:
            HydraException: an override is wrong.
            SettingsError: something else is.
        """
        reading = _Reading(OverridesParser.create(config_loader=loader), values_of)
        groups = _checked_mapping(self.zip, "zip", _GROUPS)
        members = self._members()
        blocks: list[Sequence[Axis]] = []
        if members or groups or self.points is None:
            for where, member in members or [("params", {})]:
                grid = reading.grid(_entries(member, f"{ORIGIN}.{where}"), arguments)
                line = {plain_key(key) for key in reading.keys_of(arguments)}
                blocks.append([*grid.values(), *reading.groups(groups, grid, line)])
        if self.points is not None:
            line_axes = reading.grid([], arguments).values()
            written = SweepDefinition(_written(self.points))
            blocks += written.overridden_by(SweepDefinition([[*line_axes]])).blocks
        return SweepDefinition(blocks)

    def _members(self) -> list[tuple[str, Mapping[str, Any]]]:
        """The mappings of `params`, each with its place."""
        params = plain(self.params)
        if not isinstance(params, list):
            params = _checked_mapping(params, "params", f"{_PARAMS}, or a list of such mappings")
            return [("params", params)] if params else []
        return [
            (f"params[{at}]", _checked_mapping(member, f"params[{at}]", _PARAMS))
            for at, member in enumerate(params)
        ]


_PARAMS = "a mapping of parameters to their values"
_GROUPS = "a mapping of named groups, as in zip: {size: {width: '64,128', depth: '2,4'}}"
_POINTS = "a list of points, as in [{model: svm, C: 1}], or the path of a .csv, .jsonl or .yaml"


class _Reading:
    """Reads overrides with Hydra's parser."""

    def __init__(self, parser: OverridesParser, values_of: Callable[[Override], Values]) -> None:
        self._parser, self._values_of = parser, values_of

    def grid(self, entries: Sequence[_Entry], arguments: Sequence[str]) -> dict[str, Axis]:
        """One axis for each key, in the order in which keys come first; the last one wins."""
        texts = [given for _, given in entries if isinstance(given, str)]
        overrides = iter(self._parser.parse_overrides([*texts, *arguments]))
        axes: dict[str, Axis] = {}
        for key, given in entries:
            if isinstance(given, list):
                axes[key] = Zipped({key: Listed(given)})
            else:
                axes.update([self._axis(next(overrides))])
        axes.update(map(self._axis, overrides))
        return axes

    def _axis(self, override: Override) -> tuple[str, Axis]:
        key = override.get_key_element()
        return key, Zipped({key: self._values_of(override)})

    def keys_of(self, texts: Sequence[str]) -> list[str]:
        """The keys that overrides set."""
        return [each.get_key_element() for each in self._parser.parse_overrides([*texts])]

    def groups(
        self, groups: Mapping[str, Any], grid: Mapping[str, Axis], line: set[str]
    ) -> Iterator[Axis]:
        """The axes of `zip`, without the keys that the command line sets.

        Raises:
            SettingsError: a group's lists differ in length, or a key is set twice.
        """
        taken = {plain_key(key): "hydra.sweeper.params" for key in grid}
        for name, columns in groups.items():
            where = f"{ORIGIN}.zip.{name}"
            group: dict[str, Values] = {}
            for key, given in _entries(_checked_mapping(columns, f"zip.{name}", _PARAMS), where):
                first = taken.get(plain_key(key))
                if first is not None and plain_key(key) not in line:
                    message = f"{where}: {shown(key)} is set twice: there and in {first}"
                    raise SettingsError(key, given, where, "a new key", message=message)
                taken[plain_key(key)] = where
                group[key] = self._column(key, given)
            counts = {key: values.count for key, values in group.items()}
            if len(set(counts.values())) > 1:
                lengths = ", ".join(f"{key} has {count}" for key, count in counts.items())
                message = f"{where}: its lists differ in length: {lengths}"
                allowed = "lists of equal length"
                raise SettingsError(where, lengths, where, allowed, message=message)
            if group and (axis := Zipped(group, name).without(line)) is not None:
                yield axis

    def _column(self, key: str, given: str | list[Any]) -> Values:
        if isinstance(given, list):
            return Listed(given)
        (override,) = self._parser.parse_overrides([given])
        return self._values_of(override)


def _entries(mapping: Mapping[str, Any], where: str, prefix: str = "") -> list[_Entry]:
    """The parameters of a mapping; one in it is nested: ``{model: {C: 1}}`` sets model.C."""
    entries: list[_Entry] = []
    for name, value in mapping.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and value:
            entries += _entries(value, where, f"{key}.")
        elif isinstance(value, list):
            check_key(key, _place(where))
            if not value:
                raise SettingsError(key, value, f"{where}.{key}", "a list with at least one value")
            for item in value:
                to_override(key, item, _place(where))
            entries.append((key, value))
        else:
            entries.append((key, f"{key}={'null' if value is None else value}"))
    return entries


def _written(points: Any) -> list[Sequence[Axis]]:
    """The blocks of axes of `points`.

    Raises:
        SettingsError: they are not valid.
    """
    points = plain(points)
    if isinstance(points, str) and points:
        return [[read_points_file(os.path.expanduser(points))]]
    where = f"{ORIGIN}.points"
    if not isinstance(points, list) or not points:
        raise SettingsError("points", points, where, _POINTS)
    rows = []
    for at, point in enumerate(points):
        place = f"{where}[{at}]"
        rows.append(dict(_row(_checked_mapping(point, f"points[{at}]", "a point"), place)))
    return [[Rows(rows, "points")]]


def _row(point: Mapping[str, Any], where: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in point.items():
        key = f"{prefix}{name}"
        if key == NEEDS:
            message = f"{where}: {NEEDS} is for points of hsm sweep: set hydra.launcher.needs"
            raise SettingsError(key, value, where, "a parameter", message=message)
        if isinstance(value, dict) and value:
            yield from _row(value, where, f"{key}.")
        else:
            to_override(key, value, _place(where))  # Raises SettingsError.
            yield key, value


def _place(where: str) -> str:
    """``points[0] of hydra.sweeper``: a place of which a message names a key or value."""
    return f"{where.removeprefix(ORIGIN + '.')} of {ORIGIN}"


def _checked_mapping(value: Any, key: str, allowed: str) -> dict[str, Any]:
    """`value` as a mapping; nothing is an empty one."""
    value = plain(value)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SettingsError(key, value, f"{ORIGIN}.{key}", allowed)
    return value


def plain(value: Any) -> Any:
    """A value in plain containers, without interpolations."""
    if isinstance(value, DictConfig | ListConfig):
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True, enum_to_str=True)
    return value
