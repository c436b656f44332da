"""Gives a fresh interpreter that loads the app the app's `multiprocessing` start method.

It is set before anything is loaded, so that objects that modules make at import use it. But a
module may also set it itself, as it did in the launcher's process, and modules may load in another
order: that must not fail with "context has already been set".
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def chosen() -> str | None:
    """The start method that this process has chosen; None if it has not chosen one."""
    context = sys.modules.get("multiprocessing.context")
    if context is None:
        return None
    method: str | None = context._default_context.get_start_method(allow_none=True)
    return method


@contextmanager
def held(method: str | None) -> Iterator[None]:
    """Set `method` before the app is loaded in the block, and again after it.

    Inside the block modules may set any method, any number of times.
    """
    if method is None:
        yield
        return
    import multiprocessing

    # A module may import the function and keep it, so that function must know when loading ends.
    choose = multiprocessing.set_start_method
    is_loading = True

    def set_start_method(method: str | None, force: bool = False) -> None:
        """Like `multiprocessing.set_start_method`, but may be repeated while the app loads."""
        choose(method, force=force or is_loading)

    own: Any = multiprocessing
    default: Any = multiprocessing.context._default_context
    choose(method)
    own.set_start_method = default.set_start_method = set_start_method
    try:
        yield
    finally:
        is_loading = False
        own.set_start_method = choose
        del default.set_start_method
        choose(method, force=True)
