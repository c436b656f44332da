"""Checking a sweep's keys against the config of a Hydra app, before any job starts.

    the app's config files --composed here--.
                                            +--> what the sweep may set
    the app itself, run up to its main() ---'    (hsm.hydra_app.app_config)

The files are enough for most sweeps. If they would refuse one, or do not tell (the app registers
configs in Python, or finds its own in another way), the app itself is asked, which costs one start
of it. Hydra composes the configs in both cases, with the choices of config groups that the points
make. So no right key is refused; what is wrong with a value is left to the jobs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from hsm.core.errors import SettingsError, did_you_mean, shown
from hsm.core.program.hydra_script import config_place
from hsm.core.space.arguments import to_override
from hsm.core.space.definition import SweepDefinition
from hsm.core.space.grammar import plain_key
from hsm.core.space.selection import Selection
from hsm.hydra_app.app_config import Point, look, plain_group
from hsm.hydra_app.asked_app import CannotAsk, ask

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

#: Points that are looked at, from the start and in between; values of a config group.
_MAX_POINTS, _MAX_OPTIONS = 500, 1000
_KEY_PARTS = re.compile(r"[./@\[]")
_ALLOWED = "a key of the app's config, or written with a + to add one"


def config_loader(script: str) -> ConfigLoader | None:
    """Make a loader for the Hydra app's configs; None if it is unknown where they are."""
    place = config_place(script)
    return None if place is None else _loader(str(place.directory))


@lru_cache(maxsize=4)
def _loader(directory: str) -> ConfigLoader:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.plugins import Plugins

    Plugins.instance()  # registers the types of config sources
    return ConfigLoaderImpl(create_config_search_path(directory))


def check_keys(words: Sequence[str], sweep: SweepDefinition | Selection, origin: str) -> str:
    """Refuse keys that the app's config lacks, and options that a config group lacks.

    Args:
        words: what runs the Hydra app: an interpreter with its options, and the script.
        sweep: the sweep whose keys are checked.
        origin: where the sweep was written, for messages.

    Returns:
        Why nothing was checked; "" if everything was.

    Raises:
        SettingsError: a key or option does not exist; suggests a similar one, if there is one.
    """
    script, points = words[-1], [_point(params) for params in _some_points(sweep)]
    refusal = None
    if (place := config_place(script)) is not None:
        files = _Checked(look(_loader(str(place.directory)), place.name, points), sweep, origin)
        refusal = files.refusal()
        if refusal is None and files.not_composed() is None:
            return ""
    try:
        asked = _Checked(ask(words, points), sweep, origin)
    except CannotAsk as error:
        if refusal is not None:
            raise refusal from None
        return f"cannot check the keys of this sweep: {script} {error}"
    refusal = asked.refusal() or asked.not_composed()
    if refusal is not None:
        raise refusal
    return ""


