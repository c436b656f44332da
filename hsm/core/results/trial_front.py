"""The Pareto front of a sweep: of its completed jobs, or of their trials if points are repeated."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hsm.core.results.goal import Goal
from hsm.core.results.objective_values import values_of_row
from hsm.core.results.pareto import Front, front
from hsm.core.results.repeats import Repeats
from hsm.core.results.trial import MEAN, combined
from hsm.core.settings.resolve import Direction

Row = Mapping[str, Any]


def pareto_front(
    rows: Sequence[Row],
    columns: Sequence[str],
    goal: Goal,
    repeats: Repeats | None = None,
    left_out: Collection[int] = (),
) -> Front:
    """The front of the completed jobs of a table, or of their trials.

    Args:
        rows: the jobs' rows, in order.
        columns: those that hold what the study was told, one for each objective.
        goal: the objectives.
        repeats: how the points are repeated, if they are.
        left_out: the numbers of jobs that were pruned or break a constraint, which their trials do
            with them.
    """
    trials = _trials(rows, columns, goal, repeats, left_out)
    signs = [1 if end is Direction.minimize else -1 for _, end in goal.several]
    places = [
        [sign * value for sign, value in zip(signs, values, strict=True)] for _, values, _ in trials
    ]
    chosen = sorted(front(places), key=lambda at: (places[at], trials[at][2]))
    return Front(
        goal.several,
        [trials[at][0] for at in chosen],
        [trials[at][1] for at in chosen],
        [trials[at][2] for at in chosen],
        len(trials),
    )


def _trials(
    rows: Sequence[Row],
    columns: Sequence[str],
    goal: Goal,
    repeats: Repeats | None,
    left_out: Collection[int],
) -> list[tuple[Row, tuple[float, ...], tuple[int, ...]]]:
    """For each trial that counts: the row of its first job, its values, its jobs."""
    found: dict[object, list[tuple[Row, tuple[float, ...]]]] = {}
    for row in rows:
        values = values_of_row(row, columns)
        if values is not None:
            key = row["job"] if repeats is None else repeats.key(row["job"])
            found.setdefault(key, []).append((row, values))
    without = {num if repeats is None else repeats.key(num) for num in left_out}
    how = MEAN if repeats is None else repeats.how
    trials: list[tuple[Row, tuple[float, ...], tuple[int, ...]]] = []
    for key, members in found.items():
        first = members[0][0]
        if key in without:
            continue
        if repeats is not None and not repeats.is_enough(first["job"], len(members)):
            continue
        values = tuple(
            combined([own[at] for _, own in members], how, end)
            for at, (_, end) in enumerate(goal.several)
        )
        differs = () if repeats is None else repeats.keys
        shared = {name: value for name, value in first.items() if name not in differs}
        trials.append((shared, values, tuple(int(row["job"]) for row, _ in members)))
    return trials
