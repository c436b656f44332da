"""Checking a sweep's keys against the config of a Hydra app, without running the app.

The config's place is read from the script's syntax tree. An app that names it in any other way, or
that makes its configs in Python, is not checked; its jobs will report what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hsm.core.errors import SettingsError, did_you_mean, shown
from hsm.core.program.hydra_script import ConfigPlace, config_place
from hsm.core.space.arguments import to_override
from hsm.core.space.definition import SweepDefinition
from hsm.core.space.grammar import plain_key

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

#: Prefixes of keys that need not exist in the config: additions, deletions.
_UNCHECKED = ("+", "~")
#: Values of a swept config group that are considered.
_MAX_OPTIONS = 1000
#: Configs that are composed to learn their keys.
_MAX_COMPOSED = 16
_KEY_PARTS = re.compile(r"[./@\[]")
_MAX_VALUES = 10


def config_loader(script: str) -> ConfigLoader | None:
    """Make a loader for the Hydra app's configs; None if it is unknown where they are."""
    place = config_place(script)
    return None if place is None else _loader(str(place.directory))


def check_keys(script: str, sweep: SweepDefinition, origin: str) -> None:
    """Refuse keys that the app's config lacks, and options that a config group lacks.

    Args:
        script: the Hydra app.
        sweep: the sweep whose keys are checked.
        origin: where the sweep was written, for messages.

    Raises:
        SettingsError: a key or option does not exist; suggests a similar one, if there is one.
    """
    place = config_place(script)
    if place is None:
        return
    loader = _loader(str(place.directory))
    try:
        chosen = _chosen(loader, sweep)
        _check_options(loader, place, chosen, origin)
        configs = [_compose(loader, place.name, groups) for groups in _selections(chosen)]
        with suppress(Exception):  # the config may not compose without these choices
            configs.append(_compose(loader, place.name, {}))
    except SettingsError:
        raise
    except Exception:  # the app itself reports best what is wrong with its config
        return
    known = dict.fromkeys(key for config in configs for key in _flat(config))
    known |= dict.fromkeys(_all_groups(loader))
    known |= dict.fromkeys(key.partition("@")[0] for key in chosen)
    swept = () if _all_were_composed(chosen) else [key for key in chosen if len(chosen[key]) > 1]
    for key in sweep.all_keys():
        if not key.startswith(_UNCHECKED) and _KEY_PARTS.split(key)[0] not in ("hydra", *swept):
            _check_key(key, known, configs, origin, is_sure=not swept)


def _check_key(
    key: str, known: Mapping[str, None], configs: Sequence[Any], origin: str, *, is_sure: bool
) -> None:
    """Refuse an unknown key; unless `is_sure`, only if a similar key is known."""
    name = key.partition("@")[0]
    if name in known or not all(_would_be_new(name, config) for config in configs):
        return
    allowed = "a key of the app's config, or written with a + to add one"
    others = [other for other in known if not name.startswith(f"{other}.")]
    near = did_you_mean(name, others, cutoff=0.7)
    if near or is_sure:
        hint = near or f"+{key}=... adds it"
        message = f"{origin}: the app's config has no key {shown(name)}; {hint}"
        raise SettingsError("key", plain_key(key), origin, allowed, hint, message=message)


def _would_be_new(key: str, config: Any) -> bool:
    """Whether the key's closest existing ancestor in the config is a mapping that lacks it.

    Keys below a list, an interpolation or null are left to Hydra.
    """
    node = config
    for part in _KEY_PARTS.split(key):
        if not isinstance(node, dict):
            return False
        if part not in node:
            return True
        node = node[part]
    return False


def _chosen(loader: ConfigLoader, sweep: SweepDefinition) -> dict[str, list[str]]:
    """Map each config group that the sweep sets to the options that it chooses."""
    chosen = {}
    for key in sweep.all_keys():
        if _options(loader, key):
            values = sweep.values_of(key, _MAX_OPTIONS)
            chosen[key] = [*dict.fromkeys(value for value in values if isinstance(value, str))]
    return chosen


