"""What can be known of a Hydra app without running it: its config, to check a sweep's keys against.

Where its config lies is read from the script's syntax tree. An app that says it in another way, or
that makes configs in Python, is not checked: its jobs will say what is wrong.
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

#: Prefixes of keys that need not be there: additions, deletions.
_FREE = ("+", "~")
#: Options of a config group that are looked at, and configs that are composed to know their keys.
_MAX_OPTIONS = 1000
_MAX_COMPOSED = 16
_KEY_PARTS = re.compile(r"[./@\[]")
_MAX_VALUES = 10


def config_loader(script: str) -> ConfigLoader | None:
    """Reads the config of the Hydra app at `script`; None if that cannot be known."""
    place = config_place(script)
    return None if place is None else _loader(str(place.directory))


def check_keys(script: str, sweep: SweepDefinition, origin: str) -> None:
    """Refuse a key that the app's config lacks, or an option that a config group lacks.

    Args:
        script: the Hydra app.
        sweep: what its jobs get.
        origin: where the sweep was written, for messages.

    Raises:
        SettingsError: names the near one, if there is one.
    """
    place = config_place(script)
    if place is None:
        return
    loader = _loader(str(place.directory))
    try:
        chosen = _chosen(loader, sweep)
        _check_options(loader, place, chosen, origin)
        configs = [_compose(loader, place.name, groups) for groups in _selections(chosen)]
        with suppress(Exception):  # without a choice there need be no config
            configs.append(_compose(loader, place.name, {}))
    except SettingsError:
        raise
    except Exception:  # whatever is wrong with the app's config, the app itself tells better
        return
    known = dict.fromkeys(key for config in configs for key in _flat(config))
    known |= dict.fromkeys(_all_groups(loader))
    known |= dict.fromkeys(key.partition("@")[0] for key in chosen)
    swept = () if _all_were_composed(chosen) else [key for key in chosen if len(chosen[key]) > 1]
    for key in sweep.all_keys():
        if not key.startswith(_FREE) and _KEY_PARTS.split(key)[0] not in ("hydra", *swept):
            _check_key(key, known, configs, origin, is_sure=not swept)


def _check_key(
    key: str, known: Mapping[str, None], configs: Sequence[Any], origin: str, *, is_sure: bool
) -> None:
    """Refuse a key that is not known; if that is not sure, only if a near one is."""
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
    """Whether the nearest thing above the key that the config has is a mapping.

    What Hydra makes of a key below a list, an interpolation or null is left to Hydra.
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
    """The config groups of which the sweep chooses an option, and the options that it chooses."""
    chosen = {}
    for key in sweep.all_keys():
        if _options(loader, key):
            values = sweep.values_of(key, _MAX_OPTIONS)
            chosen[key] = [*dict.fromkeys(value for value in values if isinstance(value, str))]
    return chosen


def _selections(chosen: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Choices of options that show each option once, all others being the first ones."""
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

    Plugins.instance()  # registers the kinds of config sources
    return ConfigLoaderImpl(create_config_search_path(directory))


def _compose(loader: ConfigLoader, name: str, groups: Mapping[str, str]) -> Any:
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    overrides = [to_override(key, value) for key, value in groups.items()]
    config = loader.load_configuration(name, overrides, run_mode=RunMode.MULTIRUN, from_shell=False)
    return OmegaConf.to_container(config, resolve=False)


def _options(loader: ConfigLoader, group: str) -> list[str]:
    from hydra.core.object_type import ObjectType

    if group.startswith(_FREE):
        return []
    return loader.get_group_options(group.partition("@")[0], ObjectType.CONFIG)


def _check_options(
    loader: ConfigLoader, place: ConfigPlace, chosen: Mapping[str, Sequence[str]], origin: str
) -> None:
    for group, wanted in chosen.items():
        options = _options(loader, group)
        for option in wanted:
            hint = did_you_mean(option, options)
            if option in options or not (hint or _is_lacking(option, place)):
                continue
            raise SettingsError(group, option, origin, f"one of {', '.join(options)}", hint)


def _is_lacking(option: str, place: ConfigPlace) -> bool:
    """Whether an option that is not among a group's files can be nowhere else either."""
    if not re.fullmatch(r"[\w-]+", option):  # an interpolation, a file's name, one of a subgroup
        return False
    try:
        # hydra.searchpath adds directories that are not searched here.
        return b"searchpath" not in (place.directory / f"{place.name}.yaml").read_bytes()
    except OSError:
        return False


def _all_groups(loader: ConfigLoader) -> Iterator[str]:
    for group in loader.list_groups(""):
        if group != "hydra":
            yield group


def _flat(config: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a config, dotted, mappings' own included."""
    for key, value in config.items():
        if not prefix and key == "hydra":
            continue
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")


def sweepable(script: str) -> list[str]:
    """Lines of YAML for what a sweep of this Hydra app might vary; none if that cannot be known.

    Those are its config groups and, as comments, the plain values of its config.
    """
    place = config_place(script)
    if place is None:
        return []
    try:
        loader = _loader(str(place.directory))
        config = _compose(loader, place.name, {})
        groups = {group: _options(loader, group) for group in _all_groups(loader)}
    except Exception:  # a config that does not compose by itself
        return []
    lines = [f"{group}: [{', '.join(names)}]" for group, names in groups.items() if len(names) > 1]
    values = list(_plain_values(config, skip=groups))
    if not lines and values:
        lines = [values.pop(0)]
    return [*lines, *(f"# {line}" for line in values[:_MAX_VALUES])]


def _plain_values(config: Any, skip: Collection[str]) -> Iterator[str]:
    """``key: [value]`` for each number or boolean that is no interpolation."""
    for key in _flat(config):
        value: Any = config
        for part in key.split("."):
            value = value[part]
        if isinstance(value, (bool, int, float)) and key.partition(".")[0] not in skip:
            yield f"{key}: [{str(value).lower()}]"
