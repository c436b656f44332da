"""The dimensions of a search space: a number, or one of several options.

What proposes points deals in *raw* values: a number, or the raw value of an option; a dimension
makes the parameters of the jobs of them, and the other way round. The two differ where a number has
steps, of which the job gets the exact decimal one, and where an option is a list or several
parameters at once, which have a text as their raw value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeAlias

from hsm.core.plain_json import encode, identity
from hsm.core.space.axes import Stepped

#: What a proposer calls a value of a dimension.
Raw: TypeAlias = "str | int | float | bool | None"


class Dimension(Protocol):
    """One thing that is searched."""

    @property
    def name(self) -> str:
        """What proposers call it: the parameter, or the group of parameters."""

    @property
    def keys(self) -> Sequence[str]:
        """The parameters that it sets."""

    @property
    def text(self) -> str:
        """What it is, in one line; the same for equal dimensions."""

    @property
    def count(self) -> int | None:
        """How many values it has; None for an interval."""

    def params(self, raw: Any) -> dict[str, Any]:
        """The parameters that a raw value stands for."""

    def raw(self, point: Mapping[str, Any]) -> tuple[Raw] | None:
        """The raw value that a point has, in a tuple; None if the dimension has no such value."""


@dataclass(frozen=True)
class Number:
    """A number from `low` to `high`, both of which it may be.

    Attributes:
        key: the parameter.
        low, high: ints if `is_int`, else floats.
        is_int: whether it is whole.
        is_log: whether its logarithm is to be spread evenly.
        step: the distance of one value to the next; None if all are allowed.
        steps: the exact values, where a float has a step.
        written: how it was written, if it was an interval.
    """

    key: str
    low: float
    high: float
    is_int: bool = False
    is_log: bool = False
    step: float | None = None
    steps: Stepped | None = field(default=None, compare=False)
    written: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        return self.key

    @property
    def keys(self) -> Sequence[str]:
        return (self.key,)

    @property
    def text(self) -> str:
        kind = "range" if self.step is not None else "interval"
        ends = f"from {self.low} to {self.high}"
        step = "" if self.step is None else f" by {self.step}"
        return f"{'log ' if self.is_log else ''}{'int ' if self.is_int else ''}{kind} {ends}{step}"

    @property
    def count(self) -> int | None:
        if self.steps is not None:
            return self.steps.count
        return int(self.high - self.low) + 1 if self.is_int else None

    def params(self, raw: Any) -> dict[str, Any]:
        if self.steps is not None:
            return {self.key: self.steps[self._at(float(raw))]}
        return {self.key: int(raw) if self.is_int else float(raw)}

    def _at(self, value: float) -> int:
        assert self.steps is not None
        first: float = self.steps[0]
        last: float = self.steps[self.steps.count - 1]
        at = round((value - first) / (last - first) * (self.steps.count - 1))
        return min(max(at, 0), self.steps.count - 1)

    def raw(self, point: Mapping[str, Any]) -> tuple[Raw] | None:
        value = point.get(self.key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if not math.isfinite(value) or not self.low <= value <= self.high:
            return None
        if self.is_int and not float(value).is_integer():
            return None
        if self.steps is not None:
            exact = self.steps[self._at(float(value))]
            if not math.isclose(exact, value, rel_tol=1e-9, abs_tol=1e-9 * abs(self.step or 1)):
                return None
        return (int(value) if self.is_int else float(value),)


@dataclass(frozen=True)
class Options:
    """One of several options, each of which sets one or several parameters.

    Attributes:
        name: as in `Dimension`.
        keys: likewise.
        points: the options: what each sets.
    """

    name: str
    keys: Sequence[str]
    points: Sequence[Mapping[str, Any]]

    @property
    def text(self) -> str:
        if len(self.keys) == 1:
            return encode([point[self.keys[0]] for point in self.points])
        return encode(self.points)

    @property
    def count(self) -> int | None:
        return len(self.points)

    @cached_property
    def raws(self) -> Sequence[Raw]:
        """The raw value of each option; all of them differ, also as Python compares."""
        if len(self.keys) == 1:
            values = [point[self.keys[0]] for point in self.points]
            raws = [value if _is_scalar(value) else encode(value) for value in values]
            if len(set(raws)) == len(raws):
                return raws
        return [
            encode(point if len(self.keys) > 1 else point[self.keys[0]]) for point in self.points
        ]

    @cached_property
    def _by_raw(self) -> Mapping[Raw, int]:
        return {raw: index for index, raw in enumerate(self.raws)}

    @cached_property
    def _by_identity(self) -> Mapping[str, int]:
        return {identity(point): index for index, point in enumerate(self.points)}

    def params(self, raw: Any) -> dict[str, Any]:
        point = self.points[self._by_raw[raw]]
        copied: dict[str, Any] = json.loads(json.dumps(point))
        return copied

    def raw(self, point: Mapping[str, Any]) -> tuple[Raw] | None:
        part = {key: point[key] for key in self.keys if key in point}
        index = self._by_identity.get(identity(part))
        return None if index is None else (self.raws[index],)


def _is_scalar(value: Any) -> bool:
    """Whether a value can stand for itself: NaN is not equal to itself."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)
