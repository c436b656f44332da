"""What may be said of a study: the keys of hydra/sweeper=hsm_optuna, of sweep files, and flags.

raw values --check_study--> StudyOptions --record--> the journal --recorded_values--> raw values
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from math import prod
from typing import Any

from hsm.core.errors import SettingsError, UnknownSetting
from hsm.core.results.goal import Constraint
from hsm.core.settings.resolve import Direction
from hsm.core.space.choosing import OPTUNA, is_study
from hsm.core.study import option_values as values
from hsm.core.study.option_values import Check, Duplicates, PruneMode, RepeatAs

#: Trials, unless somebody says how many: as many as hydra-optuna-sweeper takes.
N_TRIALS = 20

_OBJECT = "_object_"  # stands in records for what JSON cannot hold
#: Keys of the methods that do not ask, and why these do not go with one that does.
_OTHERS = {
    "shuffle": "the method decides which point is next",
    "filter": "the method decides which points there are",
    "max_runs": "n_trials says how many trials there are",
    "points": "give points to run first as enqueue",
}
#: Keys that only Optuna knows what to do with.
_OF_OPTUNA = ("pruner", "storage", "study_name", "custom_search_space")
_WILCOXON = "wilcoxon"


@dataclass(frozen=True)
class StudyOptions:
    """What was said of a study.

    Attributes:
        method: "optuna", or the dotted path of a class, see `hsm.core.study.foreign`.
        n_trials: trials in all, also over resumes.
        n_jobs: jobs at the same time; None for as many as there are places.
        direction: which end of each objective is the good one.
        metric: the name of each objective; None for what jobs return.
        sampler, pruner: a name, a mapping with ``_target_`` or ``name``, or an object; None for
            Optuna's own choice, and no pruner.
        prune: how a pruned job learns it.
        storage: a URL, a mapping with ``_target_``, or an object; None for a file in the sweep.
        study_name: the study's name there.
        seed: of everything that is random; None for one that nobody chose.
        max_failure_rate: the failed part of the ended trials, from 0 to 1, above which the sweep
            ends; None for no bound.
        max_time: seconds, from each launch on, after which no more trials are asked for.
        target: a value of the objective that is good enough.
        enqueue: the first points, or parts of them.
        enqueue_default: whether the program's own values are the first point.
        warm_start: sweeps whose outcomes are taken over.
        duplicates: what becomes of a point that is proposed again.
        repeat: parameters and their values: every point runs for each combination of these.
        repeat_as: which value of its repeats a trial has.
        constraints: conditions on what jobs measure.
        custom_search_space: the dotted path of a function, or a function, that is called with
            each trial.
    """

    method: str = OPTUNA
    n_trials: int = N_TRIALS
    n_jobs: int | None = None
    direction: tuple[Direction, ...] = (Direction.minimize,)
    metric: tuple[str, ...] | None = None
    sampler: Any = None
    pruner: Any = None
    prune: PruneMode = PruneMode.ask
    storage: Any = None
    study_name: str | None = None
    seed: int | None = None
    max_failure_rate: float | None = None
    max_time: float | None = None
    target: float | None = None
    enqueue: Sequence[Mapping[str, Any]] = ()
    enqueue_default: bool = False
    warm_start: Sequence[str] = ()
    duplicates: Duplicates = Duplicates.run
    repeat: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    repeat_as: RepeatAs = RepeatAs.mean
    constraints: Sequence[Constraint] = ()
    custom_search_space: Any = None

    @property
    def repeats(self) -> int:
        """Jobs of each trial."""
        return prod(len(each) for each in self.repeat.values())

    @property
    def is_optuna(self) -> bool:
        """Whether Optuna proposes the points."""
        return self.method == OPTUNA

    @property
    def prunes_repeats(self) -> bool:
        """Whether the pruner looks at the repeats of a trial, not at what one job measures."""
        return bool(self.repeat) and self.pruner is not None

    def with_seed(self, seed: int | None) -> StudyOptions:
        """The same with another seed."""
        return replace(self, seed=seed)

    def record(self) -> dict[str, Any]:
        """The method, and what is not as by default, for JSON; `recorded_values` reads it.

        Objects and passwords are left out: an object is recorded as the name of its type.
        """
        default = StudyOptions()
        record: dict[str, Any] = {"method": self.method}
        for name in STUDY_KEYS[1:]:
            value = getattr(self, name)
            if value != getattr(default, name):
                record[name] = _recordable(name, value)
        return record


#: The keys, in the order in which they are documented.
STUDY_KEYS: tuple[str, ...] = tuple(each.name for each in fields(StudyOptions))
#: Other names of keys.
ALIASES: Mapping[str, str] = {"objective": "metric"}

_CHECKS: Mapping[str, Check] = {
    "method": values.text,
    "n_trials": values.whole(1),
    "n_jobs": values.whole(1),
    "direction": values.directions,
    "metric": values.metrics,
    "sampler": values.part,
    "pruner": values.part,
    "prune": values.word_of(PruneMode),
    "storage": values.part,
    "study_name": values.text,
    "seed": values.seed,
    "max_failure_rate": values.number("a number from 0 to 1", 0, 1),
    "max_time": values.duration,
    "target": values.number("a finite number"),
    "enqueue": values.points,
    "enqueue_default": values.switch,
    "warm_start": values.texts,
    "duplicates": values.word_of(Duplicates),
    "repeat": values.repeat,
    "repeat_as": values.word_of(RepeatAs),
    "constraints": values.constraints,
    "custom_search_space": values.anything,
}


def check_study(given: Mapping[str, Any], origin: str | Mapping[str, str]) -> StudyOptions:
    """Check what was written on a study.

    Args:
        given: the values by their keys, as they were written: data, or texts from a command line;
            None for what was not.
        origin: where they were written, or each of them, for messages.

    Raises:
        SettingsError: there is no such key, or a value is wrong, or does not go with another one.
    """

    def where(name: str) -> str:
        return origin if isinstance(origin, str) else origin.get(name, "argument " + name)

    checked: dict[str, Any] = {}
    for key, value in given.items():
        name = ALIASES.get(key, key)
        if name not in _CHECKS and name not in _OTHERS:
            raise UnknownSetting.among(key, value, where(key), [*STUDY_KEYS, *ALIASES])
        if values.is_unset(value) or (name in ("sampler", "pruner") and value == {}):
            continue
        if name in _OTHERS:
            if value is False or value in ("false", "", ()):
                continue
            message = f"{where(key)}: {key} does not go with a study: {_OTHERS[name]}"
            raise SettingsError(key, value, where(key), "left out", message=message)
        found = _CHECKS[name](key, value, where(key))
        if checked.get(name, found) != found:
            message = f"{where(key)}: metric and objective are the same thing, and differ"
            raise SettingsError(key, value, where(key), "given once", message=message)
        checked[name] = found
    if "pruner" in checked and _part_name(checked["pruner"]) == "nop":
        del checked["pruner"]
    options = StudyOptions(**checked)
    _check_together(options, lambda name: where(_given_as(given, name)))
    return options


def _given_as(given: Mapping[str, Any], name: str) -> str:
    """The key under which an option was given: its name, or an alias."""
    return next((key for key in given if ALIASES.get(key, key) == name), name)


def _check_together(options: StudyOptions, where: Any) -> None:
    """Refuse options that do not go with one another. Raises SettingsError."""

    def refuse(name: str, allowed: str, why: str) -> None:
        value = getattr(options, name)
        message = f"{where(name)}: {why}"
        raise SettingsError(name, value, where(name), allowed, message=message)

    if not is_study(options.method):
        allowed = "optuna, or the dotted path of a class with ask and tell"
        raise SettingsError("method", options.method, where("method"), allowed)
    goals = len(options.direction)
    if options.metric is not None and len(options.metric) != goals:
        counts = f"{len(options.metric)} for metric, and {goals} for direction"
        refuse(
            "metric",
            "as many as there are directions",
            f"there must be as many metrics as directions, not {counts}",
        )
    if goals > 1 and options.target is not None:
        refuse("target", "left out", f"target is for one objective, and there are {goals}")
    if goals > 1 and options.pruner is not None:
        refuse("pruner", "left out", f"Optuna prunes for one objective, and there are {goals}")
    if options.repeat and options.pruner is not None and _part_name(options.pruner) != _WILCOXON:
        refuse(
            "pruner",
            "wilcoxon, or left out",
            "with repeats the pruner can only be wilcoxon, which compares repeat by repeat",
        )
    if not options.is_optuna:
        for name in _OF_OPTUNA:
            if getattr(options, name) is not None:
                refuse(name, "left out", f"{name} is for method=optuna, not for {options.method}")


def _part_name(value: Any) -> str:
    """The short name of a sampler or pruner, as far as it tells: ``wilcoxon``."""
    if isinstance(value, Mapping):
        value = value.get("name") or value.get("_target_") or ""
    if not isinstance(value, str):
        value = getattr(getattr(value, "func", None), "__name__", None) or type(value).__name__
    return str(value).rpartition(".")[2].removesuffix("Pruner").removesuffix("Sampler").lower()


def _recordable(name: str, value: Any) -> Any:
    if name == "constraints":
        return [str(each) for each in value]
    if name == "storage" and isinstance(value, str):
        return without_password(value)
    if isinstance(value, Enum):
        return str(value)
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        kind = value if isinstance(value, type) else type(value)
        return {_OBJECT: f"{kind.__module__}.{kind.__qualname__}"}


def without_password(url: str) -> str:
    """A URL without the password that it may have."""
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    if not separator or not at or ":" not in user:
        return url
    return f"{scheme}://{user.partition(':')[0]}:***@{host}"


def recorded_values(record: Mapping[str, Any]) -> dict[str, Any]:
    """What `check_study` takes, of what `StudyOptions.record` gave; without what it left out."""
    found = {name: record[name] for name in STUDY_KEYS if name in record}
    return {name: value for name, value in found.items() if _is_whole(name, value)}


def _is_whole(name: str, value: Any) -> bool:
    if isinstance(value, Mapping) and _OBJECT in value:
        return False
    return not (name == "storage" and isinstance(value, str) and ":***@" in value)
