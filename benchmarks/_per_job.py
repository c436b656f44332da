"""The cases of `launchers.py` that measure sweeps of two sizes, and what a job more costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from _harness import Run, interleave
from _report import Result, Summary, Target, any_failed, cell, measured, summarise, summarise_runs


@dataclass(frozen=True)
class Quantity:
    """What is measured of a run.

    Attributes:
        title: of its case.
        value: reads it from a run, in SI units.
        whole, scale: the unit of the table for a whole sweep, and how many of it are one SI unit.
        per_job, job_scale: the same for one job; the unit in full, which the document's key has.
    """

    title: str
    value: Callable[[Run], float]
    whole: str
    scale: float
    per_job: str
    job_scale: float


@dataclass(frozen=True)
class Growth:
    """What `grow` found.

    Attributes:
        quantity: what was measured.
        sizes: the two numbers of jobs.
        runs: by contender and number of jobs.
        slopes: by contender, one per round in SI units per job; None if a run failed.
    """

    quantity: Quantity
    sizes: tuple[int, int]
    runs: Mapping[tuple[str, int], list[Run]]
    slopes: Mapping[str, list[float | None]] = field(default_factory=dict)

    def per_job(self, name: str) -> Summary | None:
        """A contender's growth per job, in the unit of the table."""
        slopes = self.slopes.get(name, [])
        return summarise([slope * self.quantity.job_scale for slope in slopes if slope is not None])

    def ratio(self, name: str, reference: str) -> Summary | None:
        """One contender's growth over another's, round by round."""
        pairs = zip(self.slopes.get(name, []), self.slopes.get(reference, []), strict=False)
        return summarise([one / other for one, other in pairs if one is not None and other])

    def result(self, targets: Sequence[Target], **more: Any) -> Result:
        """The table, with these targets below it; `more` goes into the document."""
        quantity, names = self.quantity, list(self.slopes)
        return Result(
            quantity.title,
            [
                "launcher",
                *(f"{quantity.whole} at {jobs} jobs" for jobs in self.sizes),
                f"{quantity.per_job} per job",
            ],
            [
                [
                    name,
                    *(measured(self._whole(name, n), self.runs[name, n]) for n in self.sizes),
                    cell(self.per_job(name), digits=1),
                ]
                for name in names
            ],
            list(targets),
            {
                "jobs": list(self.sizes),
                f"{quantity.per_job}_per_job": {name: self.per_job(name) for name in names},
                "runs": {f"{name} {jobs}": own for (name, jobs), own in self.runs.items()},
                **more,
            },
            any_failed(self.runs.values()),
        )

    def _whole(self, name: str, jobs: int) -> Summary | None:
        quantity = self.quantity
        return summarise_runs(
            self.runs[name, jobs], lambda run: quantity.value(run) * quantity.scale
        )


def grow(
    quantity: Quantity,
    names: Sequence[str],
    sizes: tuple[int, int],
    rounds: int,
    measure_one: Callable[[str, int], Run],
) -> Growth:
    """Measure sweeps of two sizes under each contender, rounds interleaved.

    Args:
        quantity: what of them.
        names: the contenders.
        sizes: the smaller and the larger number of jobs.
        rounds: measurements of each.
        measure_one: runs a contender's sweep of some size.
    """
    keys = [(name, jobs) for name in names for jobs in sizes]
    runs = interleave(keys, rounds, lambda key: measure_one(*key))
    few, many = sizes
    slopes = {
        name: [
            (quantity.value(large) - quantity.value(small)) / (many - few)
            if small.problem is None and large.problem is None
            else None
            for small, large in zip(runs[name, few], runs[name, many], strict=True)
        ]
        for name in names
    }
    return Growth(quantity, sizes, runs, slopes)
