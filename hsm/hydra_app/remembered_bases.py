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
import os
import sys
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import is_dataclass
from types import FunctionType
from typing import Any, NamedTuple

from hydra import version
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.core_plugins.structured_config_source import StructuredConfigSource
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import DefaultsTreeNode, ResultDefault, VirtualRoot
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from hsm.hydra_app.base_store import Base, Bases
from hsm.hydra_app.base_watch import Watch, watching
from hsm.hydra_app.frozen_config import (
    FrozenFileSource,
    FrozenPackageSource,
    FrozenRepository,
    class_name,
)
from hsm.hydra_app.kept_overrides import KeptOverridesParser, overrides_of_hydra
from hsm.hydra_app.plain_composing import composes_plainly
from hsm.hydra_app.quick_appends import QuickLoaderImpl, open_dict_after_lists
from hsm.hydra_app.source_infos import source_info
from hsm.hydra_app.validated_configs import (
    ValidatedConfigs,
    base_is_copied,
    before_base,
    following,
    unpack,
)

#: Sources whose configs stay as they are: files that were read, and the ConfigStore, which is
#: compared. An app's own source may return something else each time.
_STEADY_SOURCES = frozenset(
    map(class_name, (FrozenFileSource, FrozenPackageSource, StructuredConfigSource))
)
#: What `noting_keys` notes in.
_noted_keys: ContextVar[list[Hashable] | None] = ContextVar("noted_keys", default=None)
#: Fields of Hydra's Overrides that say nothing of groups, or only what came of the others.
_NOT_CHOICES = frozenset(("config_overrides", "override_metadata"))


def remember_bases(config_loader: ConfigLoader) -> None:
    """Make `config_loader` compose from remembered bases from now on. Idempotent.

    Its config files must be frozen. Other loaders stay as they are. Does nothing if the user wants
    plain composing, or if the loader is not Hydra's own or somebody has patched it.
    """
    repository = getattr(config_loader, "repository", None)
    if type(config_loader) is not ConfigLoaderImpl or type(repository) is not FrozenRepository:
        return
    names = vars(config_loader_impl)
    is_patched = (
        names["create_defaults_list"] is not create_defaults_list
        or names["OverridesParser"] is not OverridesParser
    )
    if not is_patched and not composes_plainly():
        config_loader.__dict__["bases"] = Bases(os.getpid(), _stored(repository))
        config_loader.__dict__["validated"] = ValidatedConfigs()
        config_loader.__class__ = RememberingLoader


class Supplied(NamedTuple):
    """What a job gets from the launcher, lest it composes all by itself; it is packed.

    Attributes:
        config: the job's config, if a sweeper has had it composed.
        base: the base of its config, if its server does not know that.
    """

    config: bytes | None = None
    base: bytes | None = None


NOTHING = Supplied()


def supplied_config(
    loader: ConfigLoader, sweep_config: DictConfig, supplied: Supplied
) -> DictConfig | None:
    """Return the config that the launcher has supplied for a job.

    Args:
        loader: would compose it; it gets the base that was supplied.
        sweep_config: the sweep's.
        supplied: what the job got.

    Returns:
        None if it has to be composed.
    """
    config = None
    if isinstance(loader, RememberingLoader):
        if supplied.config is not None:
            config = unpack(supplied.config, loader.generation(), sweep_config)
        if config is None and supplied.base is not None:
            loader.bases.unpack(supplied.base)
    return config


@contextmanager
def noting_keys() -> Iterator[list[Hashable]]:
    """Note the choices of the jobs whose configs are composed in the block, None for unknown ones.

    Bases are for jobs alone. A config that Hydra composes for another purpose keeps what resolvers
    returned in the merge; a job's has that of the sweep's config.
    """
    noted: list[Hashable] = []
    token = _noted_keys.set(noted)
    try:
        yield noted
    finally:
        _noted_keys.reset(token)


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
    noted, bases = _noted_keys.get(), repo.bases  # type: ignore[attr-defined] # see the loader
    if noted is None:
        return create_defaults_list(*arguments)
    overrides = None
    with suppress(Exception):  # Hydra raises the same again, from the place that users know.
        overrides = Overrides(repo=repo, overrides_list=overrides_list)
    asked = (config_name, prepend_hydra, skip_missing)
    key = None if overrides is None else _key(repo, overrides, asked)
    noted.append(key)
    if overrides is None or key is None:
        return create_defaults_list(*arguments)
    base: Base | None = bases.find(key)
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
        # Of a defaults list, every value that a resolver returns matters.
        is_repeatable = watch is not None and watch.is_repeatable and not watch.resolvers
        if watch is not None and not is_repeatable:
            bases.refuse(key)
    if watch is None or not is_repeatable:
        return result
    defaults = _Defaults(result.defaults)
    defaults.key, defaults.watch = key, watch
    defaults.choices = dict(result.overrides.known_choices)
    result.defaults = defaults
    return result


