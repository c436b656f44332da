"""Looks up one metric in the rows of a table of results, and ranks the completed jobs by it.

    --metric loss    for each job, the first of these that is there:
                     "loss" of a dict that it returned, of its results.json, of its metrics.json
    --metric value   what the job returned; then the same places
    no metric        what jobs returned, if any returned a number; else the one number they returned
                     in dicts; else the one they wrote into files. Of several, the one that is not
                     the same in all jobs; if more than one varies, nothing is ranked.

A key of a nested object is dotted: val.loss. Only finite numbers count: true, NaN and texts do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hsm.core.errors import SettingsError, did_you_mean, shown
from hsm.core.record.job import JobState
from hsm.core.results.trial import Trial
from hsm.core.settings.resolve import SETTINGS, Direction

Row = dict[str, Any]
Number = int | float

#: Name of a column -> the place that it comes from (returned, results, metrics), and the key there.
Origins = Mapping[str, tuple[str, str]]

#: The key of the returned value itself; those of a returned dict are below it.
_VALUE = "value"
_RETURNED = "returned"
_FILES = ("results", "metrics")
_MAX_NAMED = 8


@dataclass(frozen=True)
class Goal:
    """By what jobs are ranked.

    Attributes:
        metric: the metric's name; None for the one that there is.
        direction: which end is best; None if nobody said.
    """

    metric: str | None = None
    direction: Direction | None = None

    @classmethod
    def recorded(cls, facts: Mapping[str, Any]) -> Goal:
        """The goal in what a launcher recorded about itself; what makes no sense is left out."""
        settings = facts.get("settings") or {}
        known: dict[str, Any] = {}
        for name in ("metric", "direction"):
            try:
                known[name] = SETTINGS[name].check(settings.get(name), "journal")
            except SettingsError:
                continue
        return cls(**known)

    def given(self, settings: Mapping[str, Any]) -> Goal:
        """This goal, with those of `settings` that are not None in place of its own."""
        metric, direction = settings.get("metric"), settings.get("direction")
        return Goal(metric or self.metric, direction or self.direction)


@dataclass(frozen=True)
class Ranking:
    """Completed jobs ranked by a metric; or trials, see `hsm.core.results.repeats`.

    Attributes:
        goal: what was asked for.
        metric: the metric; None if nothing is ranked.
        rows: the jobs that have it: the best first, or without a direction the highest.
        values: their values.
        completed: how many jobs completed.
        known: the metrics that there are, if what was asked for is none of them.
        needs_files: whether what jobs wrote could change this.
        trials: the trials, if these are ranked and not single jobs; a row and a value is then of
            each of these.
        left_out: how many trials are not ranked since too few of their jobs have the metric.
    """

    goal: Goal
    metric: str | None = None
    rows: Sequence[Row] = ()
    values: Sequence[Number] = ()
    completed: int = 0
    known: Sequence[str] = field(default=())
    needs_files: bool = False
    trials: Sequence[Trial] = ()
    left_out: int = 0

    @property
    def missing(self) -> int:
        """How many completed jobs have no number for the metric; 0 if trials are ranked."""
        return 0 if self.trials or self.left_out else self.completed - len(self.rows)

    @property
    def problem(self) -> str:
        """Why nothing is ranked, in one line; empty if something is."""
        if self.rows:
            return ""
        if not self.completed:
            return "no job has completed"
        if self.left_out:
            return f"no trial has {shown(self.metric)} of half of its jobs"
        if self.goal.metric is None:
            if not self.known:
                return "no completed job returned or wrote a number"
            return f"there are several metrics: {_some(self.known)}"
        hint = did_you_mean(self.goal.metric, self.known)
        asked = f"{shown(self.goal.metric)} ({hint})" if hint else shown(self.goal.metric)
        others = f"there are: {_some(self.known)}" if self.known else "there is none at all"
        return f"no completed job has a number for {asked}; {others}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def rank(rows: Iterable[Row], origins: Origins, goal: Goal) -> Ranking:
    """Rank the completed jobs of a table.

    Args:
        rows: the jobs' rows; each has the column state.
        origins: where the columns that hold metrics come from.
        goal: the metric and the direction.
    """
    completed = [row for row in rows if row["state"] == JobState.COMPLETED]
    table = _Table(completed, origins)
    names = [goal.metric] if goal.metric is not None else table.default()
    columns = table.columns(names[0]) if len(names) == 1 else []
    found = [(row, value) for row in completed if (value := _value(row, columns)) is not None]
    if not found:
        known = names if len(names) > 1 else table.names(_RETURNED, *_FILES)
        needs_files = len(names) < 2 and bool(completed)
        return Ranking(goal, completed=len(completed), known=known, needs_files=needs_files)
    found.sort(key=lambda each: each[1], reverse=goal.direction is not Direction.minimize)
    return Ranking(
        goal,
        names[0],
        [row for row, _ in found],
        [value for _, value in found],
        len(completed),
        needs_files=goal.metric is not None and not all(_has(row, columns) for row in completed),
    )


class _Table:
    """The completed jobs, and where their metrics are."""

    def __init__(self, rows: Sequence[Row], origins: Origins) -> None:
        self._rows = rows
        self._origins = origins
        self._columns = {origin: column for column, origin in origins.items()}

    def columns(self, metric: str) -> list[str]:
        """The columns that may hold a metric, in the order in which they are looked at."""
        places = [(_RETURNED, metric), (_RETURNED, f"{_VALUE}.{metric}")]
        places += [(group, metric) for group in _FILES]
        columns = [self._columns[place] for place in places if place in self._columns]
        if metric in self._origins and metric not in columns:
            columns.append(metric)  # named as the table names it
        return columns

    def names(self, *groups: str) -> list[str]:
        """The metrics from these places that are a number in some job."""
        names: dict[str, None] = {}
        for group, key in self._origins.values():
            if group in groups:
                name = key.removeprefix(f"{_VALUE}.") if group == _RETURNED else key
                names.setdefault(name)
        return [name for name in names if self._values(name)]

    def default(self) -> list[str]:
        """The metric where none is named: one, or several that it may be, or none."""
        returned = self._columns.get((_RETURNED, _VALUE))
        if returned and any(_number(row[returned]) is not None for row in self._rows):
            return [_VALUE]
        names = self.names(_RETURNED) or self.names(*_FILES)
        if len(names) < 2:
            return names
        varying = [name for name in names if len(set(self._values(name))) > 1]
        return varying or names

    def _values(self, name: str) -> list[Number]:
        columns = self.columns(name)
        return [value for row in self._rows if (value := _value(row, columns)) is not None]


def _value(row: Row, columns: Sequence[str]) -> Number | None:
    """The number in the first of these columns that holds anything."""
    for column in columns:
        if row[column] is not None:
            return _number(row[column])
    return None


def _has(row: Row, columns: Sequence[str]) -> bool:
    return any(row[column] is not None for column in columns)


def _number(value: object) -> Number | None:
    if type(value) not in (int, float):
        return None
    assert isinstance(value, int | float)
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an integer beyond all floats
        return None
