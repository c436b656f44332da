"""The space that a study searches: the axes of a sweep's definition, as dimensions.

lr=tag(log, interval(1e-5, 0.1))   Real         n=int(interval(1, 9))   Whole
n=range(1, 9, 2)                   Whole        x=range(0, 1, 0.1)      Real, with steps
model=svm,forest   zip groups   rows            Options
seed=7             a fixed parameter
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hsm.core.errors import SettingsError, shown
from hsm.core.needs import NEEDS
from hsm.core.plain_json import encode, identity
from hsm.core.space.axes import Axis, Reordered, Shuffled, Stepped, Values, Zipped
from hsm.core.space.definition import SweepDefinition
from hsm.core.space.domains import Interval, LogSpaced
from hsm.core.space.grammar import plain_key
from hsm.core.study.dimensions import Dimension, Number, Options, Raw

#: Options of one dimension, which are all kept in memory and in each trial's record.
_MAX_OPTIONS = 10_000


@dataclass(frozen=True)
class SearchSpace:
    """What is searched, and what all points have besides.

    Attributes:
        dimensions: what is searched.
        fixed: parameters with one value.
    """

    dimensions: Sequence[Dimension]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, definition: SweepDefinition, origin: str) -> SearchSpace:
        """The space of a definition that was read with ``intervals=True``.

        Raises:
            SettingsError: it is a union of several spaces, or one that nothing can be drawn from.
        """
        if len(definition.blocks) > 1:
            message = (
                f"{origin}: a study searches one space, and this is a union of "
                f"{len(definition.blocks)}: use method=grid, or a custom_search_space"
            )
            allowed = "one mapping of parameters"
            raise SettingsError("params", "a union", origin, allowed, message=message)
        dimensions: list[Dimension] = []
        fixed: dict[str, Any] = {}
        notes: list[str] = []
        for axis in definition.blocks[0] if definition.blocks else ():
            found = _dimension(axis, origin, notes)
            if isinstance(found, dict):
                fixed.update(found)
            else:
                dimensions.append(found)
        return cls(dimensions, fixed, notes)

    @property
    def keys(self) -> list[str]:
        """All parameters that it sets."""
        return [*(key for each in self.dimensions for key in each.keys), *self.fixed]

    @property
    def count(self) -> int | None:
        """How many different points it has; None if there are intervals."""
        counts = [each.count for each in self.dimensions]
        return None if None in counts else math.prod(count for count in counts if count)

    def texts(self) -> dict[str, str]:
        """What each parameter may be, for a record and to compare two spaces."""
        texts = {each.name: each.text for each in self.dimensions}
        return {**texts, **{key: encode(value) for key, value in self.fixed.items()}}

    def check(self, point: Mapping[str, Any], origin: str, *, takes_more: bool = False) -> None:
        """Check that a point, or a part of one, lies in this space.

        Args:
            point: its keys are spelt as here.
            origin: where it was written, for messages.
            takes_more: whether there may be other parameters.

        Raises:
            SettingsError: a value of it does not.
        """
        fitting = self.raws(point)
        settled = {key for each in self.dimensions if each.name in fitting for key in each.keys}
        texts = self.texts()
        known = {key: each.text for each in self.dimensions for key in each.keys}
        for key, value in point.items():
            if key in settled or (takes_more and key not in self.keys):
                continue
            if key in self.fixed and identity({key: value}) == identity({key: self.fixed[key]}):
                continue
            text = known.get(key, texts.get(key))
            why = f"{key} is {text}" if text else f"there are {', '.join(self.keys) or 'none'}"
            message = f"{origin}: cannot run {key}={shown(value)}: it is not in the space; {why}"
            raise SettingsError(key, value, origin, "in the space", message=message)

    def aligned(self, point: Mapping[str, Any], more: Iterable[str] = ()) -> dict[str, Any]:
        """A point whose keys are spelt as here: ``+x`` where the space has that, and dotted.

        Args:
            point: may have ``x`` for ``+x``, and mappings for parameters below them.
            more: other keys that there are.
        """
        spelt = {plain_key(key): key for key in (*self.keys, *more)}
        flat: dict[str, Any] = {}

        def take(prefix: str, values: Mapping[str, Any]) -> None:
            for key, value in values.items():
                name = plain_key(f"{prefix}{key}")
                if isinstance(value, Mapping) and value and name not in spelt:
                    take(f"{name}.", value)
                else:
                    flat[spelt.get(name, f"{prefix}{key}")] = value

        take("", point)
        return flat

    def params(self, raws: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a point with these raw values, by the dimensions' names."""
        point: dict[str, Any] = {}
        for each in self.dimensions:
            point.update(each.params(raws[each.name]))
        return {**point, **json.loads(json.dumps(self.fixed))}

    def raws(self, point: Mapping[str, Any]) -> dict[str, Raw]:
        """The raw values that a point has; without those of dimensions where it does not fit."""
        found = {each.name: each.raw(point) for each in self.dimensions}
        return {name: raw[0] for name, raw in found.items() if raw is not None}


