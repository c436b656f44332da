"""Composing configs from remembered bases.

What takes long when Hydra composes a config is to build the defaults list and to merge the configs
that it names. Both depend only on the config's name, the sources of configs and the overrides of
groups. Overrides of values are applied afterwards. So a loader that remembers its bases, the merged
configs before any value is overridden, composes the next config with the same choices from a copy:

    overrides --parse--> choices of groups --> [defaults list, merge]  or  a copy of the base
                     '-> values -----------------------------------------> applied by Hydra

All other steps are Hydra's own code. A base is remembered when two compositions have given the
same, and nothing that happened in them could be otherwise the next time (see `base_watch`). Only
the process that asked for this learns bases; jobs that it forks use them.
"""

from __future__ import annotations

import functools
import operator
import os
import pickle
import sys
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, is_dataclass
from types import FunctionType
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.core_plugins.structured_config_source import StructuredConfigSource
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import DefaultsTreeNode, ResultDefault, VirtualRoot
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from hsm.hydra_app.base_watch import IssuedWarning, Watch, is_known_resolver, watching
from hsm.hydra_app.config_copy import copy_config
from hsm.hydra_app.equal_configs import are_equal
from hsm.hydra_app.frozen_config import (
    FrozenFileSource,
    FrozenPackageSource,
    FrozenRepository,
    class_name,
)
from hsm.hydra_app.kept_overrides import KeptOverridesParser
from hsm.hydra_app.plain_composing import composes_plainly

#: Bases are kept up to this size together, the last used ones. A small app's takes 15 kB.
_MAX_BYTES = 16 << 20
#: Keys of bases that are known not to be the same twice.
_MAX_REFUSED = 10_000
#: Sources whose configs stay as they are: files that were read, and the ConfigStore, which is
#: compared. An app's own source may return something else each time.
_STEADY_SOURCES = frozenset(
    map(class_name, (FrozenFileSource, FrozenPackageSource, StructuredConfigSource))
)
#: With these set, a warning becomes an error.
_STRICT_VARIABLES = ("HYDRA_DEPRECATION_WARNINGS_AS_ERRORS", "SELF_WARNING_AS_ERROR")

#: Fields of Hydra's Overrides that say nothing of groups, or only what came of the others.
_NOT_CHOICES = frozenset(("config_overrides", "override_metadata"))


def remember_bases(config_loader: ConfigLoader) -> None:
    """Make `config_loader` compose from remembered bases from now on. Idempotent.

    Its config files must be frozen. Other loaders stay as they are. Does nothing if the user wants
    plain composing, or if the loader is not Hydra's own.
    """
    repository = getattr(config_loader, "repository", None)
    if type(config_loader) is not ConfigLoaderImpl or type(repository) is not FrozenRepository:
        return
    if not composes_plainly():
        config_loader.__dict__["bases"] = Bases()
        config_loader.__class__ = RememberingLoader


@dataclass(frozen=True)
class Base:
    """A merged config before any value is overridden, and what else comes of the same choices.

    Attributes:
        config: the config, pickled.
        choices: the option that was chosen of each group, as Hydra reports them to the job.
        warnings: those that composing it issues.
        resolvers: the names of the resolvers that are called.
    """

    config: bytes
    choices: dict[str, Any]
    warnings: tuple[IssuedWarning, ...]
    resolvers: frozenset[str]

    def is_usable(self) -> bool:
        """Whether Hydra, composing it anew now, would call the same resolvers and only warn."""
        is_strict = any(os.environ.get(name) for name in _STRICT_VARIABLES)
        return not (self.warnings and is_strict) and all(map(is_known_resolver, self.resolvers))

    def equals(self, other: Base) -> bool:
        """Whether the other came of the same choices in the same way."""
        is_same_way = (self.choices, self.resolvers) == (other.choices, other.resolvers)
        texts, others = ([str(each.message) for each in base.warnings] for base in (self, other))
        configs = pickle.loads(self.config), pickle.loads(other.config)
        return is_same_way and texts == others and are_equal(*configs)

    def copy(self) -> DictConfig:
        """Return a new copy of the config."""
        config: DictConfig = pickle.loads(self.config)
        return config


