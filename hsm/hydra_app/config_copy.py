"""Copying a config node by node: what `copy.deepcopy` gives, in a tenth of the time.

OmegaConf's own deep copy makes each node with its constructor, which validates a value that was
valid before, and copies its metadata through pickle's protocol. Most of that time goes into finding
out how to copy. This copies the kinds of nodes that configs are made of in a direct way, and leaves
every other kind, such as unions and classes of the app's own, to `copy.deepcopy`.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from enum import Enum
from typing import Any, TypeVar

import omegaconf
from omegaconf import (
    AnyNode,
    BooleanNode,
    BytesNode,
    Container,
    EnumNode,
    FloatNode,
    IntegerNode,
    PathNode,
    StringNode,
)
from omegaconf.base import ContainerMetadata, Metadata

_C = TypeVar("_C", bound=Container)

#: What copies have been made of so far, by the id of the original: that of `copy.deepcopy`.
Memo = dict[int, Any]

#: Kinds of values whose copies differ from the original in nothing but the metadata and parent.
_VALUES = frozenset(
    (AnyNode, BooleanNode, BytesNode, EnumNode, FloatNode, IntegerNode, PathNode, StringNode)
)
#: Kinds of containers; the last one came with OmegaConf 2.4.
CONTAINERS: tuple[type[Container], ...] = tuple(
    vars(omegaconf)[name]
    for name in ("DictConfig", "ListConfig", "TupleConfig")
    if name in vars(omegaconf)
)
#: Numbers of attributes that nodes have, and fields of their metadata. Where there are others, this
#: OmegaConf is not one that this module knows.
_NODE_SIZES: dict[Any, int] = dict.fromkeys((*_VALUES, *CONTAINERS), 4) | {EnumNode: 6}
_METADATA_SIZES: dict[type, int] = {Metadata: 7, ContainerMetadata: 9}
#: Kinds of keys that deepcopy does not copy.
_KEYS = frozenset((str, int, type(None)))
_new = object.__new__


def copy_config(node: _C) -> _C:
    """Return what `copy.deepcopy(node)` returns: a copy equal in every node, flag and type."""
    copied: _C = copy_node(node, {}) if is_known(node) else copy.deepcopy(node)
    return copied


def is_known(node: Any) -> bool:
    """Whether `node` is of a kind that `copy_node` copies."""
    size = _NODE_SIZES.get(type(node))
    return size is not None and size == len(node.__dict__)


def is_plain(metadata: Any) -> bool:
    """Whether a node's metadata is of a kind that is known."""
    attributes = metadata.__dict__
    return (
        len(attributes) == _METADATA_SIZES.get(type(metadata))
        and type(attributes["resolver_cache"]) is defaultdict
    )


def enum_fields(kind: type[Enum]) -> dict[str, Any]:
    """Return what an EnumNode holds beside its type."""
    return {name: member.value for name, member in kind.__members__.items()}


def copy_node(node: Any, memo: Memo) -> Any:
    """Return a copy of `node`, as its own `__deepcopy__` does.

    Args:
        node: a node of a kind that is known. Its copy has the same parent.
        memo: as `copy.deepcopy` passes it: nodes that are shared are copied once.
    """
    attributes, kind = node.__dict__, type(node)
    duplicate = memo[id(node)] = _new(kind)
    copied = duplicate.__dict__
    if kind is EnumNode:
        copied["fields"] = enum_fields(attributes["enum_type"])
        copied["enum_type"] = attributes["enum_type"]
    copied["_metadata"] = _copy_metadata(attributes["_metadata"], memo)
    copied["_parent"] = attributes["_parent"]
    if kind in _VALUES:
        copied["_flags_cache"] = None
        copied["_val"] = attributes["_val"]  # not copied: it may be an object that cannot be
        return duplicate
    cache, content = attributes["_flags_cache"], attributes["_content"]
    copied["_flags_cache"] = None if cache is None else dict(cache)
    if isinstance(content, dict):
        content = {key: _copy_child(child, duplicate, memo) for key, child in content.items()}
    elif isinstance(content, list):
        content = [_copy_child(child, duplicate, memo) for child in content]
    copied["_content"] = content  # None or a text, an interpolation say, is not copied
    return duplicate


def _copy_child(child: Any, parent: Any, memo: Memo) -> Any:
    duplicate = memo.get(id(child))
    if duplicate is None:
        if is_known(child):
            duplicate = copy_node(child, memo)
        else:
            above = child.__dict__["_parent"]
            child.__dict__["_parent"] = None  # which is not to be copied
            try:
                duplicate = copy.deepcopy(child, memo)
            finally:
                child.__dict__["_parent"] = above
    duplicate.__dict__["_parent"] = parent
    return duplicate


def _copy_metadata(metadata: Any, memo: Memo) -> Any:
    kind, attributes = type(metadata), metadata.__dict__
    flags, cache = attributes["flags"], attributes["resolver_cache"]
    if (
        id(metadata) in memo
        or not is_plain(metadata)
        or cache
        or type(attributes["key"]) not in _KEYS
    ):
        return copy.deepcopy(metadata, memo)
    duplicate = memo[id(metadata)] = _new(kind)
    copied = duplicate.__dict__
    copied.update(attributes)
    # Two nodes share these if one is a shallow copy of the other.
    if flags is not None:
        copied["flags"] = memo.get(id(flags))
        if copied["flags"] is None:
            copied["flags"] = memo[id(flags)] = dict(flags)
    copied["resolver_cache"] = memo.get(id(cache))
    if copied["resolver_cache"] is None:
        copied["resolver_cache"] = memo[id(cache)] = defaultdict(cache.default_factory)
    return duplicate
