"""Composing a few points before the first job, so that a broken config or key starts nothing.

Which configs a point composes depends on its options of config groups, and which keys it may set on
these. So the first point is composed, and one for each option that an axis of the sweep brings and
for each set of keys: a sum over the axes, and never their product. What is wrong with a single
value is left to its job.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from hsm.core.errors import SettingsError
from hsm.core.space.axes import Axis, Listed, Zipped
from hsm.core.space.selection import Selection
from hsm.hydra_app.app_config import plain_group
from hsm.hydra_app.kept_overrides import overrides_of_hydra

_SEARCH_PATH = "hydra.searchpath"

#: Of each axis: values that are looked at, and those of them that are composed.
_MAX_LOOKED_AT, _MAX_COMPOSED = 1000, 20

_Point = Mapping[str, Any]


def options_of_group(loader: ConfigLoader, config: DictConfig, group: str) -> list[str]:
    """The options of a config group, with the search path that the sweep's config has."""
    name = config.hydra.job.config_name
    paths = [text for text in overrides_of_hydra(config) if _SEARCH_PATH in text]
    return loader.get_group_options(group, config_name=name, overrides=paths)


def points_to_compose(
    selection: Selection, first: _Point, options: Callable[[str], list[str]]
) -> Iterator[_Point]:
    """Yield the points to compose before the first job.

    Args:
        selection: the points that are to run.
        first: the first one.
        options: the options of a config group; none if there is no such group.
    """
    kinds = _Kinds(options)
    yield first
    seen = {kinds.of(first)}
    for point in _candidates(selection, kinds):
        kind = kinds.of(point)
        if kind not in seen and _runs(selection, point):
            seen.add(kind)
            yield point


def _candidates(selection: Selection, kinds: _Kinds) -> Iterator[_Point]:
    """The points of which one of each kind is composed."""
    most = selection.choosing.max_runs
    if most is not None and most <= _MAX_COMPOSED:
        yield from islice(selection, _MAX_LOOKED_AT)  # What else there is may never run.
        return
    repeat = selection.choosing.repeat.items()
    repeated = [Zipped({key: Listed(values)}) for key, values in repeat]
    for block in selection.definition.blocks:
        yield from _of_block([*block, *repeated], kinds)


def _runs(selection: Selection, point: _Point) -> bool:
    """Whether a point may be one of those that run."""
    with suppress(SettingsError):  # It may be none, and the filter not made for it.
        return selection.keeps(point)
    return False


def _of_block(block: Sequence[Axis], kinds: _Kinds) -> Iterator[_Point]:
    """The first point of a block, and for each axis those in which this axis is of another kind."""
    if any(axis.count == 0 for axis in block):
        return
    parts = [axis.point(0) for axis in block]
    yield _joined(parts)
    for at, axis in enumerate(block):
        for part in kinds.examples(axis):
            yield _joined([*parts[:at], part, *parts[at + 1 :]])


def _joined(parts: Sequence[_Point]) -> _Point:
    return {key: value for part in parts for key, value in part.items()}


class _Kinds:
    """Tells points apart by their keys and by their options of config groups."""

    def __init__(self, options: Callable[[str], list[str]]) -> None:
        self._options = options
        self._known: dict[str, list[str]] = {}

    def of(self, point: _Point) -> Hashable:
        """What two points have in common whose configs have the same keys."""
        return tuple((key, str(point[key]) if self._has(key) else None) for key in point)

    def examples(self, axis: Axis) -> list[_Point]:
        """A point of the axis of each kind, those first that choose an option that is not there."""
        found: dict[Hashable, _Point] = {}
        if any(map(self._has, axis.all_keys())) or len(axis.all_keys()) > len(axis.shared_keys()):
            for index in range(min(axis.count, _MAX_LOOKED_AT)):
                point = axis.point(index)
                found.setdefault(self.of(point), point)
        return sorted(found.values(), key=self._exists)[:_MAX_COMPOSED]

    def _exists(self, point: _Point) -> bool:
        return all(
            not isinstance(value, str) or value in self._of(key)
            for key, value in point.items()
            if self._has(key)
        )

    def _has(self, key: str) -> bool:
        """Whether a key is a config group of the app."""
        return bool(self._of(key))

    def _of(self, key: str) -> list[str]:
        group = plain_group(key)
        if group not in self._known:
            # Most keys are none: no group has a dot in its name.
            self._known[group] = [] if "." in group else self._options(group)
        return self._known[group]