def _dimension(axis: Axis, origin: str, notes: list[str]) -> Dimension | dict[str, Any]:
    """The dimension of an axis; what it sets, if it has one value."""
    if isinstance(axis, Zipped) and len(axis.columns) == 1:
        [(key, values)] = axis.columns.items()
        if isinstance(values, Interval):
            return _interval(key, values, origin)
        if axis.count > 1:
            number = _range(key, values, origin, notes)
            if number is not None:
                return number
            values = _in_order(values)
            return _options(key, [key], [{key: values[at]} for at in _indices(axis, origin)])
    elif isinstance(axis, Zipped):
        _check_columns(axis, origin)
    if axis.count == 1:
        return axis.point(0)
    keys = [key for key in axis.all_keys() if key != NEEDS] or list(axis.all_keys())
    columns = (
        {key: _in_order(values) for key, values in axis.columns.items()}
        if isinstance(axis, Zipped)
        else None
    )
    rows = [
        axis.point(at) if columns is None else {key: it[at] for key, it in columns.items()}
        for at in _indices(axis, origin)
    ]
    return _options(axis.name or ",".join(keys), list(axis.all_keys()), rows)


def _options(
    name: str, keys: Sequence[str], points: Sequence[dict[str, Any]]
) -> Dimension | dict[str, Any]:
    """Options, each once."""
    once: dict[str, dict[str, Any]] = {}
    for point in points:
        once.setdefault(identity(point), point)
    different = list(once.values())
    return different[0] if len(different) == 1 else Options(name, keys, different)


def _indices(axis: Axis, origin: str) -> range:
    if axis.count > _MAX_OPTIONS:
        name = ", ".join(axis.all_keys())
        message = (
            f"{origin}: {name} has {axis.count} separate values, and a study takes up to "
            f"{_MAX_OPTIONS}: write range(…) or interval(…), without shuffle and casts"
        )
        allowed = f"up to {_MAX_OPTIONS} values"
        raise SettingsError(name, axis.count, origin, allowed, message=message)
    return range(axis.count)


def _in_order(values: Values) -> Values:
    """The values as they were before they were shuffled: a study needs the same order each time."""
    while isinstance(values, Shuffled | Reordered | LogSpaced):
        values = values.values
    return values


def _check_columns(axis: Zipped, origin: str) -> None:
    for key, values in axis.columns.items():
        if isinstance(values, Interval):
            message = f"{origin}: cannot zip {key}: an interval has no list of values"
            allowed = "values that can be listed"
            raise SettingsError(key, values.text, origin, allowed, message=message)


def _interval(key: str, values: Interval, origin: str) -> Dimension | dict[str, Any]:
    if values.problem:
        message = f"{origin}: cannot draw {key} from {values.text}: {values.problem}"
        allowed = "something to draw from"
        raise SettingsError(key, values.text, origin, allowed, message=message)
    cast = int if values.is_int else float
    low, high = cast(values.start), cast(values.stop)
    if low == high:
        return {key: low}
    return Number(key, low, high, values.is_int, values.is_log, written=values.text)


def _range(key: str, values: Values, origin: str, notes: list[str]) -> Number | None:
    """The number that a range is; None if its values are not evenly spaced numbers."""
    is_log = isinstance(values, LogSpaced)
    if isinstance(values, LogSpaced):
        if values.problem:
            message = f"{origin}: cannot draw {key} from its range: {values.problem}"
            raise SettingsError(key, "a range", origin, "something to draw from", message=message)
        values = values.values
    if not isinstance(values, Stepped) or values.casts:
        return None
    low, high = sorted((values[0], values[values.count - 1]))
    step = abs(values.step) if values.scale is None else abs(values.step) / values.scale
    if is_log and step != 1:
        notes.append(f"{key}: tag(log, …) is not for a range with steps: all are as likely")
        is_log = False
    if values.scale is None:
        if values.step not in (1, -1):
            return Number(key, low, high, True, False, step, steps=values)
        return Number(key, low, high, True, is_log)
    if not _is_resolved(low, high, step):
        return None
    return Number(key, low, high, False, False, step, steps=values)


def _is_resolved(low: float, high: float, step: float) -> bool:
    """Whether floats can tell the steps apart well enough to count them."""
    return step > 1e4 * max(math.ulp(low), math.ulp(high))
