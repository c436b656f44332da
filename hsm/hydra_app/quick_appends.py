"""Noting the overrides in a config without the checks that all but the first would repeat.

Hydra appends each override to a list in the config, which takes a seventh of a composition from a
base. While it does so, its two lists have classes of this module's:

    overrides are applied --> ListConfig --> _First --append--> _Next --append--> … --> ListConfig
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, ListConfig, StringNode, open_dict

from hsm.hydra_app.config_copy import copy_node, is_known
from hsm.hydra_app.quick_runtime import note_quickly
from hsm.hydra_app.remembered_nodes import become, place_of, recall, remember

_append = ListConfig.append


class _First(ListConfig):
    def append(self, item: Any) -> None:
        """Append what the list of an earlier config got first, with another text."""
        become(self, ListConfig)
        content = self.__dict__["_content"]
        is_new = _is_plain(item) and not content and not self._get_flag("readonly")
        key = place_of(self) if is_new else None
        if (first := recall(key, self)) is None:
            self.append(item)
            if type(content[0]) is StringNode:
                remember(key, content)
        else:
            (node,) = first.values()
            node.__dict__["_val"] = item
            content.append(node)
        become(self, _Next)


class _Next(ListConfig):
    def append(self, item: Any) -> None:
        """Append a copy of the last node, which differs in the text alone."""
        content = self.__dict__["_content"]
        last = content[-1]
        if not _is_plain(item) or type(last) is not StringNode or not is_known(last):
            _append(self, item)
            return
        node = copy_node(last, {})
        node.__dict__["_val"] = item
        node.__dict__["_metadata"].key = len(content)
        content.append(node)


def _is_plain(item: Any) -> bool:
    """Whether any list of texts takes this one: of an interpolation, the syntax is checked."""
    return type(item) is str and "${" not in item


class QuickLoaderImpl(ConfigLoaderImpl):
    """What Hydra's loader finds by the name of its class: applying overrides precedes the lists."""

    @staticmethod
    def _apply_overrides_to_config(overrides: Any, cfg: DictConfig) -> None:
        ConfigLoaderImpl._apply_overrides_to_config(overrides, cfg)
        lists = [*_lists(_content(cfg).get("hydra"), ListConfig)]
        # One that is an interpolation may lead to the other, through checks of its class.
        if ListConfig.append is _append and all(type(_raw(each)) is list for each in lists):
            for each in lists:
                become(each, _First)


def open_dict_after_lists(config: Any) -> AbstractContextManager[Any]:
    """Stand in for OmegaConf's `open_dict`, with which Hydra goes on after the lists."""
    for each in _lists(config, _First, _Next):
        become(each, ListConfig)
    opened = open_dict(config)
    note_quickly(_content(config).get("runtime"))
    return opened


def _lists(of_hydra: Any, *kinds: type[ListConfig]) -> Iterator[ListConfig]:
    overrides = _content(_content(of_hydra).get("overrides"))
    for name in ("hydra", "task"):
        node = overrides.get(name)
        if isinstance(node, ListConfig) and type(node) in kinds:
            yield node


def _content(node: Any) -> dict[str, Any]:
    content = _raw(node) if type(node) is DictConfig else None
    return content if type(content) is dict else {}


def _raw(node: Any) -> Any:
    return node.__dict__["_content"]
