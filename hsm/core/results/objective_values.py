"""What a study was told of a job: a number, or one for each objective; not all need be finite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hsm.core.record.job import JobState
from hsm.core.results.goal import VALUE, Goal


def values_of(recorded: object, count: int = 1) -> tuple[float, ...] | None:
    """The numbers of an objective; None if there are not so many as there should be."""
    listed = recorded if isinstance(recorded, (list, tuple)) else [recorded]
    if len(listed) != count:
        return None
    values = [_number(each) for each in listed]
    return tuple(value for value in values if value is not None) if None not in values else None


def _number(value: object) -> float | None:
    if type(value) in (int, float):
        assert isinstance(value, int | float)
        return value
    return None


def is_finite(value: float) -> bool:
    """Whether a float can hold it."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def values_of_row(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[float, ...] | None:
    """A completed job's values in these columns of a table; None if not all are finite numbers."""
    if row["state"] != JobState.COMPLETED or not columns:
        return None
    values = tuple(row[name] for name in columns)
    if all(type(value) in (int, float) and is_finite(value) for value in values):
        return values
    return None


def why_unranked(recorded: object, goal: Goal) -> str | None:
    """``its metric loss is nan``; None if a completed job's objectives are finite, or not asked.

    Args:
        recorded: what the journal has; None if nothing.
        goal: what the sweep is told, if it is a study.
    """
    if recorded is None and not goal.is_told:
        return None
    values = values_of(recorded, len(goal.names))
    for name, value in zip(goal.names, values or (), strict=False):
        if not is_finite(value):
            return f"its metric{'' if name == VALUE else f' {name}'} is {value}"
    if values is not None:
        return None
    names = ", ".join(name for name in goal.names if name != VALUE)
    return f"it has no metric {names}".rstrip()
