"""A finding: one thing that speaks against forking the launching process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_MAX_NAMED = 3


class Finding(NamedTuple):
    """One thing that speaks against a fork.

    Attributes:
        text: a clause for messages: ``"polars has been used: …"``.
        is_harmful: whether a forked job that uses it is known to hang, or to get data meant for
            another job. If False, it is merely not known to be safe.
    """

    text: str
    is_harmful: bool


def listed(names: Sequence[str]) -> str:
    """Join the first few names, and say how many more there are."""
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
