"""The Pareto front of several objectives: the trials that no other one beats in every respect.

A trial is on the front if no other is at least as good in all objectives and better in one. Trials
with the same values are on it together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hsm.core.results.goal import Objective

#: Points that are compared at once: each takes as many bits as there are points.
_CHUNK = 4096


@dataclass(frozen=True)
class Front:
    """The Pareto front of a sweep's completed trials, the best by the first objective first.

    Attributes:
        objectives: the objectives.
        rows: for each trial on the front, the row of its first job.
        values: its values.
        jobs: the numbers of its jobs.
        count: how many trials have a number for every objective.
    """

    objectives: tuple[Objective, ...]
    rows: Sequence[Mapping[str, Any]]
    values: Sequence[tuple[float, ...]]
    jobs: Sequence[tuple[int, ...]]
    count: int


def front(places: Sequence[Sequence[float]]) -> list[int]:
    """Which of these are on the Pareto front, by their places; of each number less is better."""
    points: dict[tuple[float, ...], list[int]] = {}
    for at, place in enumerate(places):
        points.setdefault(tuple(place), []).append(at)
    kept = list(points)
    while len(kept) > _CHUNK:
        parts = [kept[at : at + _CHUNK] for at in range(0, len(kept), _CHUNK)]
        fewer = [point for part in parts for point in _front_of(part)]
        if len(fewer) > len(kept) * 0.9:  # Nearly all are on it: compare them all.
            break
        kept = fewer
    return sorted(at for point in _front_of(kept) for at in points[point])


def _front_of(points: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """The front of points that all differ.

    For each, the points that are at least as good in an objective are bits of an integer; what all
    objectives have in common is the point itself, if it is on the front.
    """
    if not points:
        return []
    beaten_by = [-1] * len(points)
    for axis in range(len(points[0])):
        along = [point[axis] for point in points]
        before = 0
        for _, equal in groupby(
            sorted(range(len(points)), key=along.__getitem__), along.__getitem__
        ):
            places = list(equal)
            for at in places:
                before |= 1 << at
            for at in places:
                beaten_by[at] &= before
    return [point for at, point in enumerate(points) if beaten_by[at] == 1 << at]
