"""What random points are drawn from: intervals, and the values or rows of any other axis.

    interval(0, 1)   int(interval(1, 10))   tag(log, interval(1e-5, 1e-1))   1,2,3   range(1, 100)

A number from 0 on and below 1 is drawn for each axis; `draw` makes a value of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from hsm.core.space.axes import Axis, Values, Zipped

_RESOLUTION = 1 << 53


@dataclass(frozen=True)
class Interval:
    """The numbers from `start` to `stop`; a `Values` of which only the first one can be listed.

    Attributes:
        start, stop: both ends, which belong to it.
        is_int: whether it has whole numbers alone.
        is_log: whether the logarithms of what is drawn are spread evenly.
        text: how it was written, for messages.
    """

    start: float
    stop: float
    is_int: bool = False
    is_log: bool = False
    text: str = field(default="", compare=False)

    @property
    def count(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        if index != 0:
            raise IndexError("an interval has no list of values")
        return int(self.start) if self.is_int else float(self.start)

    @property
    def problem(self) -> str:
        """Why nothing can be drawn from it, in a few words; empty if something can."""
        if not (math.isfinite(self.start) and math.isfinite(self.stop)):
            return "its ends must be finite"
        if self.start > self.stop:
            return "it ends before it starts"
        if self.is_int and not (float(self.start).is_integer() and float(self.stop).is_integer()):
            return "the ends of an interval of whole numbers must be whole numbers"
        if self.is_log and self.start <= 0:
            return "tag(log, …) needs numbers above 0"
        return ""

    def draw(self, chance: float) -> float:
        """The value at `chance`, which is at least 0 and below 1; int if `is_int`."""
        if self.is_int:
            return self._draw_int(chance)
        if not self.is_log:
            # Not start + chance * (stop - start): the difference may be beyond all floats.
            value = self.start * (1 - chance) + self.stop * chance
        else:
            value = _between_logs(self.start, self.stop, chance)
        return min(max(float(value), float(self.start)), float(self.stop))

    def _draw_int(self, chance: float) -> int:
        first, last = int(self.start), int(self.stop)
        if not self.is_log:
            return first + (int(chance * _RESOLUTION) * (last - first + 1) >> 53)
        # Each number has the stretch that is rounded to it.
        return min(max(round(_between_logs(first - 0.5, last + 0.5, chance)), first), last)


def _between_logs(start: float, stop: float, chance: float) -> float:
    low, high = math.log(start), math.log(stop)
    return math.exp(low + chance * (high - low))


@dataclass(frozen=True)
class LogSpaced:
    """Values of a range whose logarithms are to be spread evenly where they are drawn.

    Attributes:
        values: the values, rising or falling.
    """

    values: Values

    @property
    def count(self) -> int:
        return self.values.count

    def __getitem__(self, index: int) -> Any:
        return self.values[index]

    @property
    def problem(self) -> str:
        """As `Interval.problem`."""
        ends = self.values[0], self.values[self.count - 1]
        return "" if min(ends) > 0 else "tag(log, …) needs numbers above 0"

    def draw(self, chance: float) -> Any:
        """As `Interval.draw`: the value that is nearest."""
        first, last = self.values[0], self.values[self.count - 1]
        if self.count == 1:
            return first
        target = _between_logs(first, last, chance)
        nearest = round((target - first) / (last - first) * (self.count - 1))
        return self.values[min(max(nearest, 0), self.count - 1)]


def is_interval(values: Values) -> bool:
    """Whether these cannot be listed."""
    return isinstance(values, Interval)


def drawn_column(axis: Axis) -> tuple[str, Interval | LogSpaced] | None:
    """The key and the values of an axis whose values are not drawn as those of a list are."""
    if isinstance(axis, Zipped) and len(axis.columns) == 1:
        [(key, values)] = axis.columns.items()
        if isinstance(values, Interval | LogSpaced):
            return key, values
    return None


def varies(axis: Axis) -> bool:
    """Whether there is anything to draw, and not just one value."""
    column = drawn_column(axis)
    if column is not None and isinstance(column[1], Interval):
        return column[1].start != column[1].stop
    return axis.count > 1


def draw(axis: Axis, chance: float) -> dict[str, Any]:
    """The part of a point that an axis has at `chance`, which is at least 0 and below 1."""
    column = drawn_column(axis)
    if column is not None:
        key, values = column
        return {key: values.draw(chance)}
    return axis.point(int(chance * _RESOLUTION) * axis.count >> 53)
