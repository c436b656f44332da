"""The points of a sweep: those of its definition that were chosen, in their order.

    SweepDefinition + Choosing --> Selection: point, point, …

    grid:    all points [--shuffle--> in a random order] --filter--> --max_runs--> --repeat--> jobs
    others:  drawn points                                --filter--> --max_runs--> --repeat--> jobs

All is computed point by point, by index: a sweep of a billion points begins at once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from math import prod
from typing import Any

from hsm.core.errors import SettingsError
from hsm.core.needs import NEEDS
from hsm.core.space import chance
from hsm.core.space.axes import Axis, Reordered, Shuffled, Zipped
from hsm.core.space.choosing import Choosing, Method
from hsm.core.space.condition import Filter
from hsm.core.space.definition import SweepDefinition
from hsm.core.space.designs import Design, make_design
from hsm.core.space.domains import Interval, draw, drawn_column, is_interval, varies
from hsm.core.space.grammar import plain_key
from hsm.core.space.permutation import Permutation

#: Points that are looked at to count those that a filter keeps.
_MAX_FILTERED = 10_000


class Selection:
    """The jobs' parameters, one job after another; can be iterated any number of times.

    Args:
        definition: all points that there are.
        choosing: which of them.
        origin: where both were written, for messages.

    Attributes:
        definition: as given.
        choosing: as given, with the seed that was drawn if there was none.
        drew_seed: whether one was drawn.

    Raises:
        SettingsError: the method cannot draw from this space, a parameter is both in the points and
            repeated, the filter is wrong or keeps nothing, or a package is missing.
    """

    def __init__(
        self,
        definition: SweepDefinition,
        choosing: Choosing | None = None,
        *,
        origin: str = "command line",
    ) -> None:
        choosing = choosing or Choosing()
        self.drew_seed = choosing.is_random and choosing.seed is None
        if self.drew_seed:
            choosing = choosing.with_seed(chance.new_seed())
        self.definition, self.choosing, self._origin = definition, choosing, origin
        self._space = self._seeded() if choosing.is_random else definition
        self._check_repeat()
        self._check_intervals()
        self._design = None if choosing.method is Method.grid else self._make_design()
        self._filter: Filter | None = None
        if choosing.filter:
            self._filter = Filter(choosing.filter, definition.all_keys(), origin)
            if self.count() == 0:
                message = f"{origin}: the filter {choosing.filter!r} keeps none of the points"
                allowed = "one that keeps a point"
                raise SettingsError("filter", choosing.filter, origin, allowed, message=message)

    @property
    def seed(self) -> int | None:
        """The seed that was given or drawn; None if nothing is random."""
        return self.choosing.seed if self.choosing.is_random else None

    @cached_property
    def repeats(self) -> int:
        """Jobs of each point."""
        return prod(len(values) for values in self.choosing.repeat.values())

    def with_seed(self, seed: int) -> Selection:
        """The same points, chosen with another seed."""
        return Selection(self.definition, self.choosing.with_seed(seed), origin=self._origin)

    def _seeded(self) -> SweepDefinition:
        """The space with each ``shuffle(…)`` in an order of the seed.

        Hydra's order is a new one in each process, so a resume would choose other points.
        """
        blocks = [
            [self._seeded_axis(axis, number, at) for at, axis in enumerate(block)]
            for number, block in enumerate(self.definition.blocks)
        ]
        return SweepDefinition(blocks)

    def _seeded_axis(self, axis: Axis, *place: int) -> Axis:
        if not isinstance(axis, Zipped):
            return axis
        columns = dict(axis.columns)
        for key, values in axis.columns.items():
            if isinstance(values, Shuffled):
                order = Permutation(values.count, self.seed, "values", *place, key)
                columns[key] = Reordered(values.values, order)
        return Zipped(columns, axis.name)

    # --- the points ---

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self.choosing.repeat:
            yield from self.points()
            return
        for point in self.points():
            for index in range(self.repeats):
                yield {**copy.deepcopy(point), **self._repeat(index)}

    def points(self) -> Iterator[dict[str, Any]]:
        """The chosen points, before they are repeated."""
        found = self._in_order()
        if self._filter is not None:
            found = filter(self._filter.keeps, found)
        return islice(found, self.choosing.max_runs)

    def _in_order(self) -> Iterator[dict[str, Any]]:
        """All points, before they are filtered."""
        if self._design is not None:
            return map(self._drawn, _numbers(self._total()))
        if self.choosing.shuffle:
            order = Permutation(self._total(), self.seed, "shuffle")
            return (self._space.point(order[index]) for index in _numbers(order.count))
        return iter(self._space)

    def _total(self) -> int:
        """How many points there are before they are filtered."""
        return self.choosing.n_trials or self.definition.count()

    def _repeat(self, index: int) -> dict[str, Any]:
        """What the repeat at `index` of each point sets; the last parameter changes fastest."""
        part: list[tuple[str, Any]] = []
        for key, values in reversed(list(self.choosing.repeat.items())):
            index, digit = divmod(index, len(values))
            part.append((key, copy.deepcopy(values[digit])))
        return dict(reversed(part))

    def count(self) -> int | None:
        """Count the jobs; None if that takes looking at very many points, since they are filtered.

        Raises:
            SettingsError: the filter cannot tell of a point.
        """
        points = self._count_points()
        return None if points is None else points * self.repeats

    def _count_points(self) -> int | None:
        total, most = self._total(), self.choosing.max_runs
        if self._filter is None:
            return total if most is None else min(total, most)
        return self._kept

    @cached_property
    def _kept(self) -> int | None:
        """How many points the filter keeps; None if the first ones do not tell."""
        assert self._filter is not None
        most, kept = self.choosing.max_runs, 0
        for point in islice(self._in_order(), _MAX_FILTERED):
            kept += self._filter.keeps(point)
            if kept == most:
                return kept
        return kept if self._total() <= _MAX_FILTERED else None

    def keeps(self, point: Mapping[str, Any]) -> bool:
        """Whether the filter, if there is one, keeps a point.

        Raises:
            SettingsError: the filter cannot tell.
        """
        return self._filter is None or self._filter.keeps(point)

    # --- what is known of all of them ---

    def all_keys(self) -> list[str]:
        """All parameters that at least one job has, in order."""
        return [*self.definition.all_keys(), *self.choosing.repeat]

    def shared_keys(self) -> list[str]:
        """The parameters that all jobs have, in order; a command may use these as ``{key}``."""
        return [*self.definition.shared_keys(), *self.choosing.repeat]

    def values_of(self, key: str, most: int) -> list[Any]:
        """Some values of a parameter, see `SweepDefinition.values_of`."""
        if key in self.choosing.repeat:
            return list(self.choosing.repeat[key][:most])
        return self.definition.values_of(key, most)

    # --- methods that draw ---

    def _axes(self) -> Sequence[Axis]:
        """The axes of the one space that there is to draw from."""
        (axes,) = self._space.blocks
        return axes

    def _drawn(self, index: int) -> dict[str, Any]:
        assert self._design is not None
        chances = iter(self._design.vector(index))
        point: dict[str, Any] = {}
        for axis in self._axes():
            point.update(draw(axis, next(chances) if varies(axis) else 0.0))
        return point

    def _make_design(self) -> Design:
        choosing, origin = self.choosing, self._origin
        if len(self.definition.blocks) != 1:
            message = (
                f"{origin}: method={choosing.method} draws from one space, and this is a union of "
                f"{len(self.definition.blocks)}: use method=grid with shuffle and max_runs"
            )
            allowed = "one mapping of parameters"
            raise SettingsError("method", choosing.method, origin, allowed, message=message)
        for axis in self._axes():
            column = drawn_column(axis)
            if column is not None and column[1].problem:
                key, values = column
                text = (values.text if isinstance(values, Interval) else "") or "its range"
                message = f"{origin}: cannot draw {key} from {text}: {column[1].problem}"
                raise SettingsError(key, text, origin, "something to draw from", message=message)
        assert choosing.n_trials is not None
        assert choosing.seed is not None
        axes = sum(map(varies, self._axes())) or 1
        return make_design(choosing.method, axes, choosing.n_trials, choosing.seed, origin)

    # --- checks ---

    def _check_intervals(self) -> None:
        """Refuse intervals where every value would have to be listed."""
        draws = self.choosing.method is not Method.grid
        for block in self.definition.blocks:
            for axis in block:
                columns: Mapping[str, Any] = axis.columns if isinstance(axis, Zipped) else {}
                found = [key for key, values in columns.items() if is_interval(values)]
                if not found or (draws and len(columns) == 1):
                    continue
                key = found[0]
                text = columns[key].text or f"{key}=interval(…)"
                if draws:
                    why = "values that advance together must be listed"
                else:
                    why = (
                        f"an interval has no list of values: write {plain_key(key)}=0.1,0.5, or "
                        "draw from it with --method random --n-trials 20"
                    )
                message = f"{self._origin}: cannot sweep over {text!r}: {why}"
                allowed = "values that can be counted"
                raise SettingsError(key, text, self._origin, allowed, why, message=message)

    def _check_repeat(self) -> None:
        taken = {plain_key(key): key for key in self.definition.all_keys()}
        for key in self.choosing.repeat:
            if plain_key(key) in taken or plain_key(key) == NEEDS:
                message = f"{self._origin}: {key} is repeated and a parameter of the points as well"
                if plain_key(key) == NEEDS:
                    message = f"{self._origin}: {NEEDS} is no parameter, and cannot be repeated"
                allowed = "a parameter that no point has"
                raise SettingsError("repeat", key, self._origin, allowed, message=message)


def _numbers(count: int) -> Iterator[int]:
    """The numbers below `count`, which may be more than `range` can iterate over quickly."""
    number = 0
    while number < count:
        yield number
        number += 1
