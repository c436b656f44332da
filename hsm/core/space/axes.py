"""The building blocks of a sweep's points.

    Listed, Stepped, Shuffled, Reordered    values of one parameter, by index
    Zipped, Rows    axes: assignments to parameters, by index; their product is a grid

Points are computed from their index and never listed, so a range of a billion values costs nothing
until one of them is needed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import shuffle
from typing import TYPE_CHECKING, Any, Protocol

from hsm.core.space.grammar import plain_key

if TYPE_CHECKING:
    from decimal import Decimal
    from fractions import Fraction

#: Values; a shuffled order is kept in memory, and 10 million indices take some 400 MB.
MAX_SHUFFLED = 10_000_000
#: Points of an axis; those of a longer one are not compared with each other.
MAX_COMPARED = 1_000_000

#: Message and hint for a value with a dict such as {1: 2}.
STRING_KEYS = "keys of dicts must be strings, as in JSON, in which sweeps are recorded"


class Values(Protocol):
    """The values of one parameter. Has `count`, because `len()` is limited to 2**63."""

    @property
    def count(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@dataclass(frozen=True)
class Listed:
    """Values that are written out."""

    items: Sequence[Any]

    @property
    def count(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        value = self.items[index]
        # Each point gets copies of lists and dicts, so that changing one changes no other.
        return copy.deepcopy(value) if isinstance(value, (list, dict)) else value


@dataclass(frozen=True)
class Stepped:
    """`start`, `start + step`, … as ints; or, with a `scale`, as floats: these ints divided by it.

    Attributes:
        casts: functions applied to each value, in order.
    """

    start: int
    step: int
    count: int
    scale: int | None = None
    casts: tuple[Callable[[Any], Any], ...] = ()

    def __getitem__(self, index: int) -> Any:
        value: Any = self.start + index * self.step
        if self.scale is not None:
            value /= self.scale  # dividing ints rounds only once, to the nearest float
        for cast in self.casts:
            value = cast(value)
        return value


def stepped(
    start: float | Decimal,
    stop: float | Decimal,
    step: float | Decimal,
    casts: tuple[Callable[[Any], Any], ...] = (),
) -> Stepped:
    """Make the values from `start` up (or down) to `stop`, excluding `stop`.

    Fractions are counted in decimal, as they are written and as in Hydra 1.4: 0.6 is followed by
    0.7 rather than 0.7000000000000001, and ``range(0, 0.8, 0.1)`` ends there. (In Hydra 1.3 it
    includes 0.8.)

    Raises:
        ValueError: `step` is 0, or a number is not finite.
    """
    first, end, by = _exact(start), _exact(stop), _exact(step)
    if by == 0:
        raise ValueError("a step of 0 never ends")
    count = max(0, -((first - end) // by))  # rounded up
    scale = math.lcm(first.denominator, by.denominator)
    whole = all(isinstance(number, int) for number in (start, stop, step))
    return Stepped(int(first * scale), int(by * scale), count, None if whole else scale, casts)


def _exact(number: float | Decimal) -> Fraction | int:
    if isinstance(number, int):
        return number
    from decimal import Decimal  # slow to import, and most ranges are of ints
    from fractions import Fraction

    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return Fraction(Decimal(str(number)) if isinstance(number, float) else number)


@dataclass
class Shuffled:
    """Values in a random order, which stays the same as long as this object exists."""

    values: Values
    _order: list[int] = field(default_factory=list, repr=False)

    @property
    def count(self) -> int:
        return self.values.count

    def __getitem__(self, index: int) -> Any:
        if not self._order:
            # Use the global generator like Hydra, so that seeding it gives the same order.
            order = list(range(self.values.count))
            shuffle(order)
            self._order = order
        return self.values[self._order[index]]


@dataclass(frozen=True)
class Reordered:
    """Values in a given order: ``order[index]`` is the index of the value at `index`."""

    values: Values
    order: Values

    @property
    def count(self) -> int:
        return self.values.count

    def __getitem__(self, index: int) -> Any:
        return self.values[self.order[index]]


class Axis(Protocol):
    """Assignments to one or several parameters, by index."""

    @property
    def name(self) -> str: ...

    @property
    def count(self) -> int: ...

    def point(self, index: int) -> dict[str, Any]: ...

    def all_keys(self) -> Collection[str]:
        """All parameters that at least one point sets."""

    def shared_keys(self) -> Collection[str]:
        """The parameters that every point sets."""

    def without(self, plain_keys: Collection[str]) -> Axis | None:
        """Return this axis without those parameters; None if nothing is left.

        Of points that become equal by this, the first is kept.
        """


@dataclass(frozen=True)
class Zipped:
    """Columns of equal length that advance together; an axis of a grid is a single column.

    Attributes:
        columns: the values of each parameter; at least one column, all of the same count.
        name: the name of a paired group; otherwise empty.
    """

    columns: Mapping[str, Values]
    name: str = ""

    @property
    def count(self) -> int:
        return next(iter(self.columns.values())).count

    def point(self, index: int) -> dict[str, Any]:
        return {key: values[index] for key, values in self.columns.items()}

    def all_keys(self) -> Collection[str]:
        return self.columns.keys()

    def shared_keys(self) -> Collection[str]:
        return self.columns.keys()

    def without(self, plain_keys: Collection[str]) -> Zipped | None:
        columns = {key: v for key, v in self.columns.items() if plain_key(key) not in plain_keys}
        if not columns:
            return None
        if len(columns) < len(self.columns) and self.count <= MAX_COMPARED:
            indices = range(self.count)
            before = ([values[at] for values in self.columns.values()] for at in indices)
            after = ([values[at] for values in columns.values()] for at in indices)
            kept = _still_different(before, after)
            if len(kept) < self.count:
                columns = {key: Listed([v[at] for at in kept]) for key, v in columns.items()}
        return Zipped(columns, self.name)


@dataclass(frozen=True)
class Rows:
    """Points that are written out, each with its own keys."""

    rows: Sequence[Mapping[str, Any]]
    name: str = ""

    @property
    def count(self) -> int:
        return len(self.rows)

    def point(self, index: int) -> dict[str, Any]:
        return copy.deepcopy(dict(self.rows[index]))

    def all_keys(self) -> Collection[str]:
        return dict.fromkeys(key for row in self.rows for key in row)

    def shared_keys(self) -> Collection[str]:
        return [key for key in self.rows[0] if all(key in row for row in self.rows)]

    def without(self, plain_keys: Collection[str]) -> Rows | None:
        rows = [
            {k: v for k, v in row.items() if plain_key(k) not in plain_keys} for row in self.rows
        ]
        if not any(rows):
            return None
        return Rows([rows[at] for at in _still_different(self.rows, rows)], self.name)


def _still_different(before: Iterable[Any], after: Iterable[Any]) -> list[int]:
    """Indices of the points to keep after a change: drops points that became equal to earlier ones.

    Points that were equal `before`, because they were written twice, are all kept.
    """
    first: dict[str, str] = {}
    kept = []
    for at, (old, new) in enumerate(zip(before, after, strict=True)):
        old_text = _as_text(old)
        if first.setdefault(_as_text(new), old_text) == old_text:
            kept.append(at)
    return kept


def _as_text(point: Any) -> str:
    """Return a text that is the same for equal points, and tells 1, 1.0 and True apart."""
    return repr(sorted(point.items()) if isinstance(point, Mapping) else point)
