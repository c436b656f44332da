"""The configs that a sweeper has composed to validate its points, on their way to the jobs.

Hydra composes each point twice: when a sweeper validates its batch, and for the job.

    sweeper --load_sweep_config--> config --note--> packed --take--> the job's argument
    job     --unpack--> config

The second time gives the same as the first, unless something in it belongs to the process or to the
moment. So a config goes to its job only if it was made from a remembered base, and before and after
that no resolver was called and no warning issued, no environment variable was copied into it, and
none of the overrides has a function; and the job takes it only in the directory where it was
composed.
"""

from __future__ import annotations

import os
import pickle
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

from omegaconf import DictConfig, OmegaConf

from hsm.hydra_app import config_pickle
from hsm.hydra_app.base_store import Base, empty_cache
from hsm.hydra_app.base_watch import Watch, watching
from hsm.hydra_app.kept_overrides import is_constant

#: Configs, and bytes of them packed, that wait for their jobs; the jobs of others compose. To pack
#: one takes half a millisecond, and the first job of a batch waits for all of them.
_MAX_CONFIGS, _MAX_BYTES = 250, 16 << 20


class Rest:
    """What a composition does before it looks for its base, and after that has been copied.

    Attributes:
        before: what has happened before; None if nobody watched.
        after: what has happened since; None if there was no base, or nobody watched.
    """

    before: Watch | None = None
    after: Watch | None = None

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def begin(self, base: Base) -> None:
        """Watch from now on, if the base may be used without any notice."""
        if not base.warnings:
            self.after = self._stack.enter_context(watching())

    def is_steady(self) -> bool:
        """Whether it would be the same at another time."""
        return all(
            watch is not None and watch.is_repeatable and not (watch.warnings or watch.resolvers)
            for watch in (self.before, self.after)
        )


_rest: ContextVar[Rest | None] = ContextVar("rest", default=None)


@contextmanager
def following() -> Iterator[Rest]:
    """Follow the composition in the block."""
    with ExitStack() as stack:
        rest = Rest(stack)
        token = _rest.set(rest)
        try:
            yield rest
        finally:
            _rest.reset(token)


@contextmanager
def before_base() -> Iterator[None]:
    """Tell that the block is what a composition does before it looks for its base.

    It reads the search path, say: a resolver may name a folder in it, or warn that there is none.
    """
    rest = _rest.get()
    if rest is None:
        yield
        return
    with watching() as rest.before:
        yield


def base_is_copied(base: Base) -> None:
    """Tell that a composition goes on from this base."""
    rest = _rest.get()
    if rest is not None:
        rest.begin(base)


class ValidatedConfigs:
    """Configs by all overrides that led to them. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()  # guards the rest
        self._packed: dict[tuple[str, ...], bytes] = {}
        self._room = _MAX_BYTES

    def __reduce__(self) -> tuple[type[ValidatedConfigs], tuple[()]]:
        return ValidatedConfigs, ()  # They are for the jobs of the process that composed them.

    def has_room(self) -> bool:
        """Whether another config can be kept."""
        return self._room > 0 and len(self._packed) < _MAX_CONFIGS

    def note(self, overrides: Sequence[str], config: DictConfig, generation: int) -> None:
        """Keep a config for its job, if a job could have no other. There has to be room.

        Args:
            overrides: all that led to it, those of Hydra's config first.
            config: what was composed, in a way that is the same again.
            generation: which state of the ConfigStore it was composed from.
        """
        if not all(map(is_constant, overrides)):
            return
        try:
            if len(config.hydra.job.env_copy):
                return
            with empty_cache(config):
                state = (generation, config.hydra.runtime.cwd, config)
                packed = zlib.compress(config_pickle.dumps(state), 1)
        except Exception:  # of an object of the app's own, say: the job composes for itself
            return
        with self._mutex:
            self._room -= len(packed) - len(self._packed.get(tuple(overrides), b""))
            self._packed[tuple(overrides)] = packed

    def take(
        self, of_hydra: Sequence[str], job_overrides: Sequence[Sequence[str]]
    ) -> list[bytes | None]:
        """Return the configs of a batch's jobs, packed, and forget all others.

        Args:
            of_hydra: the overrides of Hydra's config that all jobs share.
            job_overrides: the overrides of each job.
        """
        with self._mutex:
            packed, self._packed, self._room = self._packed, {}, _MAX_BYTES
        return [packed.get((*of_hydra, *overrides)) for overrides in job_overrides]


def unpack(packed: bytes, generation: int, sweep_config: DictConfig) -> DictConfig | None:
    """Return a job's config, as composing it here would; None if that could give another.

    Args:
        packed: what the launcher has composed.
        generation: which state of the ConfigStore this process has.
        sweep_config: what resolvers have returned in it is the same in the job.
    """
    try:
        composed_from, directory, config = pickle.loads(zlib.decompress(packed))
    except Exception:  # of a class that this process has not
        return None
    if composed_from != generation or directory != os.getcwd():
        return None
    OmegaConf.copy_cache(from_config=sweep_config, to_config=config)
    return config  # type: ignore[no-any-return]