class Bases:
    """The bases of one loader, by the choices that lead to them. Thread-safe."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()  # guards what follows
        self._seen: OrderedDict[Hashable, Base] = OrderedDict()  # composed once
        self._known: OrderedDict[Hashable, Base] = OrderedDict()
        self._refused: OrderedDict[Hashable, None] = OrderedDict()
        self._stored: list[Any] = []

    def __reduce__(self) -> tuple[Any, ...]:
        # A new interpreter may have other classes of the same names, so it composes all itself.
        return _NoBases, ()

    def find(self, key: Hashable, stored: list[Any]) -> Base | None:
        """Return the base of these choices, if one is known and still holds.

        Args:
            key: the choices.
            stored: what the ConfigStore has now. All is forgotten if it has changed.
        """
        with self._lock:
            self._compare(stored)
            base = self._known.get(key)
            if base is not None:
                self._known.move_to_end(key)
        return base if base is not None and base.is_usable() else None

    def learns(self, key: Hashable) -> bool:
        """Whether a composition with these choices is worth watching."""
        return os.getpid() == self._pid and key not in self._refused

    def learn(self, key: Hashable, base: Base | None) -> None:
        """Take note of what came of these choices; None if that may be otherwise the next time."""
        with self._lock:
            seen = self._seen.pop(key, None)
            if base is None or (seen is not None and not seen.equals(base)):
                self._refused[key] = None
                while len(self._refused) > _MAX_REFUSED:
                    self._refused.popitem(last=False)
                return
            kept = self._seen if seen is None else self._known
            kept[key] = base
            while len(kept) > 1 and sum(len(each.config) for each in kept.values()) > _MAX_BYTES:
                kept.popitem(last=False)

    def _compare(self, stored: list[Any]) -> None:
        if len(stored) == len(self._stored) and all(map(operator.is_, stored, self._stored)):
            return
        self._stored = stored
        self._seen.clear()
        self._known.clear()
        self._refused.clear()


class _NoBases(Bases):
    """The bases of a loader that was pickled: none, and it learns none."""

    def find(self, key: Hashable, stored: list[Any]) -> Base | None:
        return None

    def learns(self, key: Hashable) -> bool:
        return False


class _Defaults(list[ResultDefault]):
    """A defaults list on its way from the step that builds it to the step that merges.

    Attributes:
        base: what merging gives, if that is known.
        key: else, the choices to learn a base of; None if there is nothing to learn.
        choices: the option that was chosen of each group.
        watch: what happened while the list was built.
    """

    base: Base | None = None
    key: Hashable = None
    choices: dict[str, Any]
    watch: Watch


def _list_defaults(
    repo: IConfigRepository,
    config_name: str | None,
    overrides_list: list[Override],
    prepend_hydra: bool,
    skip_missing: bool,
) -> DefaultsList:
    """Stand in for Hydra's `create_defaults_list`, which is called by this name and these."""
    arguments = (repo, config_name, overrides_list, prepend_hydra, skip_missing)
    bases: Bases | None = getattr(repo, "bases", None)
    overrides = Overrides(repo=repo, overrides_list=overrides_list)
    key = _key(repo, overrides, (config_name, prepend_hydra, skip_missing))
    if bases is None or key is None:
        return create_defaults_list(*arguments)
    base = bases.find(key, _stored(repo))
    if base is not None:
        for warning in base.warnings:
            warning.issue()
        overrides.known_choices = dict(base.choices)
        defaults = _Defaults()
        defaults.base = base
        # The tree is for those who ask for the defaults list alone.
        tree = DefaultsTreeNode(node=VirtualRoot())
        return DefaultsList(defaults, tree, overrides.config_overrides, overrides)
    if not bases.learns(key):
        return create_defaults_list(*arguments)
    with watching() as watch:
        result = create_defaults_list(*arguments)
    if watch is None:
        return result
    if watch.resolvers or not watch.is_repeatable:  # Of a defaults list, each value matters.
        bases.learn(key, None)
        return result
    defaults = _Defaults(result.defaults)
    defaults.key, defaults.watch = key, watch
    defaults.choices = dict(result.overrides.known_choices)
    result.defaults = defaults
    return result


