"""Opens a study of Optuna's: its sampler, its pruner, and where it is kept.

StudyOptions --> Part (sampler, pruner), storage --> optuna.Study, in an OpenStudy
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, BruteForceSampler, CmaEsSampler, GridSampler
from optuna.trial import FrozenTrial, Trial

from hsm.core.errors import SettingsError, shown
from hsm.core.logger import logger_of
from hsm.core.space import chance
from hsm.core.study.dimensions import Options
from hsm.core.study.options import StudyOptions, without_password
from hsm.core.study.optuna_chance import first_draw
from hsm.core.study.optuna_journal import StudyFile, open_study_file
from hsm.core.study.optuna_parts import Part, build
from hsm.core.study.optuna_space import all_raws
from hsm.core.study.search_space import SearchSpace

#: Points of a grid, all of which Optuna lists.
_MAX_GRID = 1_000_000
_CONSTRAINED = ("TPESampler", "NSGAIISampler", "NSGAIIISampler", "GPSampler")
#: Samplers that warn of each parameter that they draw at random.
_WARNING = ("CmaEsSampler", "QMCSampler", "GPSampler")
#: Attribute of a trial with its constraints, which a function passes to samplers of Optuna 4.
CONSTRAINTS = "hsm_constraints"
#: Optuna's attribute for the values of an enqueued trial.
FIXED = "fixed_params"


@dataclass
class OpenStudy:
    """A study that is open.

    Attributes:
        study: the study.
        seed: of all that is random in it.
        max_trials: how many different points it has; None if unknown.
        file: the file in which it is; None if it is elsewhere.
        notes: lines for people, on what has no effect.
        undo: gives Optuna's logging back.
    """

    study: optuna.Study
    seed: int
    max_trials: int | None
    file: StudyFile | None
    notes: Sequence[str]
    undo: Callable[[], None]

    @property
    def sets_constraints(self) -> bool:
        """Whether trials have constraints by themselves, as from Optuna 5 on."""
        return hasattr(Trial, "set_constraint")

    def together(self) -> AbstractContextManager[None]:
        """Write all that is written meanwhile at once."""
        return contextlib.nullcontext() if self.file is None else self.file.together()

    def given_attrs(self, raws: Mapping[str, Any]) -> dict[str, Any]:
        """The system attributes of a trial with values that are given."""
        sampler = self.study.sampler
        if isinstance(sampler, GridSampler):
            names = sampler._param_names
            for number, row in enumerate(sampler._all_grids):
                if dict(zip(names, row, strict=True)) == dict(raws):
                    return {"search_space": sampler._search_space, "grid_id": number}
        return {FIXED: dict(raws)}

    def check_fixed(self, raws: Mapping[str, Any], origin: str) -> None:
        """Check that values can be given. Raises SettingsError."""
        sampler = self.study.sampler
        if isinstance(sampler, GridSampler) and set(sampler._param_names) - set(raws):
            missing = ", ".join(sorted(set(sampler._param_names) - set(raws)))
            message = f"{origin}: a first point of a grid needs all parameters, also {missing}"
            raise SettingsError("enqueue", dict(raws), origin, "a whole point", message=message)

    def close(self) -> None:
        """Close its file."""
        self.undo()
        if self.file is not None:
            self.file.close()


def open_study(
    options: StudyOptions,
    space: SearchSpace,
    path: Path,
    study_name: str,
    origin: str,
    *,
    is_new: bool,
    in_memory: bool = False,
) -> OpenStudy:
    """Open the study that was asked for.

    Args:
        options: what was said.
        space: what is searched.
        path: the file in which it is kept if nothing else was said.
        study_name: its name, if the options have none.
        origin: where the options were written, for messages.
        is_new: whether the sweep is.
        in_memory: keep nothing.

    Raises:
        SettingsError: something is wrong, or missing.
        HsmError: the file cannot be used.
    """
    sampler_part, pruner = check_parts(options, space, origin)
    seed = _seed(options, sampler_part)
    sampler = _make_sampler(options, space, sampler_part, seed, origin)
    undo = _quiet()
    file: StudyFile | None = None
    try:
        storage: Any = None
        if options.storage is not None:
            storage = _storage(options.storage, origin)
        elif not in_memory:
            storage, file = open_study_file(path, is_new=is_new)
        study = _study(options, storage, options.study_name or study_name, origin)
        study.sampler = sampler
        if pruner is not None:
            study.pruner = pruner.make()
        else:
            study.pruner = optuna.pruners.NopPruner()
    except BaseException:
        undo()
        if file is not None:
            file.close()
        raise
    notes = [*space.notes, *_notes(options, space, sampler)]
    return OpenStudy(study, seed, _max_trials(options, space, sampler), file, notes, undo)


def check_parts(options: StudyOptions, space: SearchSpace, origin: str) -> tuple[Part, Part | None]:
    """The sampler and the pruner, checked against the space and each other.

    Raises:
        SettingsError: one of them cannot be made, or does not suit.
    """
    default = "tpe" if len(options.direction) == 1 else "nsgaii"
    sampler = Part("sampler", default if options.sampler is None else options.sampler, origin)
    if sampler.name == "CmaEsSampler" and len(options.direction) > 1:
        message = f"{origin}: cmaes is for one objective, and there are {len(options.direction)}"
        raise SettingsError("sampler", "cmaes", origin, "tpe or nsgaii", message=message)
    if not space.dimensions and options.custom_search_space is None:
        message = f"{origin}: there is nothing to search: every parameter has one value"
        allowed = "such as lr=interval(0.001, 0.1), or a custom_search_space"
        raise SettingsError("params", "", origin, allowed, message=f"{message} ({allowed})")
    if sampler.name in ("GridSampler", "BruteForceSampler"):
        _check_countable(sampler, space, origin)
    pruner = None if options.pruner is None else Part("pruner", options.pruner, origin)
    if pruner is not None:
        pruner.make()
    return sampler, pruner


def _check_countable(sampler: Part, space: SearchSpace, origin: str) -> None:
    for each in space.dimensions:
        if each.count is None:
            name = sampler.name.removesuffix("Sampler").lower()
            message = (
                f"{origin}: the sampler {name} needs values that can be listed, and "
                f"{each.name} is not one: {each.text}; write range(start, stop, step)"
            )
            allowed = "values that can be listed"
            raise SettingsError(each.name, each.text, origin, allowed, message=message)
    count = space.count or 1
    if sampler.name == "GridSampler" and count > _MAX_GRID:
        message = f"{origin}: the grid has {count} points, and Optuna's takes up to {_MAX_GRID}"
        raise SettingsError("sampler", "grid", origin, "another one", message=message)


def _seed(options: StudyOptions, sampler: Part) -> int:
    """The seed: that of the study, else that of the sampler, else a new one."""
    own = sampler.keywords.get("seed")
    if options.seed is not None:
        return options.seed
    if isinstance(own, int):
        return own
    if sampler.made is not None:
        drawn = first_draw(sampler.made)
        if drawn is not None:
            return drawn
    return chance.new_seed()


def _make_sampler(
    options: StudyOptions, space: SearchSpace, part: Part, seed: int, origin: str
) -> BaseSampler:
    more: dict[str, Any] = {"seed": seed}
    if part.name in _WARNING:
        more["warn_independent_sampling"] = False  # for each parameter of each trial
    if part.name == "GridSampler":
        more["search_space"] = {each.name: list(all_raws(each)) for each in space.dimensions}
    if options.constraints and not hasattr(Trial, "set_constraint") and part.name in _CONSTRAINED:
        more["constraints_func"] = _constraints_of
    sampler: BaseSampler = part.make(**more)
    return sampler


def _constraints_of(trial: FrozenTrial) -> Sequence[float]:
    """The constraints of a trial that has ended; one whose numbers are missing keeps none."""
    found: Sequence[float] = trial.user_attrs.get(CONSTRAINTS) or [float("inf")]
    return found


def _notes(options: StudyOptions, space: SearchSpace, sampler: BaseSampler) -> Sequence[str]:
    notes: list[str] = []
    name = type(sampler).__name__
    if isinstance(sampler, CmaEsSampler):
        drawn = [each.name for each in space.dimensions if isinstance(each, Options)]
        if drawn:
            notes.append(f"cmaes searches numbers alone: {', '.join(drawn)} is drawn at random")
    if options.constraints and name not in _CONSTRAINED:
        notes.append(f"{name} does not use constraints: they only decide which trial is the best")
    return notes


def _max_trials(options: StudyOptions, space: SearchSpace, sampler: BaseSampler) -> int | None:
    if options.custom_search_space is not None:
        return None
    if isinstance(sampler, GridSampler):
        return len(sampler._all_grids)
    return space.count if isinstance(sampler, BruteForceSampler) else None


def _storage(value: Any, origin: str) -> Any:
    """A storage of Optuna's, or its URL."""
    if isinstance(value, Mapping):
        value = build(value, origin)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.get_storage(value)
    except Exception as error:
        first = " ".join(str(error).split("\n", 1)[0].split())
        if isinstance(value, str):
            first = first.replace(value, without_password(value))
        message = f"{origin}: cannot open the storage: {type(error).__name__}: {first}"
        allowed = "a URL such as sqlite:///study.db, or a _target_"
        raise SettingsError("storage", "", origin, allowed, message=message) from None