def _key(repo: IConfigRepository, overrides: Overrides, asked: Hashable) -> Hashable:
    """Return all that a base depends on; None if it depends on what nobody knows."""
    sources = repo.get_sources()
    if not _STEADY_SOURCES.issuperset(class_name(type(source)) for source in sources):
        return None
    choices = {name: value for name, value in vars(overrides).items() if name not in _NOT_CHOICES}
    try:
        return (
            asked,
            str(version.getbase()),
            tuple((class_name(type(each)), each.provider, each.path) for each in sources),
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
        validated: configs that a sweeper has had it compose, for the jobs.
    """

    bases: Bases
    validated: ValidatedConfigs

    def lacks(self, key: Hashable) -> bool:
        """Whether there is no base of these choices, but one may be learned."""
        return key is not None and self.bases.find(key) is None and self.bases.learns(key)

    def generation(self) -> int:
        """Which state the ConfigStore is in."""
        self.bases = self.bases.now(_stored(self.repository))
        return self.bases.generation

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Compose a job's config."""
        noting = nullcontext() if _noted_keys.get() is not None else noting_keys()
        if not (self.bases.is_learning() and self.validated.has_room()):
            with noting:
                return _load_sweep_config(self, master_config, sweep_overrides)  # type: ignore[no-any-return]
        with noting, following() as rest:
            config: DictConfig = _load_sweep_config(self, master_config, sweep_overrides)
        if rest.is_steady():
            overrides = [*overrides_of_hydra(master_config), *sweep_overrides]
            self.validated.note(overrides, config, self.bases.generation)
        return config

    def _parse_overrides_and_create_caching_repo(self, *args: Any, **kwargs: Any) -> Any:
        with before_base():
            parsed, repo = _parse_and_create_repo(self, *args, **kwargs)
        # For `_list_defaults`, which gets no loader.
        repo.bases = self.bases = self.bases.now(_stored(repo))
        return parsed, repo

    def _compose_config_from_defaults_list(
        self, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        compose = super()._compose_config_from_defaults_list
        if not isinstance(defaults, _Defaults):
            return compose(defaults=defaults, repo=repo)
        if defaults.base is not None:
            base_is_copied(defaults.base)
            return defaults.base.copy()
        with watching(defaults.watch) as watch:
            config = compose(defaults=defaults, repo=repo)
            if watch is not None:  # Inside: one thread learns at a time.
                learn = repo.bases.learn  # type: ignore[attr-defined]
                learn(defaults.key, config, watch, defaults.choices)
        return config


def _with_own_names(method: str) -> Any:
    """Return a method of Hydra's loader that calls this module's functions by Hydra's names.

    Replacing them in Hydra's module would change every other loader in the process.
    """
    function: FunctionType = getattr(ConfigLoaderImpl, method)
    names = {
        **function.__globals__,
        "create_defaults_list": _list_defaults,
        "OverridesParser": KeptOverridesParser,
        "ConfigSourceInfo": source_info,
        "ConfigLoaderImpl": QuickLoaderImpl,
        "open_dict": open_dict_after_lists,
    }
    rebound = FunctionType(
        function.__code__, names, method, function.__defaults__, function.__closure__
    )
    rebound.__kwdefaults__ = function.__kwdefaults__
    return functools.update_wrapper(rebound, function)


_parse_and_create_repo = _with_own_names("_parse_overrides_and_create_caching_repo")
_load_sweep_config = _with_own_names("load_sweep_config")
RememberingLoader._load_configuration_impl = _with_own_names(  # type: ignore[method-assign]
    "_load_configuration_impl"
)
