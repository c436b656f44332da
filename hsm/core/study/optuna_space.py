"""The dimensions of a space as Optuna has them: suggested, and as distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from hsm.core.study.dimensions import Dimension, Number, Options, Raw


def suggest(trial: Trial, dimension: Dimension) -> Any:
    """The raw value that a trial has for a dimension."""
    name = dimension.name
    if isinstance(dimension, Options):
        return trial.suggest_categorical(name, dimension.raws)
    assert isinstance(dimension, Number)
    low, high, is_log = dimension.low, dimension.high, dimension.is_log
    if dimension.is_int:
        step = int(dimension.step or 1)
        return trial.suggest_int(name, int(low), int(high), step=step, log=is_log)
    return trial.suggest_float(name, low, high, step=dimension.step, log=is_log)


def distribution(dimension: Dimension) -> BaseDistribution:
    """The distribution that `suggest` draws from."""
    if isinstance(dimension, Options):
        return CategoricalDistribution(dimension.raws)
    assert isinstance(dimension, Number)
    low, high, is_log = dimension.low, dimension.high, dimension.is_log
    if dimension.is_int:
        return IntDistribution(int(low), int(high), is_log, int(dimension.step or 1))
    return FloatDistribution(low, high, is_log, dimension.step)


def all_raws(dimension: Dimension) -> Sequence[Raw]:
    """All raw values of a dimension that has a count, for a grid."""
    if isinstance(dimension, Options):
        return dimension.raws
    assert isinstance(dimension, Number)
    if dimension.steps is not None:
        found = [dimension.steps[at] for at in range(dimension.steps.count)]
        return sorted(found)
    return range(int(dimension.low), int(dimension.high) + 1)
