"""What hydra.sweeper says of a study, and that it says nothing of one where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from hsm.core.errors import SettingsError
from hsm.core.space.choosing import KEYS, OPTUNA
from hsm.core.study.options import ALIASES, STUDY_KEYS, StudyOptions, check_study
from hsm.hydra_app.app_points import ORIGIN, plain
from hsm.hydra_app.study_nodes import node

#: Keys of both, of which the launcher has a setting that serves as well.
_GOAL = ("metric", "direction")
#: Keys that say which points there are, and not which of them run.
_POINTS = ("points",)


def study_options(settings: Mapping[str, Any], config: DictConfig) -> StudyOptions:
    """The options of a study.

    Args:
        settings: what is below hydra.sweeper.
        config: the sweep's. What its launcher says of a metric and a direction, holds here, too.

    Raises:
        SettingsError: a value is wrong, or does not go with another one.
    """
    given, origins = {}, {}
    is_optuna = str(settings.get("method")) == OPTUNA
    for key in dict.fromkeys((*STUDY_KEYS, *ALIASES, *KEYS, *_POINTS)):
        value = plain(settings.get(key))
        if key in ("sampler", "pruner"):
            value = node(value, key)
        if key == "sampler" and _is_default_sampler(settings, value) and not is_optuna:
            continue
        if not _is_unset(value):
            given[key], origins[key] = value, f"{ORIGIN}.{key}"
    launcher = config.hydra.launcher
    if str(launcher.get("_target_")).startswith("hydra_plugins.hsm_"):
        for key in _GOAL:
            names = (key, *(alias for alias, name in ALIASES.items() if name == key))
            if given.keys().isdisjoint(names) and not _is_unset(value := launcher.get(key)):
                given[key], origins[key] = plain(value), f"hydra.launcher.{key}"
    return check_study(given, origins)


def check_no_study(settings: Mapping[str, Any]) -> None:
    """Refuse what is said of a study, as the method proposes no points.

    Args:
        settings: what is below hydra.sweeper.

    Raises:
        SettingsError: something is.
    """
    method = str(settings.get("method"))
    for key in (*STUDY_KEYS, *ALIASES):
        if key in KEYS or _is_unset(value := plain(settings.get(key))):
            continue
        if key == "sampler" and _is_default_sampler(settings, node(value, key)):
            continue
        where = f"{ORIGIN}.{key}"
        allowed = f"left out with method={method}"
        hint = "hydra/sweeper=hsm_optuna, or method=optuna, takes it"
        if key in _GOAL:
            hint = f"hydra.launcher.{key} says by what jobs are ranked"
        message = f"{where}: {key} is for a study, and not for method={method}: {hint}"
        raise SettingsError(key, value, where, allowed, hint, message=message)


def _is_default_sampler(settings: Mapping[str, Any], value: Any) -> bool:
    """Whether this is the sampler that hydra/sweeper=hsm_optuna has if nobody chooses one."""
    return "points" not in settings and value == {"name": "tpe"}


def _is_unset(value: Any) -> bool:
    """Whether nobody has set a key to this."""
    return value is None or value is False or value in ("", {}, [])
