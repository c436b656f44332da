"""Nodes that OmegaConf has made of values, to be copied when the same values come again."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from hsm.hydra_app.config_copy import copy_node, is_known, is_plain

#: How many different values are remembered.
_MOST = 64

_remembered: dict[Hashable, list[Any]] = {}


def place_of(node: Any) -> Hashable:
    """What becomes of a value in `node`, beside the value itself; None if that is not known.

    Whether the node may be changed at all is left to the caller.
    """
    metadata = node.__dict__["_metadata"]
    if not is_known(node) or not is_plain(metadata) or metadata.resolver_cache:
        return None
    own = metadata.ref_type, metadata.object_type, metadata.optional, metadata.flags_root
    flags = None if metadata.flags is None else tuple(metadata.flags.items())
    return type(node), metadata.key, metadata.key_type, metadata.element_type, *own, flags


def recall(key: Hashable, parent: Any) -> dict[str, Any] | None:
    """Copies of the nodes that are remembered by `key`, by their own keys; None if there are none.

    Args:
        key: what they depend on; None for nothing that could be remembered.
        parent: of the copies.
    """
    nodes = None if key is None else _remembered.get(key)
    return None if nodes is None else _copies(nodes, parent)


def remember(key: Hashable, nodes: Iterable[Any]) -> None:
    """Remember copies of `nodes` by `key`, if that is not None and there is room."""
    found = [*nodes]
    if key is not None and len(_remembered) < _MOST and all(map(is_known, found)):
        _remembered[key] = [*_copies(found, None).values()]
        for node in _remembered[key]:
            node._invalidate_flags_cache()  # it has those of where the original is


def _copies(nodes: Iterable[Any], parent: Any) -> dict[str, Any]:
    copies = {}
    for node in nodes:
        copied = copy_node(node, {})
        copied.__dict__["_parent"] = parent
        copies[copied.__dict__["_metadata"].key] = copied
    return copies


def become(node: Any, kind: type) -> None:
    """Change a node's class. A node's own method would set nothing."""
    object.__setattr__(node, "__class__", kind)
