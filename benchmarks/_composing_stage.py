"""Composing a set of overrides twice: by Hydra's own loader, and by one that remembers.

    (app, seed) --make_sets--> sets --Stage.compare--> what differs, if anything

A seed's sets go through one remembering loader in turn, so that each meets bases that others have
left. Nothing depends on anything but the app and the seed.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import pickle
import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core import utils as hydra_utils
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer

import _composing_schemas as schemas
from _composing_apps import App
from _override_sets import Set
from _tree_differences import difference, error_chain, ruin
from hsm.hydra_app.frozen_config import freeze
from hsm.hydra_app.kept_overrides import overrides_of_hydra
from hsm.hydra_app.remembered_bases import RememberingLoader
from hsm.hydra_app.validated_configs import unpack

Remember = Callable[[ConfigLoader], None]


class Stage:
    """A process as an app would have it: its files, ConfigStore, resolvers, version_base.

    Its own state comes back when it is left. Composing has to leave random numbers, counters of
    resolvers and warnings as Hydra's own loader does; a `default_factory` may be called more often.

    Args:
        folder: an empty folder for the app's files.
        remember: makes a loader remember.
    """

    def __init__(self, app: App, folder: Path, remember: Remember) -> None:
        self.app = app
        self.folder = folder
        self._remember = remember
        self._plain: dict[bool, ConfigLoaderImpl] = {}
        self.masters: dict[str, DictConfig] = {}
        self._hydra_configs: dict[str, bytes] = {}
        self._leave = contextlib.ExitStack()
        #: What remembering loaders did, and how compositions ended.
        self.seen: Counter[str] = Counter()

    def __enter__(self) -> Stage:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_own_state())
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            self.app.write_files(self.folder)
            sys.path.insert(0, os.fspath(self.folder))
            version.setbase(self.app.version_base)
            setup_globals()
            self.app.prepare()
            JobRuntime.instance().set("name", self.app.name)
            self._plain = {True: self.new_loader(frozen=True), False: self.new_loader(frozen=False)}
            with self.process(Set("", (), self._environment())):
                for text in self.app.masters:
                    with contextlib.suppress(HydraException):  # another Hydra's
                        self.masters[text] = self._master(text)
                for text, config in self.masters.items():
                    HydraConfig.instance().set_config(config)  # too slow for each set
                    self._hydra_configs[text] = pickle.dumps(HydraConfig.instance().cfg)
            if not self.masters:
                raise ValueError(f"Hydra cannot begin any sweep of {self.app.name}")
            self._leave = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.close()

    def possible(self, sets: Sequence[Set]) -> list[Set]:
        """Return the sets whose sweep the present Hydra can begin."""
        return [one for one in sets if one.master in self.masters]

    def overrides(self, one: Set) -> list[str]:
        """Return a set's overrides with the app's folder in them."""
        return [text.replace("FOLDER", os.fspath(self.folder)) for text in one.overrides]

    def remembering_loader(self) -> ConfigLoaderImpl:
        """Return a new loader that reads the files once and remembers what it composed."""
        loader = self.new_loader(frozen=True)
        self._remember(loader)
        return loader

    def compare(self, loader: ConfigLoaderImpl, one: Set, *, frozen: bool = True) -> str | None:
        """Compose a set by `loader` and by Hydra's own, and return how they differ.

        Args:
            loader: a remembering one.
            one: the set.
            frozen: whether Hydra's own loader reads files from memory, too, which costs less.
        """
        with self.process(one):
            expected = self._compose(self._plain[frozen], one)
        with self.process(one):
            actual = self._compose(loader, one)
        self.seen["sets"] += 1
        self.seen["errors" if expected.error else "configs"] += 1
        if not expected.error:
            assert expected.merged, "Hydra's own loader has composed nothing"
            merged = "merged_nothing" if not actual.merged else "merged_once"
            self.seen[merged if actual.merged <= expected.merged else "merged_twice"] += 1
        try:
            return self._difference(expected, actual, one) or self._compare_validated(loader, one)
        finally:
            ruin(actual.config)

    def _compare_validated(self, loader: ConfigLoaderImpl, one: Set) -> str | None:
        """Compare what a job would get of what was just composed, at another time and place."""
        if one.call != "job" or not isinstance(loader, RememberingLoader):
            return None
        of_hydra = overrides_of_hydra(self.masters[one.master])
        (packed,) = loader.validated.take(of_hydra, [self.overrides(one)])
        if packed is None:
            return None
        self.seen["validated"] += 1
        names = dict(one.environment)
        others = {
            name: [each for each in values if each != names.get(name)]
            for name, values in self.app.environment.items()
            if name in names
        }
        environment = tuple((name, values[0]) for name, values in others.items() if values)
        later = replace(one, state=one.state + 1, environment=environment or one.environment)
        with self.process(later):
            expected = self._compose(self._plain[True], later)
        with self.process(later):
            actual = self._compose(loader, later, packed)
        found = self._difference(expected, actual, later)
        return None if found is None else f"validated before: {found}"

    def _difference(self, expected: _Outcome, actual: _Outcome, one: Set) -> str | None:
        for name in ("error", "warned", "calls", "random"):
            mine, its = getattr(actual, name), getattr(expected, name)
            if mine != its:
                return f"{name}: {mine!r:.1500}, not {its!r:.1500}"
        if expected.error:
            return None
        found = difference(actual.config, expected.config)
        if found is None and one.thorough:
            with self.process(one):
                found = _difference_in_use(actual.config, expected.config)
        return found

    def _compose(self, loader: ConfigLoaderImpl, one: Set, packed: bytes | None = None) -> _Outcome:
        outcome = _Outcome()
        merging = _Merging()
        with warnings.catch_warnings(record=True) as caught, merging:
            warnings.simplefilter("always")
            try:
                outcome.config = self._call(loader, one, packed)
            except Exception as error:
                outcome.error = error_chain(error)
        outcome.warned = [(warning.category.__name__, str(warning.message)) for warning in caught]
        outcome.calls = dict(schemas.calls)
        outcome.random = hash(random.getstate())
        outcome.merged = merging.count
        return outcome

    def _call(self, loader: ConfigLoaderImpl, one: Set, packed: bytes | None) -> DictConfig:
        overrides = self.overrides(one)
        if packed is not None:
            assert isinstance(loader, RememberingLoader)
            config = unpack(packed, loader.generation(), self.masters[one.master])
            assert config is not None, "the job refuses it"
            return config
        if one.call == "job":
            return loader.load_sweep_config(self.masters[one.master], overrides)
        config_name, *of_hydra = one.master.split(" ")
        of_hydra = [text for text in of_hydra if text.startswith("hydra")]
        mode = RunMode.RUN if one.call == "run" else RunMode.MULTIRUN
        return loader.load_configuration(config_name, [*of_hydra, *overrides], mode)

    def _master(self, text: str) -> DictConfig:
        config_name, *overrides = text.split(" ")
        return self._plain[True].load_configuration(config_name, overrides, RunMode.MULTIRUN)

    def _environment(self) -> tuple[tuple[str, str], ...]:
        return tuple((name, values[0]) for name, values in self.app.environment.items())

    @contextlib.contextmanager
    def process(self, one: Set) -> Iterator[None]:
        """What a set's process has of its own: variables, counters, random numbers, HydraConfig."""
        schemas.calls.clear()
        schemas.made["next"] = one.state
        random.seed(one.state)
        os.environ.update(one.environment)
        clock: Any = hydra_utils  # where ${now:} looks
        clock.datetime = _Clock(one.state)
        instance = HydraConfig.instance()
        # Its own: a merge may take a node out of it.
        packed = self._hydra_configs.get(one.master)
        instance.cfg = None if packed is None else pickle.loads(packed)
        try:
            yield
        finally:
            instance.cfg = None
            clock.datetime = datetime
            for name, _ in one.environment:
                del os.environ[name]

    def new_loader(self, *, frozen: bool) -> ConfigLoaderImpl:
        path = create_automatic_config_search_path(None, None, os.fspath(self.folder))
        loader = ConfigLoaderImpl(config_search_path=path)
        if frozen:
            freeze(loader)
        return loader