def _selections(chosen: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Return choices that include each option once, with the first option of all other groups."""
    first = {group: options[0] for group, options in chosen.items() if options}
    others = [
        {**first, group: option} for group, options in chosen.items() for option in options[1:]
    ]
    return [first, *others][:_MAX_COMPOSED]


def _all_were_composed(chosen: Mapping[str, Sequence[str]]) -> bool:
    return 1 + sum(max(0, len(options) - 1) for options in chosen.values()) <= _MAX_COMPOSED


@lru_cache(maxsize=4)
def _loader(directory: str) -> ConfigLoader:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.plugins import Plugins

    Plugins.instance()  # registers the types of config sources
    return ConfigLoaderImpl(create_config_search_path(directory))


def _compose(loader: ConfigLoader, name: str, groups: Mapping[str, str]) -> Any:
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    overrides = [to_override(key, value) for key, value in groups.items()]
    config = loader.load_configuration(name, overrides, run_mode=RunMode.MULTIRUN, from_shell=False)
    return OmegaConf.to_container(config, resolve=False)


def _options(loader: ConfigLoader, group: str) -> list[str]:
    from hydra.core.object_type import ObjectType

    if group.startswith(_UNCHECKED):
        return []
    return loader.get_group_options(group.partition("@")[0], ObjectType.CONFIG)


def _check_options(
    loader: ConfigLoader, place: ConfigPlace, chosen: Mapping[str, Sequence[str]], origin: str
) -> None:
    for group, wanted in chosen.items():
        options = _options(loader, group)
        for option in wanted:
            hint = did_you_mean(option, options)
            if option in options or not (hint or _is_missing(option, place)):
                continue
            raise SettingsError(group, option, origin, f"one of {', '.join(options)}", hint)


def _is_missing(option: str, place: ConfigPlace) -> bool:
    """Whether an option that is not among a group's files cannot be anywhere else either."""
    if not re.fullmatch(r"[\w-]+", option):  # an interpolation, a file name, a subgroup's option
        return False
    try:
        # hydra.searchpath adds directories that this module does not search.
        return b"searchpath" not in (place.directory / f"{place.name}.yaml").read_bytes()
    except OSError:
        return False


def _all_groups(loader: ConfigLoader) -> Iterator[str]:
    for group in loader.list_groups(""):
        if group != "hydra":
            yield group


def _flat(config: Any, prefix: str = "") -> Iterator[str]:
    """Yield every key of a config, dotted, including the keys of mappings."""
    for key, value in config.items():
        if not prefix and key == "hydra":
            continue
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")


def sweepable(script: str) -> list[str]:
    """Return lines of YAML for a sweep of this Hydra app; none if its config is unknown.

    They name its config groups and, as comments, the numbers and booleans of its config.
    """
    place = config_place(script)
    if place is None:
        return []
    try:
        loader = _loader(str(place.directory))
        config = _compose(loader, place.name, {})
        groups = {group: _options(loader, group) for group in _all_groups(loader)}
    except Exception:  # the config does not compose without overrides
        return []
    lines = [f"{group}: [{', '.join(names)}]" for group, names in groups.items() if len(names) > 1]
    values = list(_plain_values(config, skip=groups))
    if not lines and values:
        lines = [values.pop(0)]
    return [*lines, *(f"# {line}" for line in values[:_MAX_VALUES])]


def _plain_values(config: Any, skip: Collection[str]) -> Iterator[str]:
    """Yield ``key: [value]`` for each number or boolean, except those of the groups in `skip`."""
    for key in _flat(config):
        value: Any = config
        for part in key.split("."):
            value = value[part]
        if isinstance(value, (bool, int, float)) and key.partition(".")[0] not in skip:
            yield f"{key}: [{str(value).lower()}]"
