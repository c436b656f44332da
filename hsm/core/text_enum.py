"""TextEnum: an enum whose members are their plain words."""

from __future__ import annotations

from enum import Enum


class TextEnum(str, Enum):
    """An enum whose members are equal to their values, and printed as them.

    What enum.StrEnum is from Python 3.11 on, which also changed what formatting a ``(str, Enum)``
    gives: ``str(member)`` and ``f"{member}"`` are the bare word under every Python.
    """

    __str__ = str.__str__
    __format__ = str.__format__  # type: ignore[assignment]