class _Clock:
    """A time of day that stands still."""

    def __init__(self, state: int) -> None:
        self._now = datetime.fromtimestamp(state, timezone.utc)

    def now(self) -> datetime:
        return self._now


class _Outcome:
    config: Any = None
    error: list[tuple[str, str, bool]] | None = None
    warned: list[tuple[str, str]]
    calls: dict[str, int]
    random: int
    merged: int


class _Merging:
    """Counts the configs that Hydra's own code merges: none, where a base is remembered."""

    def __enter__(self) -> _Merging:
        self.count = 0
        original = self._original = ConfigLoaderImpl._load_single_config

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return original(*args, **kwargs)

        ConfigLoaderImpl._load_single_config = counted  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        ConfigLoaderImpl._load_single_config = self._original  # type: ignore[method-assign]


def _difference_in_use(mine: DictConfig, its: DictConfig) -> str | None:
    """Compare what is made of two configs: copies, resolved values, YAML."""
    found = difference(copy.deepcopy(mine), copy.deepcopy(its))
    if found is not None:
        return f"deep copy: {found}"
    ways: dict[str, Callable[[Any], Any]] = {
        "YAML": OmegaConf.to_yaml,
        "container": lambda config: OmegaConf.to_container(config, resolve=True),
        "YAML of resolved": lambda config: OmegaConf.to_yaml(config, resolve=True),
        "missing keys": OmegaConf.missing_keys,
    }
    for name, way in ways.items():
        results = []
        for config in (mine, its):
            random.seed(1)
            schemas.calls.clear()
            HydraConfig.instance().cfg = config  # type: ignore[assignment]
            try:
                results.append(repr(way(config)))
            except Exception as error:
                results.append(repr(error_chain(error)))
        if results[0] != results[1]:
            return f"{name}: {results[0]:.1500}, not {results[1]:.1500}"
    return difference(mine, its)


