"""What can be known of a Hydra app without running it: its config, to check a sweep's keys against.

Where its config lies is read from the script's syntax tree. An app that says it in another way, or
that makes configs in Python, is not checked: its jobs will say what is wrong.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsm.core.errors import SettingsError
from hsm.core.parameters import SweepDefinition, plain_key, to_override

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

#: Prefixes of keys that need not be there: additions, deletions.
_FREE = ("+", "~")
#: Points that are looked at to see whether a sweep changes a config group: then its keys differ.
_LOOK_AT = 200
_MOST_VALUES = 10


@dataclass(frozen=True)
class _Place:
    """Where an app's config lies: a directory, and the name of the primary config in it."""

    directory: Path
    name: str


def config_loader(script: str) -> ConfigLoader | None:
    """Reads the config of the Hydra app at `script`; None if that cannot be known."""
    place = _find(script)
    return None if place is None else _loader(str(place.directory))


def check_keys(script: str, sweep: SweepDefinition, origin: str) -> None:
    """Refuse a key, or an option of a config group, that is misspelt: the app has a near one.

    Args:
        script: the Hydra app.
        sweep: its first point tells which options of config groups are in effect.
        origin: where the sweep was written, for messages.

    Raises:
        SettingsError: names the near one.
    """
    place = _find(script)
    if place is None:
        return
    loader = _loader(str(place.directory))
    try:
        groups = _groups(loader, sweep.point(0))
        _check_options(loader, groups, origin)
        config = _compose(loader, place.name, groups)
        swept = {key for key in groups if len({p.get(key) for p in islice(sweep, _LOOK_AT)}) > 1}
    except SettingsError:
        raise
    except Exception:  # whatever is wrong with the app's config, the app itself tells better
        return
    known = {**dict.fromkeys(_flat(config)), **dict.fromkeys(_all_groups(loader))}
    for key in sweep.all_keys():
        if key.startswith(_FREE) or key.partition(".")[0] in ("hydra", *swept):
            continue
        name = key.partition("@")[0]
        near = get_close_matches(name, known, n=1, cutoff=0.7)
        if name not in known and near:
            allowed = "a key of the app's config, or written with a + to add one"
            raise SettingsError("key", plain_key(key), origin, allowed, f"did you mean {near[0]}?")


def _find(script: str) -> _Place | None:
    try:
        source = Path(script).read_bytes()
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if b"ConfigStore" in source:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and _is_main(call.func):
                    return _place(call, Path(script))
    return None


def _is_main(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("main", "hydra_main")


def _place(call: ast.Call, script: Path) -> _Place | None:
    arguments = {word.arg: word.value for word in call.keywords if word.arg}
    # Hydra's order: config_path, config_name. Later ones do not matter here.
    arguments |= dict(zip(("config_path", "config_name"), call.args, strict=False))
    given = {}
    for name in ("config_path", "config_name"):
        value = arguments.get(name)
        if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
            return None
        given[name] = value.value
    directory = (script.parent / given["config_path"]).resolve()
    return _Place(directory, given["config_name"]) if directory.is_dir() else None


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


def _groups(loader: ConfigLoader, point: Mapping[str, Any]) -> dict[str, str]:
    """Of a point's parameters, those that choose an option of a config group."""
    return {
        key: value
        for key, value in point.items()
        if isinstance(value, str) and _options(loader, key)
    }


def _options(loader: ConfigLoader, group: str) -> list[str]:
    from hydra.core.object_type import ObjectType

    if group.startswith(_FREE):
        return []
    return loader.get_group_options(group.partition("@")[0], ObjectType.CONFIG)


def _check_options(loader: ConfigLoader, groups: Mapping[str, str], origin: str) -> None:
    for group, chosen in groups.items():
        options = _options(loader, group)
        near = get_close_matches(chosen, options, n=1)
        if chosen not in options and near:
            allowed = f"one of {', '.join(options)}"
            raise SettingsError(group, chosen, origin, allowed, f"did you mean {near[0]}?")


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
    place = _find(script)
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
    return [*lines, *(f"# {line}" for line in values[:_MOST_VALUES])]


def _plain_values(config: Any, skip: Collection[str]) -> Iterator[str]:
    """``key: [value]`` for each number or boolean that is no interpolation."""
    for key in _flat(config):
        value: Any = config
        for part in key.split("."):
            value = value[part]
        if isinstance(value, (bool, int, float)) and key.partition(".")[0] not in skip:
            yield f"{key}: [{str(value).lower()}]"