def _study(options: StudyOptions, storage: Any, name: str, origin: str) -> optuna.Study:
    directions = [str(each) for each in options.direction]
    try:
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            directions=directions,  # type: ignore[arg-type]
            load_if_exists=True,
        )
    except Exception as error:
        message = f"{origin}: cannot open the study {shown(name)}: {error}"
        allowed = "a study that can be opened"
        raise SettingsError("study_name", name, origin, allowed, message=message) from error
    there = [each.name.lower() for each in study.directions]
    if there != directions:
        message = (
            f"{origin}: the study {shown(name)} has the direction {', '.join(there)}, not "
            f"{', '.join(directions)}: give another study_name"
        )
        raise SettingsError("study_name", name, origin, "another study", message=message)
    return study


def _quiet() -> Callable[[], None]:
    """Let Optuna log warnings alone, through the app's own logging; returns what undoes it."""
    logger = logger_of("optuna")
    level, propagates, handlers = logger.level, logger.propagate, list(logger.handlers)
    if level in (logging.NOTSET, logging.INFO):  # else somebody has chosen it
        optuna.logging.set_verbosity(logging.WARNING)
        optuna.logging.disable_default_handler()
        optuna.logging.enable_propagation()

    def undo() -> None:
        logger.setLevel(level)
        logger.propagate = propagates
        logger.handlers[:] = handlers

    return undo