@contextlib.contextmanager
def _own_state() -> Iterator[None]:
    """Give back, in the end, what apps change of a process."""
    Plugins.instance()  # which stores its configs when it is first asked for
    store, resolvers = ConfigStore.instance(), BaseContainer._resolvers
    saved = (store.repo, dict(resolvers), version.getbase(), HydraConfig.instance().cfg)
    environment, path, state = dict(os.environ), list(sys.path), random.getstate()
    modules = set(sys.modules)
    os.environ.setdefault("HOME", "/")
    store.repo = copy.deepcopy(store.repo)
    try:
        yield
    finally:
        store.repo, kept, base, HydraConfig.instance().cfg = saved
        resolvers.clear()
        resolvers.update(kept)
        version.VersionBase.instance().version_base = base
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        random.setstate(state)
        for name in set(sys.modules) - modules:
            if name.partition(".")[0] == "fuzz_package":
                del sys.modules[name]


def run_sets(stage: Stage, sets: Sequence[Set], *, frozen: bool = True) -> tuple[int, str] | None:
    """Compare sets in turn on a new loader; return the first that differs, and how."""
    loader = stage.remembering_loader()
    for number, one in enumerate(sets):
        found = stage.compare(loader, one, frozen=frozen)
        if found is not None:
            return number, found
    return None


def shrink(stage: Stage, sets: Sequence[Set], *, frozen: bool = True) -> list[Set]:
    """Return as few sets, with as few overrides, as still differ."""

    def differs(those: Sequence[Set]) -> bool:
        return run_sets(stage, those, frozen=frozen) is not None

    left = list(sets)
    size = len(left) // 2
    while size:  # whole stretches first
        for start in range(len(left) - 1 - size, -1, -size):
            if differs(shorter := left[:start] + left[start + size :]):
                left = shorter
        size //= 2
    for at, number in itertools.product(range(len(left)), range(20, -1, -1)):
        texts = left[at].overrides
        if number < len(texts):
            fewer = replace(left[at], overrides=texts[:number] + texts[number + 1 :])
            if differs(shorter := [*left[:at], fewer, *left[at + 1 :]]):
                left = shorter
    return left