def _key(repo: IConfigRepository, overrides: Overrides, asked: Hashable) -> Hashable:
    """Return all that a base depends on; None if it depends on what nobody knows."""
    sources = repo.get_sources()
    kinds = [class_name(type(source)) for source in sources]
    if not _STEADY_SOURCES.issuperset(kinds):
        return None
    choices = {name: value for name, value in vars(overrides).items() if name not in _NOT_CHOICES}
    try:
        return (
            asked,
            str(version.getbase()),
            tuple((type(source), source.provider, source.path) for source in sources),
            _hashable(choices),
        )
    except TypeError:
        return None


def _hashable(value: Any) -> Hashable:
    """Return a key that is equal for equal values of the same types. Raises TypeError."""
    if is_dataclass(value) and not isinstance(value, type):
        return type(value), _hashable(vars(value))
    if isinstance(value, dict):
        return tuple((key, _hashable(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return type(value), *map(_hashable, value)
    if value is None or isinstance(value, str | int | float | bool):
        return type(value), value
    if isinstance(value, set) and not value:
        return ()
    raise TypeError(f"unknown: {type(value)}")


def _stored(repo: IConfigRepository) -> list[Any]:
    """Return the names and nodes that the ConfigStore has."""
    stored: list[Any] = []
    for source in repo.get_sources():
        if source.scheme() == StructuredConfigSource.scheme():
            # Hydra 1.3 keeps the store in it.
            _flatten(getattr(source, "store", ConfigStore.instance()).repo, stored)
    return stored


def _flatten(group: dict[str, Any], stored: list[Any]) -> None:
    for name, held in group.items():
        stored.append(sys.intern(name))
        if isinstance(held, dict):
            _flatten(held, stored)
        else:
            # The config of a plugin may be made when it is asked for.
            stored += held, held.__dict__.get("node")


class RememberingLoader(ConfigLoaderImpl):
    """Hydra's loader, which looks for a base before it lists the defaults.

    Attributes:
        bases: what it remembers.
    """

    bases: Bases

    def _parse_overrides_and_create_caching_repo(self, *args: Any, **kwargs: Any) -> Any:
        parsed, repo = _parse_and_create_repo(self, *args, **kwargs)
        repo.bases = self.bases  # for `_list_defaults`, which gets no loader
        return parsed, repo

    def _compose_config_from_defaults_list(
        self, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        compose = super()._compose_config_from_defaults_list
        if not isinstance(defaults, _Defaults):
            return compose(defaults=defaults, repo=repo)
        if defaults.base is not None:
            return defaults.base.copy()
        with watching(defaults.watch) as watch:
            config = compose(defaults=defaults, repo=repo)
        if watch is not None:
            self.bases.learn(defaults.key, _base(config, watch, defaults.choices))
        return config


def _base(config: DictConfig, watch: Watch, choices: dict[str, Any]) -> Base | None:
    """Make a base of what was composed; None if it cannot be copied, or is not the same again."""
    if not watch.is_repeatable:
        return None
    config = copy_config(config)
    # Of its own merge; no later one has seen it.
    OmegaConf.clear_cache(config)
    try:
        packed = pickle.dumps(config, pickle.HIGHEST_PROTOCOL)
        is_same = are_equal(config, pickle.loads(packed))
    except Exception:  # a class that pickle does not find, or an object that it cannot copy
        return None
    return (
        Base(packed, choices, tuple(watch.warnings), frozenset(watch.resolvers))
        if is_same
        else None
    )


def _with_own_names(method: str) -> Any:
    """Return a method of Hydra's loader that calls this module's functions by Hydra's names.

    Replacing them in Hydra's module would change every other loader in the process.
    """
    function: FunctionType = getattr(ConfigLoaderImpl, method)
    names = {
        **function.__globals__,
        "create_defaults_list": _list_defaults,
        "OverridesParser": KeptOverridesParser,
    }
    rebound = FunctionType(
        function.__code__, names, method, function.__defaults__, function.__closure__
    )
    rebound.__kwdefaults__ = function.__kwdefaults__
    return functools.update_wrapper(rebound, function)


_parse_and_create_repo = _with_own_names("_parse_overrides_and_create_caching_repo")
# The last is of Hydra 1.4.
for _name in "_load_configuration_impl", "load_sweep_config", "parse_overrides":
    if hasattr(ConfigLoaderImpl, _name):
        setattr(RememberingLoader, _name, _with_own_names(_name))
