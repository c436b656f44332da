"""A trial: the jobs that repeat one point, as one value."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """The repeats of one point.

    Attributes:
        jobs: their numbers, of those that have a value.
        mean: the mean of their values.
        deviation: the standard deviation of a sample; None of fewer than two.
    """

    jobs: tuple[int, ...]
    mean: float
    deviation: float | None

    @classmethod
    def of(cls, jobs: list[int], values: list[float]) -> Trial:
        """The trial of these jobs, which have these values."""
        if len(values) == 1:
            return cls(tuple(jobs), values[0], None)
        mean = math.fsum(values) / len(values)
        variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
        return cls(tuple(jobs), mean, math.sqrt(variance))
