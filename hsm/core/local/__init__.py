"""Running jobs on this machine, each in its own process, several at a time.

Imports are lazy (PEP 562): fork servers and spawned jobs import modules of this package and should
not load the rest of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hsm.core.local.local_source import LocalComputeSource
    from hsm.core.local.manager import LocalManager

__all__ = ["LocalComputeSource", "LocalManager"]


def __getattr__(name: str) -> Any:
    if name == "LocalComputeSource":
        from hsm.core.local.local_source import LocalComputeSource

        return LocalComputeSource
    if name == "LocalManager":
        from hsm.core.local.manager import LocalManager

        return LocalManager
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
