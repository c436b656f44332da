"""Dropping, in every forked child, what only this process may have, whoever forks.

There is one at-fork hook for all of it, because each hook touches memory pages that a forked job
then has to copy.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")

# Additions to a dict and removals are atomic, so no fork can come in the middle of one.
_registered: dict[weakref.ref[Any], Callable[[Any], object]] = {}


def in_child(thing: _T, forget: Callable[[_T], object]) -> None:
    """Make every child that is forked while `thing` exists call ``forget(thing)``, once.

    `forget` runs right after the fork, when the child has no other threads. It must not take a lock
    that another thread of the parent may have held.
    """
    _registered[weakref.ref(thing, _unregister)] = forget


def _unregister(reference: weakref.ref[Any]) -> None:
    _registered.pop(reference, None)


def _forget_all() -> None:
    if _registered:
        registered = list(_registered.items())
        _registered.clear()
        for reference, forget in registered:
            thing = reference()
            if thing is not None:
                forget(thing)


os.register_at_fork(after_in_child=_forget_all)
