"""By what the jobs of a sweep are ranked: what its launcher recorded, or what somebody asks for.

a study       chosen: {method: optuna, metric: loss, direction: maximize}, or a list of each;
without a direction it minimizes
other sweeps  settings: {metric: loss, direction: minimize}, of which either may be missing
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, NamedTuple

from hsm.core.errors import SettingsError
from hsm.core.settings.resolve import SETTINGS, Direction

_CONSTRAINT = re.compile(r"\s*(\S.*?)\s*(<=|>=)\s*(\S+)\s*")
#: The name of what jobs return, and so of what a study is told if it gives that no name.
VALUE = "value"


class Constraint(NamedTuple):
    """A condition on what jobs measure: ``memory <= 8``.

    Attributes:
        name: the metric.
        is_upper: whether `bound` is the most that is allowed, and not the least.
        bound: the bound, which is allowed itself.
    """

    name: str
    is_upper: bool
    bound: float

    def __str__(self) -> str:
        return f"{self.name} {'<=' if self.is_upper else '>='} {self.bound!r}"

    @classmethod
    def recorded(cls, text: object) -> Constraint | None:
        """The constraint in a record; None if there is none."""
        match = _CONSTRAINT.fullmatch(text) if isinstance(text, str) else None
        try:
            return cls(match[1], match[2] == "<=", float(match[3])) if match else None
        except ValueError:
            return None

    def violation(self, value: float) -> float:
        """How far a value is beyond the bound; 0 or less if it is kept."""
        return value - self.bound if self.is_upper else self.bound - value

    def is_broken_by(self, value: float) -> bool:
        """Whether a value is beyond the bound, which is allowed itself."""
        return value > self.bound if self.is_upper else value < self.bound


class Objective(NamedTuple):
    """One of a study's several objectives: its metric, or its place, and which end is best."""

    name: str
    direction: Direction


@dataclass(frozen=True)
class Goal:
    """By what jobs are ranked.

    Attributes:
        metric: the metric's name; None for the one that there is.
        direction: which end is best; None if nobody said.
        several: the objectives, if there are several: then no single job is best, and `metric` and
            `direction` are None.
        is_told: whether the sweep is a study, which is told how good its trials are.
        constraints: what its trials must keep to; one that does not is not ranked.
    """

    metric: str | None = None
    direction: Direction | None = None
    several: tuple[Objective, ...] = ()
    is_told: bool = False
    constraints: tuple[Constraint, ...] = ()

    @classmethod
    def recorded(cls, facts: Mapping[str, Any]) -> Goal:
        """The goal in what a launcher recorded about itself; what makes no sense is left out."""
        chosen, settings = facts.get("chosen"), facts.get("settings")
        chosen = chosen if isinstance(chosen, Mapping) else {}
        settings = settings if isinstance(settings, Mapping) else {}
        names = [_checked("metric", each) for each in _listed(chosen.get("metric"))]
        ends = [_checked("direction", each) for each in _listed(chosen.get("direction"))]
        found = map(Constraint.recorded, _listed(chosen.get("constraints")))
        limits = tuple(each for each in found if each is not None)
        if len(ends) > 1 and None not in ends:
            pairs = enumerate(zip_longest(names[: len(ends)], ends))
            several = (Objective(name or str(at), end) for at, (name, end) in pairs)
            return cls(several=tuple(several), is_told=True, constraints=limits)
        metric = names[0] if len(names) == 1 else None
        is_told = is_study(chosen)
        direction = ends[0] if len(ends) == 1 else None
        if direction is None and not is_told:
            direction = _checked("direction", settings.get("direction"))
        elif direction is None:
            direction = Direction.minimize
        metric = metric or _checked("metric", settings.get("metric"))
        return cls(metric, direction, is_told=is_told, constraints=limits)

    def given(self, settings: Mapping[str, Any]) -> Goal:
        """This goal, with those of `settings` that are not None in place of its own."""
        metric, direction = settings.get("metric"), settings.get("direction")
        if metric is None and direction is None:
            return self
        if self.several:
            own = next((end for name, end in self.several if name == metric), None)
            return replace(self, metric=metric, direction=direction or own, several=())
        return replace(self, metric=metric or self.metric, direction=direction or self.direction)

    @property
    def names(self) -> tuple[str, ...]:
        """What the objectives are called that a study is told of."""
        if self.several:
            return tuple(each.name for each in self.several)
        return (self.metric or VALUE,)


def is_study(chosen: Mapping[str, Any]) -> bool:
    """Whether points that were chosen like this are told how good they were: Optuna's, a class's.

    Any study has a space on record.
    """
    method = chosen.get("method")
    return "space" in chosen or (isinstance(method, str) and (method == "optuna" or "." in method))


def _listed(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _checked(name: str, value: object) -> Any:
    try:
        return SETTINGS[name].check(value, "journal")
    except SettingsError:
        return None