def _some_points(sweep: SweepDefinition | Selection) -> Iterator[Mapping[str, Any]]:
    if isinstance(sweep, Selection):
        yield from islice(sweep, _MAX_POINTS)
        return
    count = sweep.count()
    step = max(1, count // _MAX_POINTS)
    first, between = range(min(count, _MAX_POINTS)), range(0, count, step)
    for index in dict.fromkeys((*first, *between[: 2 * _MAX_POINTS], count - 1)):
        yield sweep.point(index)


def _point(params: Mapping[str, Any]) -> Point:
    return [
        (key, to_override(key, value), value)
        for key, value in params.items()
        if not isinstance(value, dict)
    ]


class _Checked:
    """What a sweep sets, beside what an app's config has.

    Attributes:
        configs: those of the composed configs in which a key may be.

    Args:
        found: what `app_config.look` has found.
        sweep: the sweep.
        origin: where it was written.
    """

    def __init__(
        self, found: Mapping[str, Any], sweep: SweepDefinition | Selection, origin: str
    ) -> None:
        self._groups: Mapping[str, list[str]] = found["groups"]
        self._made: list[dict[str, Any]] = found["chosen"]
        self._sweep, self._origin = sweep, origin
        self._keys = sweep.all_keys()
        self._chosen = [key for key in self._keys if self._groups.get(plain_group(key))]
        values = {key: self._sweep.values_of(key, _MAX_OPTIONS) for key in self._chosen}
        self._values = {key: [*map(str, values[key])] for key in values}
        done = {pair for made in self._made for pair in _choices(made)}
        pairs = [(key, value) for key in values for value in self._values[key]]
        self._left = [pair for pair in pairs if pair not in done]
        self._is_sure = found["is_complete"] and not self._left
        self.configs = [made["config"] for made in self._made if made["config"] is not None]
        if not self._is_sure and found["base"] is not None:
            self.configs.append(found["base"])

    def refusal(self) -> SettingsError | None:
        """The error of the first key, or option of a config group, that is not there."""
        errors = chain(self._options(), filter(None, map(self._key, self._keys)))
        return next(iter(errors), None) if self.configs or self._made else None

    def not_composed(self) -> SettingsError | None:
        """The error that the app's config does not compose with what some points choose."""
        for made in self._made:
            if made["config"] is None:
                words = [f"{key}={value}" for key, value in made["overrides"].items()]
                what = f" with {' '.join(words)}" if words else ""
                reason = f"the app's config does not compose{what}: {made['error']}"
                message = f"{self._origin}: {reason}"
                allowed = "a choice that composes"
                key = "config"
                return SettingsError(key, what, self._origin, allowed, reason, message=message)
        return None

    def _options(self) -> Iterator[SettingsError]:
        not_made = (made for made in self._made if made["config"] is None)
        failed = {pair for made in not_made for pair in _choices(made)}
        for key in self._chosen:
            options = self._groups[plain_group(key)]
            for value in dict.fromkeys(self._values[key]):
                hint = did_you_mean(value, options)
                is_wrong = (key, value) in failed or ((key, value) in self._left and hint)
                if value not in options and is_wrong and re.fullmatch(r"[\w-]+", value):
                    allowed = f"one of {', '.join(options)}"
                    yield SettingsError(key, value, self._origin, allowed, hint)

    def _key(self, key: str) -> SettingsError | None:
        """The error of a key that does not exist, or that is to be added and exists."""
        name = plain_group(key)
        if key.startswith("++") or key in self._chosen or name in self._groups:
            return None
        if not self.configs or _KEY_PARTS.split(name)[0] in ("hydra", *self._open_groups()):
            return None
        if key.startswith("+"):
            return self._added(key, name)
        if self._is_below_added(name) or not all(_would_be_new(name, c) for c in self.configs):
            return None
        known = [other for other in self._known() if not name.startswith(f"{other}.")]
        near = did_you_mean(name, known, cutoff=0.7)
        if not near and not self._is_sure:
            return None
        hint = near or ("" if key.startswith("~") else f"+{name}=... adds it")
        rest = f"; {hint}" if hint else " to delete"
        message = f"{self._origin}: the app's config has no key {shown(name)}{rest}"
        return SettingsError("key", plain_key(key), self._origin, _ALLOWED, hint, message=message)

    def _added(self, key: str, name: str) -> SettingsError | None:
        """The error of a key with a +, which Hydra refuses if the key has a value already."""
        values = self._sweep.values_of(key, 1)
        if isinstance(values[0], (dict, list)) or not self._is_sure:
            return None
        if not all(_has_value(name, config) for config in self.configs):
            return None
        hint = f"{name}=... overrides it, ++{name}=... overrides or adds it"
        message = f"{self._origin}: the app's config has a key {shown(name)} already; {hint}"
        return SettingsError("key", key, self._origin, "a new key", hint, message=message)

    def _open_groups(self) -> set[str]:
        """Groups whose keys are not all known, since not all options were composed."""
        return {_KEY_PARTS.split(plain_group(key))[0] for key, _ in self._left}

    def _is_below_added(self, name: str) -> bool:
        added = (plain_group(key) for key in self._keys if key.startswith("+"))
        return any(name == other or name.startswith(f"{other}.") for other in added)

    def _known(self) -> list[str]:
        keys = (key for config in self.configs for key in flat(config))
        return [*dict.fromkeys(chain(keys, self._groups))]


def _choices(made: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The choices of config groups that gave a config."""
    return ((key, str(value)) for key, value in made["overrides"].items())


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


def _has_value(key: str, config: Any) -> bool:
    """Whether the config has a value for the key; an interpolation may have one or not."""
    node = config
    for part in _KEY_PARTS.split(key):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    is_open = isinstance(node, str) and (node == "???" or "${" in node)
    return node is not None and not is_open


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield every key of a config, dotted, including the keys of mappings."""
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
