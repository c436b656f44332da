"""Telling whether two configs are the same in all that OmegaConf and a job can see of them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

from omegaconf.base import Node

#: Values that nobody can change.
_ATOMS = frozenset((str, int, float, bool, bytes, type(None)))
#: Values that are one object wherever they are, copies included.
_NAMED = (type, FunctionType, BuiltinFunctionType, Enum)
#: Where a node is, and what OmegaConf has looked up so far.
_PLACE = frozenset(("_parent", "_flags_cache", "_metadata", "_content"))


def are_equal(one: Any, other: Any) -> bool:
    """Whether two nodes and all below them are equal in values, types, flags and metadata.

    A value that is an object of the app's own, or the result of a resolver in a cache, equals
    nothing: whether a copy of it would do, only the app knows.
    """
    if type(one) is not type(other) or not isinstance(one, Node):
        return False
    mine, theirs = one.__dict__, other.__dict__
    if mine.keys() != theirs.keys():
        return False
    if not _are_equal_metadata(mine["_metadata"].__dict__, theirs["_metadata"].__dict__):
        return False
    plain = mine.keys() - _PLACE
    if not all(_are_equal_values(mine[name], theirs[name]) for name in plain):
        return False
    return _are_equal_contents(mine.get("_content"), theirs.get("_content"))


def _are_equal_contents(mine: Any, theirs: Any) -> bool:
    if type(mine) is not type(theirs):
        return False
    if isinstance(mine, dict):
        if len(mine) != len(theirs):
            return False
        return all(
            _are_equal_values(key, other_key) and are_equal(child, other)
            for (key, child), (other_key, other) in zip(mine.items(), theirs.items(), strict=True)
        )
    if isinstance(mine, list | tuple):
        return len(mine) == len(theirs) and all(map(are_equal, mine, theirs))
    return are_equal(mine, theirs) if isinstance(mine, Node) else _are_equal_values(mine, theirs)


def _are_equal_metadata(mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    if mine.keys() != theirs.keys() or mine["resolver_cache"] or theirs["resolver_cache"]:
        return False
    return all(bool(mine[name] == theirs[name]) for name in mine)


def _are_equal_values(mine: Any, theirs: Any) -> bool:
    if type(mine) is not type(theirs):
        return False
    if type(mine) in _ATOMS or isinstance(mine, Path):
        return bool(mine == theirs) or (mine != mine and theirs != theirs)  # nan
    if type(mine) is dict:  # an enum's members, say
        return _are_equal_values((*mine, *mine.values()), (*theirs, *theirs.values()))
    if type(mine) is tuple:
        return len(mine) == len(theirs) and all(map(_are_equal_values, mine, theirs))
    return mine is theirs and isinstance(mine, _NAMED)
