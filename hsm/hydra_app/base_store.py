"""The bases that a loader remembers: which there are, for how long, and on the way to a job."""

from __future__ import annotations

import operator
import os
import pickle
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hsm.hydra_app import config_pickle
from hsm.hydra_app.base_watch import IssuedWarning, Watch, is_known_resolver
from hsm.hydra_app.equal_configs import are_equal

#: Bases are kept up to this size together, the last used ones. A small app's takes 7 kB.
_MAX_BYTES = 16 << 20
#: Choices of which no base can be remembered.
_MAX_REFUSED = 10_000
#: The generation of the ConfigStore in a new interpreter: it is none of the launcher's.
NOBODYS = -1
#: With these set, a warning becomes an error.
_STRICT_VARIABLES = ("HYDRA_DEPRECATION_WARNINGS_AS_ERRORS", "SELF_WARNING_AS_ERROR")


@dataclass(frozen=True)
class Base:
    """A merged config before any value is overridden, and what else comes of the same choices.

    Attributes:
        config: the config, pickled: compact, and nobody can change it.
        choices: the option that was chosen of each group, as Hydra reports them to the job.
        warnings: those that composing it issues.
        resolvers: the names of the resolvers that are called.
    """

    config: bytes
    choices: dict[str, Any]
    warnings: tuple[IssuedWarning, ...]
    resolvers: frozenset[str]

    @classmethod
    def of(cls, config: DictConfig, watch: Watch, choices: dict[str, Any]) -> Base | None:
        """Make a base of what was composed under `watch`; None if it cannot be pickled."""
        try:
            packed = config_pickle.dumps(config)
        except Exception:  # an object of the app's own raises what it likes
            return None
        return cls(packed, choices, tuple(watch.warnings), frozenset(watch.resolvers))

    def came_again(self, config: DictConfig, watch: Watch, choices: dict[str, Any]) -> bool:
        """Whether another composition has given the same, in the same way."""
        if self.choices != choices or self.resolvers != frozenset(watch.resolvers):
            return False
        mine, theirs = (
            [str(each.message) for each in issued] for issued in (self.warnings, watch.warnings)
        )
        try:
            return mine == theirs and are_equal(pickle.loads(self.config), config)
        except Exception:  # a class that pickle does not find
            return False

    def is_usable(self) -> bool:
        """Whether Hydra, composing it anew now, would call the same resolvers and only warn."""
        is_strict = any(os.environ.get(name) for name in _STRICT_VARIABLES)
        return not (self.warnings and is_strict) and all(map(is_known_resolver, self.resolvers))

    def copy(self) -> DictConfig:
        """Return a new copy of the config."""
        config: DictConfig = pickle.loads(self.config)
        return config


class Bases:
    """The bases that belong to one state of the ConfigStore, by the choices that lead to them.

    Threads may look for bases at any time, and a process that is forked at any time as well: there
    is no lock. Only one thread learns at a time, the one that is being watched.

    Attributes:
        generation: counts the states of the ConfigStore.

    Args:
        learner: the process that learns; jobs, which compose once, do not.
        stored: the nodes of the ConfigStore.
    """

    def __init__(self, learner: int, stored: Sequence[Any] = (), generation: int = 0) -> None:
        self.generation = generation
        self._stored = stored
        self._learner = learner
        self._seen: OrderedDict[Hashable, Base] = OrderedDict()  # composed once
        self._known: OrderedDict[Hashable, Base] = OrderedDict()
        self._refused: OrderedDict[Hashable, None] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        # A new interpreter may have other classes of the same names, so it composes all itself.
        return Bases, (0, (), NOBODYS)

    def now(self, stored: Sequence[Any]) -> Bases:
        """Return these, or new ones if the ConfigStore has other nodes than before."""
        if len(stored) == len(self._stored) and all(map(operator.is_, stored, self._stored)):
            return self
        generation = NOBODYS if self.generation == NOBODYS else self.generation + 1
        return Bases(self._learner, stored, generation)

    def is_learning(self) -> bool:
        """Whether this process is the one that learns."""
        return os.getpid() == self._learner

    def find(self, key: Hashable) -> Base | None:
        """Return the base of these choices, if one is known and usable."""
        base = self._known.get(key)
        if base is None or not base.is_usable():
            return None
        with suppress(KeyError):  # another thread has just learned too much
            self._known.move_to_end(key)
        return base

    def learns(self, key: Hashable) -> bool:
        """Whether a composition with these choices is worth watching."""
        return self.is_learning() and key not in self._refused

    def learn(
        self, key: Hashable, config: DictConfig, watch: Watch, choices: dict[str, Any]
    ) -> None:
        """Take note of what came of these choices. What came twice is remembered.

        Args:
            key: the choices.
            config: what was merged.
            watch: what happened meanwhile.
            choices: the option that was chosen of each group.
        """
        seen = self._seen.pop(key, None)
        with empty_cache(config):
            if not watch.is_repeatable:
                self.refuse(key)
            elif seen is not None and seen.came_again(config, watch, choices):
                _keep(self._known, key, seen)
            elif seen is None and (base := Base.of(config, watch, choices)) is not None:
                _keep(self._seen, key, base)
            else:
                self.refuse(key)

    def refuse(self, key: Hashable) -> None:
        """Take note that what comes of these choices may be otherwise each time."""
        self._refused[key] = None
        if len(self._refused) > _MAX_REFUSED:
            self._refused.popitem(last=False)

    def known(self) -> frozenset[Hashable]:
        """Return the choices of which there are bases."""
        return frozenset(self._known)

    def pack(self, key: Hashable) -> bytes | None:
        """Return a base for another process of the same app; None if there is none."""
        base = self._known.get(key)
        return None if base is None else pickle.dumps((self.generation, key, base))

    def unpack(self, packed: bytes) -> None:
        """Take over a base from the process that these bases come from."""
        with suppress(Exception):  # of a class that this process has not
            generation, key, base = pickle.loads(packed)
            base.copy()
            if generation == self.generation:
                _keep(self._known, key, base)


@contextmanager
def empty_cache(config: DictConfig) -> Iterator[None]:
    """Leave out what resolvers returned in the merge: each composition calls them anew."""
    cache = OmegaConf.get_cache(config)
    OmegaConf.clear_cache(config)
    try:
        yield
    finally:
        config._metadata.resolver_cache = cache


def _keep(kept: OrderedDict[Hashable, Base], key: Hashable, base: Base) -> None:
    kept[key] = base
    while len(kept) > 1 and sum(len(each.config) for each in kept.values()) > _MAX_BYTES:
        kept.popitem(last=False)
