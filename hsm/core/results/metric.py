"""Looks up one metric in the rows of a table of results, and ranks the completed jobs by it.

    --metric loss    for each job, the first of these that is there:
                     "loss" of a dict that it returned, of its results.json, of its metrics.json;
                     the last "loss" that it reported
    --metric value   what the job returned; then the same places
    no metric        what jobs returned, if any returned a number; else the one number they returned
                     in dicts; else the one they wrote into files; else the one they reported. Of
                     several, the one that is not the same in all jobs; if more than one varies,
                     nothing is ranked.

What a study was told of a job comes before all of these, under the name of the study's metric.

A key of a nested object is dotted: val.loss. Only finite numbers count: true, NaN and texts do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hsm.core.errors import did_you_mean, shown
from hsm.core.record.job import JobState
from hsm.core.results.goal import VALUE, Goal
from hsm.core.results.pareto import Front
from hsm.core.results.trial import MEAN, Trial
from hsm.core.settings.resolve import Direction

Row = dict[str, Any]
Number = int | float

#: Name of a column -> the place that it comes from (told, returned, results, metrics or reported),
#: and the key there.
Origins = Mapping[str, tuple[str, str]]

#: The returned value itself has the key `VALUE`, those of a returned dict are below it.
_RETURNED = "returned"
_FILES = ("results", "metrics")
_REPORTED = "reported"
#: What a study was told.
TOLD = "told"
_MAX_NAMED = 8


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
        how: by what of their jobs trials are ranked: the mean, the median or the worst value.
        infeasible: the numbers of the jobs that break a constraint, which are not ranked.
        front: of several objectives, the trials that are on the Pareto front; nothing is ranked.
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
    how: str = MEAN
    infeasible: frozenset[int] = frozenset()
    front: Front | None = None

    @property
    def missing(self) -> int:
        """How many completed jobs have no number for the metric; 0 if trials are ranked."""
        if self.trials or self.left_out:
            return 0
        return self.completed - len(self.rows) - len(self.infeasible)

    @property
    def problem(self) -> str:
        """Why nothing is ranked, in one line; empty if something is."""
        if self.rows:
            return ""
        if not self.completed:
            return "no job has completed"
        if self.goal.several:
            return f"there are {len(self.goal.several)} objectives: {_some(self.goal.names)}"
        if self.left_out:
            return f"no trial has {shown(self.metric)} of half of its jobs"
        if len(self.infeasible) == self.completed:
            return "no completed job keeps to the constraints"
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
    infeasible = table.infeasible(goal)
    limits = [table.columns(constraint.name) for constraint in goal.constraints]
    lacks = not all(_has(row, columns) for columns in limits for row in completed)
    ranking = Ranking(goal, completed=len(completed), needs_files=lacks, infeasible=infeasible)
    if goal.several:
        return replace(ranking, known=goal.names)
    names = [goal.metric] if goal.metric is not None else table.default()
    columns = table.columns(names[0]) if len(names) == 1 else []
    found = [
        (row, value)
        for row in completed
        if (value := _value(row, columns)) is not None and row.get("job") not in infeasible
    ]
    if not found:
        known = names if len(names) > 1 else table.names(_RETURNED, *_FILES, _REPORTED)
        needs_files = lacks or (len(names) < 2 and bool(completed))
        return replace(ranking, known=known, needs_files=needs_files)
    found.sort(key=lambda each: each[1], reverse=goal.direction is not Direction.minimize)
    has_all = goal.metric is None or all(_has(row, columns) for row in completed)
    return replace(
        ranking,
        metric=names[0],
        rows=[row for row, _ in found],
        values=[value for _, value in found],
        needs_files=lacks or not has_all,
    )


def infeasible_jobs(rows: Iterable[Row], origins: Origins, goal: Goal) -> frozenset[int]:
    """The numbers of the completed jobs of a table that break a constraint."""
    completed = [row for row in rows if row["state"] == JobState.COMPLETED]
    return _Table(completed, origins).infeasible(goal)


class _Table:
    """The completed jobs, and where their metrics are."""

    def __init__(self, rows: Sequence[Row], origins: Origins) -> None:
        self._rows = rows
        self._origins = origins
        self._columns = {origin: column for column, origin in origins.items()}

    def columns(self, metric: str) -> list[str]:
        """The columns that may hold a metric, in the order in which they are looked at."""
        places = [(TOLD, metric), (_RETURNED, metric), (_RETURNED, f"{VALUE}.{metric}")]
        places += [(group, metric) for group in (*_FILES, _REPORTED)]
        columns = [self._columns[place] for place in places if place in self._columns]
        if metric in self._origins and metric not in columns:
            columns.append(metric)  # named as the table names it
        return columns

    def infeasible(self, goal: Goal) -> frozenset[int]:
        """The numbers of the jobs that break a constraint."""
        found: set[int] = set()
        for constraint in goal.constraints:
            columns = self.columns(constraint.name)
            for row in self._rows:
                value = _value(row, columns)
                if value is not None and constraint.is_broken_by(value) and "job" in row:
                    found.add(row["job"])
        return frozenset(found)

    def names(self, *groups: str) -> list[str]:
        """The metrics from these places that are a number in some job."""
        names: dict[str, None] = {}
        for group, key in self._origins.values():
            if group in groups:
                name = key.removeprefix(f"{VALUE}.") if group == _RETURNED else key
                names.setdefault(name)
        return [name for name in names if self._values(name)]

    def default(self) -> list[str]:
        """The metric where none is named: one, or several that it may be, or none."""
        if (TOLD, VALUE) in self._columns:
            return [VALUE]
        returned = self._columns.get((_RETURNED, VALUE))
        if returned and any(_number(row[returned]) is not None for row in self._rows):
            return [VALUE]
        names = self.names(_RETURNED) or self.names(*_FILES) or self.names(_REPORTED)
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
