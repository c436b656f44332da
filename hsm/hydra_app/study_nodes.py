"""Nodes of hydra.sweeper that name classes of Optuna's, and functions: from config to object.

    sampler: {_target_: optuna.samplers.TPESampler, seed: 1} --node--> {name: tpe, seed: 1}
    storage: {_target_: mine.Storage, size: 3} --node--> the same --made--> the object

A node is read before anything starts, and what it names is imported only later: it takes long, and
would be in the memory of each job that is forked.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from hsm.core.errors import SettingsError
from hsm.core.study.optuna_classes import CLASSES, dotted_path
from hsm.hydra_app.app_points import ORIGIN, plain

_TARGET = "_target_"
_UPSTREAM = "hydra_plugins.hydra_optuna_sweeper"
#: What nodes name, by the short names that a study takes as well; no name for none.
_NAMES = {
    kind: {dotted_path(kind, name): name for name in names} for kind, names in CLASSES.items()
}
_NAMES["sampler"] |= {
    f"{_UPSTREAM}._impl.create_nsgaii_sampler": "nsgaii",
    f"{_UPSTREAM}._impl.create_nsgaiii_sampler": "nsgaiii",
}
_NAMES["pruner"][dotted_path("pruner", "nop")] = ""
_GONE = ("optuna.samplers.MOTPESampler", f"{_UPSTREAM}.config.raise_motpe_removed")
#: What Hydra reads of a node itself.
_OF_HYDRA = (_TARGET, "_partial_", "_recursive_", "_convert_")
#: Targets that hsm trusts where Hydra 1.4 wants to know; of others the app has to say so.
_TRUSTED = ("optuna.", f"{_UPSTREAM}.")


def node(value: Any, kind: str) -> Any:
    """What a study takes as its sampler or pruner, of the value of that key; None for its own.

    Of a node of hydra-optuna-sweeper's, what is as that package has it by default counts as not
    set: it would undo better defaults of the installed Optuna, which may not even know the key.

    Args:
        value: the value below hydra.sweeper.
        kind: sampler or pruner.

    Raises:
        SettingsError: Optuna has no such class any more.
    """
    value = plain(value)
    if not isinstance(value, Mapping):
        return value
    if not value:
        return None
    target = value.get(_TARGET)
    if target in _GONE:
        allowed = "tpe, which takes several objectives, too"
        message = f"{ORIGIN}.{kind}: Optuna 4 has no sampler motpe any more: use {allowed}"
        raise SettingsError(kind, "motpe", f"{ORIGIN}.{kind}", allowed, message=message)
    if target is None:
        return dict(value) if "name" in value or kind != "sampler" else {"name": "tpe", **value}
    name = _NAMES[kind].get(target)
    if name is None:
        return dict(value)
    defaults = _defaults_elsewhere(kind, target)
    keys = {
        key: item
        for key, item in value.items()
        if key not in _OF_HYDRA and not (key in defaults and defaults[key] == item)
    }
    return {"name": name, **keys} if name else None


def _defaults_elsewhere(kind: str, target: str) -> Mapping[str, Any]:
    """What another package's node of this target has by default."""
    try:
        found = ConfigStore.instance().repo["hydra"]["sweeper"][kind].values()
    except KeyError:
        return {}
    for each in found:
        if each.provider != "hsm" and isinstance(each.node, DictConfig):
            defaults = OmegaConf.to_container(each.node, enum_to_str=True)
            if isinstance(defaults, dict) and defaults.get(_TARGET) == target:
                return {str(key): item for key, item in defaults.items()}
    return {}


def made(value: Any, key: str) -> Any:
    """`value`, with what its nodes name in their places.

    Args:
        value: data, of which some mappings may have a ``_target_``.
        key: of hydra.sweeper, for messages.

    Raises:
        SettingsError: what a node names cannot be imported, or cannot be called so.
    """
    if not isinstance(value, Mapping) or not (targets := _targets(value)):
        return value
    return _instantiated(value, targets, key)


def function(value: Any, key: str) -> Any:
    """The function that a dotted path names, or that a node makes.

    Raises:
        SettingsError: it cannot be imported, or cannot be called.
    """
    if isinstance(value, str):
        value = {_TARGET: value, "_partial_": True}
    found = made(value, key)
    # A partial of no arguments is the function itself.
    if isinstance(found, partial) and not (found.args or found.keywords):
        found = found.func
    if not callable(found):
        raise SettingsError(key, value, f"{ORIGIN}.{key}", "the dotted path of a function")
    return found


def _instantiated(value: Mapping[str, Any], targets: list[str], key: str) -> Any:
    options: dict[str, Any] = {}
    if _knows_whitelists() and all(target.startswith(_TRUSTED) for target in targets):
        options["_execution_whitelist_"] = targets
    try:
        return instantiate(OmegaConf.create(dict(value)), _convert_="all", **options)
    except Exception as error:  # whatever the class, or importing it, raises
        reason = " ".join(str(error.__cause__ or error).split())
        named = ", ".join(targets)
        message = f"{ORIGIN}.{key}: {named}: {type(error.__cause__ or error).__name__}: {reason}"
        allowed = "what can be imported and called so"
        raise SettingsError(key, named, f"{ORIGIN}.{key}", allowed, message=message) from error


def _knows_whitelists() -> bool:
    """Whether this is Hydra 1.4."""
    import hydra.utils

    return hasattr(hydra.utils, "execution_whitelist")


def _targets(value: Any) -> list[str]:
    """The targets of all nodes in a value."""
    if isinstance(value, Mapping):
        own = [str(value[_TARGET])] if _TARGET in value else []
        return own + [target for item in value.values() for target in _targets(item)]
    if isinstance(value, list | tuple):
        return [target for item in value for target in _targets(item)]
    return []
