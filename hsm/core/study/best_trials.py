"""The best of a study's trials: one, or of several objectives those that no other one beats."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hsm.core.settings.resolve import Direction
from hsm.core.study.proposer import TrialState
from hsm.core.study.trial_ends import RunningTrial


@dataclass(frozen=True)
class BestTrial:
    """A trial that no other one beats.

    Attributes:
        index: its index.
        job: the number of its first job.
        point: its parameters, without those of repeats.
        values: one number for each objective.
    """

    index: int
    job: int
    point: Mapping[str, Any]
    values: tuple[float, ...]


def candidate(trial: RunningTrial, repeats: int) -> BestTrial | None:
    """A trial that may be the best: one with values, which keeps all constraints."""
    end = trial.end
    if end is None or end.state is not TrialState.complete or end.values is None:
        return None
    if end.constraints is not None and max(end.constraints) > 0:
        return None
    job = trial.index * repeats + min(trial.outcomes)
    return BestTrial(trial.index, job, trial.point, end.values)


def results_of(
    best: Sequence[BestTrial], name: str, goals: int, fixed: Collection[str]
) -> dict[str, Any]:
    """The content of optimization_results.yaml.

    Args:
        best: the best trials; may be none.
        name: the method's.
        goals: how many objectives there are.
        fixed: parameters that are not searched.
    """
    params = [{key: it for key, it in each.point.items() if key not in fixed} for each in best]
    if goals > 1:
        solutions = [
            {"params": each, "values": list(trial.values), "job": trial.job}
            for each, trial in zip(params, best, strict=True)
        ]
        return {"name": name, "solutions": solutions}
    if not best:
        return {"name": name, "best_params": {}, "best_value": None, "best_job": None}
    value, job = best[0].values[0], best[0].job
    return {"name": name, "best_params": params[0], "best_value": value, "best_job": job}


def best_of(trials: Iterable[BestTrial], directions: Sequence[Direction]) -> list[BestTrial]:
    """Those that no other one beats in all objectives, in their order; of one objective the first.

    Args:
        trials: the trials.
        directions: which end of each objective is the good one.
    """
    signs = [1.0 if each is Direction.minimize else -1.0 for each in directions]
    costs = [
        (tuple(sign * value for sign, value in zip(signs, trial.values, strict=True)), trial)
        for trial in trials
    ]
    if len(signs) == 1:
        return [min(costs, key=lambda each: each[0])[1]] if costs else []
    front: list[tuple[tuple[float, ...], BestTrial]] = []
    # In this order, none can be beaten by one that comes after it.
    for cost, trial in sorted(costs, key=lambda each: (each[0], each[1].index)):
        if not any(other != cost and _is_as_good(other, cost) for other, _ in front):
            front.append((cost, trial))
    return sorted((trial for _, trial in front), key=lambda trial: trial.index)


def _is_as_good(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return all(one <= other for one, other in zip(first, second, strict=True))
