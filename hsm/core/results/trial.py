"""A trial: the jobs that repeat one point, as one value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hsm.core.settings.resolve import Direction

#: How the values of a trial's jobs become one.
MEAN, MEDIAN, WORST = REPEAT_AS = ("mean", "median", "worst")


@dataclass(frozen=True)
class Trial:
    """The repeats of one point.

    Attributes:
        jobs: their numbers, of those that have a value.
        mean: the mean of their values.
        deviation: the standard deviation of a sample; None of fewer than two.
        value: what the trial is ranked by: the mean, the median or the worst of them.
        how: which of these it is.
    """

    jobs: tuple[int, ...]
    mean: float
    deviation: float | None
    value: float
    how: str = MEAN

    @classmethod
    def of(
        cls,
        jobs: Sequence[int],
        values: Sequence[float],
        how: str = MEAN,
        direction: Direction | None = None,
    ) -> Trial:
        """The trial of these jobs, which have these values.

        Args:
            jobs: their numbers.
            values: their values, in the same order.
            how: one of `REPEAT_AS`.
            direction: which end is best; what is worst is the mean if nobody knows.
        """
        value = combined(values, how, direction)
        if len(values) == 1:
            return cls(tuple(jobs), value, None, value, how)
        mean = combined(values)
        variance = math.fsum((each - mean) ** 2 for each in values) / (len(values) - 1)
        return cls(tuple(jobs), mean, math.sqrt(variance), value, how)


def combined(values: Sequence[float], how: str = MEAN, direction: Direction | None = None) -> float:
    """The values of a trial's jobs, at least one, as one: see `Trial.of`."""
    if len(values) == 1:
        return values[0]
    if how == MEDIAN:
        from statistics import median  # slow to import, and few sweeps ask for it

        return median(values)
    if how == WORST and direction is not None:
        return max(values) if direction is Direction.minimize else min(values)
    return math.fsum(values) / len(values)
