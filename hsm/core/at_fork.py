"""What this process has and no child that is forked from it may keep, whoever forks it.

All of it hangs on one hook: a job that hsm forks pays for each page that a hook of its own touches.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")

# A plain dict: additions and removals are atomic, so no fork finds it in between.
_things: dict[weakref.ref[Any], Callable[[Any], object]] = {}


def in_child(thing: _T, forget: Callable[[_T], object]) -> None:
    """Have every child that is forked while `thing` lives call ``forget(thing)``, once.

    `forget` runs among the first things in the child, where it is alone: it must not take a lock
    that another thread of the parent may have held.
    """
    _things[weakref.ref(thing, _gone)] = forget


def _gone(reference: weakref.ref[Any]) -> None:
    _things.pop(reference, None)


def _forget_all() -> None:
    if _things:
        things = list(_things.items())
        _things.clear()
        for reference, forget in things:
            thing = reference()
            if thing is not None:
                forget(thing)


os.register_at_fork(after_in_child=_forget_all)
