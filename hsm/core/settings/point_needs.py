"""What single points of a sweep need: the value of their key ``_needs_``, which is no parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hsm.core.needs import NEEDS, NO_NEEDS, check_needs
from hsm.core.settings.resolve import SETTINGS


def read_needs(value: object, origin: str) -> dict[str, int]:
    """What a point's ``_needs_`` say, a mapping or text such as licence=2. Raises SettingsError."""
    needs: dict[str, int] = SETTINGS["needs"].check(value, origin)
    return needs


def take_needs(
    index: int, point: dict[str, Any], resources: Mapping[str, int]
) -> Mapping[str, int]:
    """Remove a point's own needs from it, and return them.

    Args:
        index: the point's, for errors.
        point: the point.
        resources: what there is.

    Raises:
        SettingsError: these are no needs, or can never be met.
    """
    if NEEDS not in point:
        return NO_NEEDS
    origin = f"{NEEDS} of point {index}"
    needs = read_needs(point.pop(NEEDS), origin)
    check_needs(needs, resources, origin)
    return needs


def take_all_needs(
    points: Sequence[dict[str, Any]], resources: Mapping[str, int], first: int = 0
) -> list[Mapping[str, int]]:
    """Remove their own needs from points, and return them; `first` is the place of the first."""
    return [take_needs(index, point, resources) for index, point in enumerate(points, first)]
