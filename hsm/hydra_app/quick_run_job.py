"""Hydra's preparation of a job in less time, with the same configs and the same files.

Some operations of OmegaConf's take most of the time of Hydra's `run_job`. While a job is being
prepared, they are done by quicker means:

    copy.deepcopy(config)  -->  a structural copy, see `hsm.hydra_app.config_copy`
    OmegaConf.masked_copy  -->  the same, put into an empty config without being checked once more
    a copy that is dropped -->  not made, see `Preparation`
    OmegaConf.to_yaml      -->  texts that the launcher knows, see `hsm.hydra_app.quick_yaml`
    ${interpolation}       -->  parsed once for all jobs: the tree depends on nothing but the text

The app's function and its callbacks find OmegaConf as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig, ListConfig, OmegaConf, _utils, base
from omegaconf.errors import OmegaConfBaseException
from omegaconf.grammar_parser import parse

from hsm.hydra_app.config_copy import Memo, copy_node, is_known
from hsm.hydra_app.plain_composing import composes_plainly
from hsm.hydra_app.quick_yaml import NO_TEXTS, KnownTexts, known_texts, quick_to_yaml

#: Parts of Hydra's config whose interpolations every job resolves.
_RESOLVED = ("sweep", "job", "job_logging")

#: `parse` of OmegaConf's, which remembers.
_parsed = lru_cache(maxsize=512)(parse)


def get_ready(config: DictConfig) -> KnownTexts:
    """Do in the launcher what would else be done in every job.

    Args:
        config: the sweep's.

    Returns:
        For `prepared_quickly`: the texts of the config's parts as YAML.
    """
    if composes_plainly():
        return NO_TEXTS
    of_hydra: Any = OmegaConf.to_container(config.hydra, resolve=False)
    for name in _RESOLVED:
        _parse_all(of_hydra.get(name))  # An override may delete any: Hydra then fails each job.
    return known_texts(config)


def _parse_all(data: Any) -> None:
    if isinstance(data, str) and "${" in data:
        with suppress(OmegaConfBaseException):  # The job that needs it will fail.
            _parsed(data)
    elif isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            _parse_all(value)


class Preparation:
    """How far Hydra's `run_job` has come, which copies Hydra's config four times.

    Nobody sees two of these copies. The first config that it sets is replaced as soon as the job's
    directory is known, and from the copy that it makes for the app, Hydra's config is deleted.
    """

    def __init__(self) -> None:
        self._config: DictConfig | None = None
        self._times_set = 0

    def begin(self, config: DictConfig) -> None:
        """Tell that `run_job` is called with this config next."""
        self._config = config

    def sets(self, config: Any) -> bool:
        """Take note that a config is set; returns whether it is the one to be replaced."""
        if config is not self._config:
            return False
        self._times_set += 1
        return self._times_set == 1

    def copies_for_app(self, config: Any) -> bool:
        """Whether the copy of a config is the app's."""
        if config is not self._config or self._times_set != 2:
            return False
        self._config = None  # The next copy is none of this kind.
        return True


@contextmanager
def prepared_quickly(context: HydraContext, texts: KnownTexts) -> Iterator[Preparation]:
    """Have Hydra prepare the job that is run in this block quickly, up to its `on_job_start`.

    Args:
        context: has the app's callbacks.
        texts: what `get_ready` returned in the launcher.

    Returns:
        to be told when `run_job` is called.
    """
    preparation = Preparation()
    if composes_plainly():
        yield preparation
        return
    changes = [*_changes(texts, preparation)]
    own = [(place, name, vars(place)[name]) for place, name, _ in changes]
    # Hydra tells the first one first of the job's start.
    context.callbacks.callbacks.insert(0, _EndsPreparation(partial(_set, own)))
    try:
        _set(changes)
        yield preparation
    finally:
        _set(own)


#: An object, one of its attributes, and a value for it.
_Change = tuple[Any, str, Any]


def _set(changes: Sequence[_Change]) -> None:
    for place, name, value in changes:
        setattr(place, name, value)


def _changes(texts: KnownTexts, preparation: Preparation) -> Iterator[_Change]:
    for kind in (DictConfig, ListConfig):
        yield kind, "__deepcopy__", _quick_deepcopy(kind.__deepcopy__, preparation)
    masked_copy = _quick_masked_copy(OmegaConf.masked_copy, preparation)
    yield OmegaConf, "masked_copy", staticmethod(masked_copy)
    if any(texts):
        yield OmegaConf, "to_yaml", staticmethod(quick_to_yaml(texts, OmegaConf.to_yaml))
    for module in (base, _utils):
        yield module, "parse", _parsed


class _EndsPreparation(Callback):
    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._end()


def _quick_deepcopy(
    own: Callable[[Any, Memo], Any], preparation: Preparation
) -> Callable[[Any, Memo], Any]:
    def deepcopy(node: Any, memo: Memo) -> Any:
        if not is_known(node):
            return own(node, memo)
        if preparation.copies_for_app(node):
            memo[id(node.__dict__["_content"]["hydra"])] = DictConfig({})
        return copy_node(node, memo)

    return deepcopy


def _quick_masked_copy(
    own: Callable[[Any, Any], DictConfig], preparation: Preparation
) -> Callable[[Any, Any], DictConfig]:
    def masked_copy(conf: Any, keys: Any) -> DictConfig:
        content = conf.__dict__["_content"] if type(conf) is DictConfig else None
        node = content.get(keys) if type(content) is dict and type(keys) is str else None
        if type(node) is not DictConfig or not is_known(node):
            return own(conf, keys)
        masked = DictConfig({})
        if not preparation.sets(conf):
            node = copy_node(node, {})
            node._set_parent(masked)
            node._set_key(keys)
        masked.__dict__["_content"][keys] = node
        return masked

    return masked_copy
