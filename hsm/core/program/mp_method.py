"""The start method of the app's own `multiprocessing`, in a fresh interpreter that loads the app.

There it holds before anything is loaded, so that what modules make at import is of that method. But
a module may choose it itself, as it did in the launching process, and modules need not come in the
same order: whoever came first must not make it fail with "context has already been set".
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def chosen() -> str | None:
    """The start method that this process has settled on; None if it has not."""
    context = sys.modules.get("multiprocessing.context")
    if context is None:
        return None
    method: str | None = context._default_context.get_start_method(allow_none=True)
    return method


@contextmanager
def held(method: str | None) -> Iterator[None]:
    """Have `method` hold while the app is loaded, whatever a module chooses, and after it."""
    if method is None:
        yield
        return
    import multiprocessing

    # Modules that are loaded take the function itself from there, and keep it.
    choose = multiprocessing.set_start_method
    is_loading = True

    def set_start_method(method: str | None, force: bool = False) -> None:
        """As `multiprocessing.set_start_method`; while the app is loaded, as often as it likes."""
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
