"""Comparing composed configs node by node, and ruining one whose parts nobody else may have.

`difference` looks at all that OmegaConf keeps of a node, as two configs with the same text may
still behave differently: types, flags, metadata, parents, contents and their order.
"""

from __future__ import annotations

import enum
import pathlib
from collections.abc import Iterator
from typing import Any

from omegaconf import AnyNode
from omegaconf.base import Node

#: Told apart by what they say: -0.0 from 0.0, and one nan like another.
_BY_REPR = (float, complex)
#: Attributes that are looked at in another way, or hold what can be computed anew.
_SEPARATE = frozenset(("_metadata", "_parent", "_flags_cache"))
#: What two configs may share, since nobody can change it.
_IMMUTABLE = (str, int, float, complex, bool, bytes, type, type(None), enum.Enum, pathlib.PurePath)


def difference(one: Node, other: Node) -> str | None:
    """Return where two trees first differ; None if they are equal and share no node."""
    found = next(_differences(one, other, ""), None)
    return None if found is None else found.lstrip(".")


def _differences(one: Any, other: Any, path: str) -> Iterator[str]:
    if type(one) is not type(other):
        yield f"{path}: {type(one).__name__} {one!r:.80}, not {type(other).__name__} {other!r:.80}"
    elif isinstance(one, Node):
        yield from _node_differences(one, other, path)
    elif isinstance(one, dict):
        if list(one) != list(other):
            yield f"{path}: keys {list(one)}, not {list(other)}"
        else:
            for key, value in one.items():
                yield from _differences(value, other[key], f"{path}.{key}")
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            yield f"{path}: {len(one)} items, not {len(other)}"
        else:
            for index, value in enumerate(one):
                yield from _differences(value, other[index], f"{path}.{index}")
    elif one is not other and not _is_same(one, other):
        yield f"{path}: {one!r:.80}, not {other!r:.80}"


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, _BY_REPR):
        return repr(one) == repr(other)
    return bool(one == other) or (not isinstance(one, _IMMUTABLE) and repr(one) == repr(other))


def _node_differences(one: Node, other: Node, path: str) -> Iterator[str]:
    if one is other:
        yield f"{path}: one node in both"
        return
    mine, its = one.__dict__, other.__dict__
    yield from _metadata_differences(mine["_metadata"], its["_metadata"], path)
    for flag in ("readonly", "struct"):  # as cached, or inherited
        if one._get_flag(flag) != other._get_flag(flag):
            yield f"{path}: flag {flag} is {one._get_flag(flag)}, not {other._get_flag(flag)}"
    if mine.keys() != its.keys():
        yield f"{path}: attributes {sorted(mine)}, not {sorted(its)}"
        return
    for name, value in mine.items():
        if name in _SEPARATE:
            continue
        if name == "_content" and isinstance(value, (dict, list)) and value is its[name]:
            yield f"{path}: one content in both"
        for child, twin in _children(value, its[name]):
            if (child.__dict__["_parent"] is one) != (twin.__dict__["_parent"] is other):
                yield f"{path}: the parent of {child._key()}"
        yield from _differences(value, its[name], path)


def _metadata_differences(mine: Any, its: Any, path: str) -> Iterator[str]:
    if mine is its or type(mine) is not type(its):
        yield f"{path}: metadata {type(mine).__name__} is shared, or not {type(its).__name__}"
        return
    for name, value in mine.__dict__.items():
        theirs = its.__dict__[name]
        if value is theirs and isinstance(value, (dict, list)):
            yield f"{path}: one {name} in both"
        elif value is not theirs and (value != theirs or isinstance(value, dict)):
            yield from _differences(value, theirs, f"{path}<{name}>")


def _children(value: Any, its: Any) -> Iterator[tuple[Node, Node]]:
    pairs: Any = ((value, its),)
    if isinstance(value, dict) and isinstance(its, dict):
        pairs = zip(value.values(), its.values(), strict=False)
    elif isinstance(value, list) and isinstance(its, list):
        pairs = zip(value, its, strict=False)
    for child, twin in pairs:
        if isinstance(child, Node) and isinstance(twin, Node):
            yield child, twin


def ruin(node: Any) -> None:
    """Change a config in every place, to the harm of whatever shares a part with it."""
    if not isinstance(node, Node):
        return
    attributes = node.__dict__
    content = attributes.get("_content")
    if isinstance(content, dict):
        for child in content.values():
            ruin(child)
        content.clear()
        content["ruined"] = AnyNode("ruined", key="ruined")
    elif isinstance(content, list):
        for child in content:
            ruin(child)
        content.clear()
    else:
        ruin(content)
    metadata = attributes["_metadata"]
    metadata.flags.update(ruined=True)
    metadata.resolver_cache["ruined"] = {}
    if isinstance(attributes.get("_flags_cache"), dict):
        attributes["_flags_cache"].update(struct=None, readonly=True)


def error_chain(error: BaseException | None) -> list[tuple[str, str, bool]]:
    """Return an error and what led to it: types, texts, and whether it was named as the cause."""
    chain: list[tuple[str, str, bool]] = []
    while error is not None and len(chain) < 20:
        named = error.__cause__ is not None
        chain.append((type(error).__qualname__, str(error), named))
        error = error.__cause__ if named or error.__suppress_context__ else error.__context__
    return chain
