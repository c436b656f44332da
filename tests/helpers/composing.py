"""Composing an app's configs in this process: by Hydra alone, and from remembered bases."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.base import Node

from helpers.hydra import write_files
from hsm.hydra_app.base_store import Base
from hsm.hydra_app.frozen_config import freeze
from hsm.hydra_app.remembered_bases import remember_bases


class Composers:
    """Two loaders of one app: Hydra's, and one that remembers its bases.

    Attributes:
        from_bases: how many configs the latter made from a base.
    """

    def __init__(self, files: Mapping[str, str], *given: str) -> None:
        setup_globals()
        conf = Path("conf").absolute()
        write_files(conf, files)
        self.plain, self.quick = _loader(conf), _loader(conf)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.master = self.plain.load_configuration("config", list(given), RunMode.MULTIRUN)
        freeze(self.quick)
        remember_bases(self.quick)
        self.from_bases = 0

    def compose(self, *overrides: str) -> DictConfig:
        """Return what the quick loader makes of these overrides, after comparing it to Hydra's."""
        config = self.quickly(*overrides)
        assert tree(config) == tree(self.plain.load_sweep_config(self.master, list(overrides)))
        return config

    def learn(self, *overrides: str) -> None:
        """Compose twice: what both gave is remembered, if it may be."""
        for _ in range(2):
            self.quickly(*overrides)

    def quickly(self, *overrides: str) -> DictConfig:
        """Return what the quick loader makes of these overrides."""
        with patch.object(Base, "copy", autospec=True, side_effect=Base.copy) as copy:
            config = self.quick.load_sweep_config(self.master, list(overrides))
        self.from_bases += copy.call_count
        return config

    def errors(self, *overrides: str) -> tuple[Any, Any]:
        """Return the types and texts of what Hydra and the quick loader raise, causes included."""
        return _errors(self.plain, self.master, overrides), _errors(
            self.quick, self.master, overrides
        )


def _errors(loader: ConfigLoaderImpl, master: DictConfig, overrides: Sequence[str]) -> Any:
    with pytest.raises(Exception) as raised:  # noqa: PT011 -- whatever Hydra raises
        loader.load_sweep_config(master, list(overrides))
    error: BaseException | None = raised.value
    chain: list[Any] = []
    while error is not None:
        chain.append((type(error), str(error)))
        error = error.__cause__
    return chain


def tree(node: Any) -> Any:
    """Return all that an app can see of a config: types, flags, metadata, values, in this order."""
    attributes = dict(node.__dict__)
    for cache in ("_parent", "_flags_cache"):
        attributes.pop(cache, None)
    content = attributes.pop("_content", None)
    children: Any = content
    if isinstance(content, dict):
        assert all(child.__dict__["_parent"] is node for child in content.values())
        children = [(type(key), key, tree(child)) for key, child in content.items()]
    elif isinstance(content, list | tuple):
        assert all(child.__dict__["_parent"] is node for child in content)
        children = [tree(child) for child in content]
    elif isinstance(content, Node):
        children = tree(content)
    metadata = vars(attributes.pop("_metadata"))
    values = [(name, type(value), repr(value)) for name, value in sorted(attributes.items())]
    return type(node), metadata, values, type(content), children


def _loader(conf: Path) -> ConfigLoaderImpl:
    return ConfigLoaderImpl(create_config_search_path(f"file://{conf}"))
