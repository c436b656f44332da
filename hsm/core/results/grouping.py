"""Groups of jobs: what they have in common, and the mean of each metric over the jobs.

group_by("model")      a group for each model: means over all its jobs
group_by(over="seed")  a group for each point but for its seed: means over the seeds

lr   seed  loss                  lr   loss          loss_std  n
0.1  0     0.30   --over seed--> 0.1  0.32          0.028     2
0.1  1     0.34                  0.2  …
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hsm.core.record.job import JobState
from hsm.core.results import tables
from hsm.core.results.base_table import Table

#: Decimals of a mean beside its standard deviation.
_MAX_DECIMALS = 9


class Groups(Table):
    """A table with a row for each group of a sweep's jobs.

    The columns: those that the jobs of a group have in common; for each metric that holds numbers
    their mean, under its own name, and their standard deviation, ``<metric>_std``; and ``n``, the
    number of completed jobs that have a value. If some of them lack a metric that others have, the
    column ``<metric>_n`` counts those that have it. The deviation is that of a sample (n - 1); a
    group of one has none. A name that is taken gets the prefix ``groups.``.

    Attributes:
        deviations: the name of the column with a metric's standard deviation, by metric.
    """

    row_word = "group"

    def __init__(
        self,
        rows: Iterable[dict[str, Any]],
        columns: Iterable[str],
        *,
        sweep_id: str,
        parameters: Iterable[str],
        deviations: Mapping[str, str],
        problems: Iterable[str] = (),
    ) -> None:
        super().__init__(
            rows,
            columns,
            sweep_id=sweep_id,
            parameters=parameters,
            metrics=deviations,
            problems=problems,
        )
        self.deviations = dict(deviations)

    def _shown_columns(self) -> list[str]:
        beside = {self.deviations[name] for name in self.metrics}
        return [name for name in self.columns if name not in beside]

    def missing_deviations(self, columns: Sequence[str]) -> list[str]:
        """The columns with the deviations of the metrics in `columns`, but for those in it."""
        beside = (self.deviations[name] for name in columns if name in self.deviations)
        return [name for name in beside if name not in columns]

    def _telling(self) -> Sequence[str]:
        return self.parameters

    def _is_kept(self, name: str) -> bool:
        return name not in (*self.parameters, *self.metrics) or super()._is_kept(name)

    def _cell(self, row: dict[str, Any], name: str) -> str:
        deviation = row.get(self.deviations.get(name, ""))
        if deviation is None:
            return super()._cell(row, name)
        return with_deviation(row[name], deviation)


def groups(table: Table, shared: Sequence[str]) -> Groups:
    """Group a table's jobs by the values in the columns `shared`, in the order of their first jobs.

    Two values are the same if their texts are.
    """
    members: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in table:
        key = tuple((row[name] is None, tables.as_text(row[name])) for name in shared)
        members.setdefault(key, []).append(row)
    candidates = [name for name in table.metrics if name not in shared]
    found = [_Group(jobs, candidates) for jobs in members.values()]
    metrics = [name for name in candidates if any(group.numbers[name] for group in found)]
    taken = {*shared, *metrics}
    deviations = {name: _new_name(f"{name}_std", taken) for name in metrics}
    counts = {
        name: _new_name(f"{name}_n", taken)
        for name in metrics
        if any(len(group.numbers[name]) < group.n for group in found)
    }
    n = _new_name("n", taken)
    columns = [*shared]
    for name in metrics:
        columns += [name, deviations[name], *([counts[name]] if name in counts else [])]
    rows = []
    for group in found:
        row = {name: group.jobs[0][name] for name in shared}
        row.update((name, _mean(group.numbers[name])) for name in metrics)
        row.update((deviations[name], _deviation(group.numbers[name])) for name in metrics)
        row.update((name, len(group.numbers[metric])) for metric, name in counts.items())
        rows.append({**row, n: group.n})
    return Groups(
        rows,
        [*columns, n],
        sweep_id=table.sweep_id,
        parameters=shared,
        deviations=deviations,
        problems=table.problems,
    )


class _Group:
    """The jobs of a group.

    Attributes:
        jobs: their rows.
        numbers: the numbers among the values of the completed ones, by metric.
        n: how many of them have a number in any metric.
    """

    def __init__(self, jobs: list[dict[str, Any]], metrics: Sequence[str]) -> None:
        self.jobs = jobs
        completed = [job for job in jobs if job["state"] == JobState.COMPLETED]
        self.numbers = {
            name: [float(job[name]) for job in completed if _is_number(job[name])]
            for name in metrics
        }
        self.n = sum(any(_is_number(job[name]) for name in metrics) for job in completed)


def _new_name(name: str, taken: set[str]) -> str:
    """`name`, or one like it, that is not taken; it is from now on."""
    while name in taken:
        name = f"groups.{name}"
    taken.add(name)
    return name


def _is_number(value: Any) -> bool:
    """Whether a mean can be made of it; NaN says that there is no value."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return not math.isnan(value)
    except OverflowError:  # an integer that no float can hold
        return False


def _mean(numbers: Sequence[float]) -> float | None:
    return _sum(numbers) / len(numbers) if numbers else None


def _deviation(numbers: Sequence[float]) -> float | None:
    """The standard deviation of a sample; None of fewer than two numbers, or of infinite ones."""
    mean = _mean(numbers)
    if mean is None or len(numbers) < 2:
        return None
    variance = _sum([(number - mean) * (number - mean) for number in numbers]) / (len(numbers) - 1)
    return math.sqrt(variance) if math.isfinite(variance) else None


def _sum(numbers: Sequence[float]) -> float:
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):  # beyond what a float holds; infinities of both signs
        return sum(numbers)


def with_deviation(mean: float, deviation: float) -> str:
    """``0.913 ± 0.012``: two digits of the deviation, and as many decimals of the mean."""
    decimals = 1 - math.floor(math.log10(deviation)) if deviation > 0 else 0
    if deviation == 0 or decimals > _MAX_DECIMALS or abs(mean) >= 10**_MAX_DECIMALS:
        return f"{mean:.6g} ± {deviation:.2g}"
    decimals = max(0, decimals)
    return f"{mean:.{decimals}f} ± {deviation:.{decimals}f}"
