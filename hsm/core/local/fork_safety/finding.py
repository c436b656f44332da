"""What speaks against a fork of the launching process, as one look at it has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MAX_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One thing that speaks against a fork.

    Attributes:
        text: a clause, for a person: ``"polars has been used: …"``.
        is_harmful: a forked job that uses it is known to hang, or to get what is another job's.
            Else it is only not known to be safe.
    """

    text: str
    is_harmful: bool


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
