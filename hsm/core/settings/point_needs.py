"""What single points of a sweep need: the value of their key ``_needs_``, which is no parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hsm.core.errors import SettingsError
from hsm.core.needs import GPU_NAMES, NEEDS, NO_NEEDS, OwnNeeds, check_needs, countable
from hsm.core.settings.mappings import PointNeeds
from hsm.core.settings.resolve import SweepConf, accept

_KIND = PointNeeds()


@dataclass(frozen=True)
class Shared:
    """What the jobs of a sweep have to share.

    Attributes:
        resources: countable things, by name.
        gpus, gpu_memory: as the settings.
    """

    resources: Mapping[str, int] = field(default_factory=dict)
    gpus: float | None = None
    gpu_memory: int | None = None

    @classmethod
    def of(cls, conf: SweepConf) -> Shared:
        """What the jobs of a sweep with these settings share."""
        return cls(conf.resources, conf.gpus, conf.gpu_memory)


def read_needs(value: object, origin: str) -> dict[str, float]:
    """What a point's ``_needs_`` say, a mapping or text such as licence=2,gpus=0.5.

    Raises:
        SettingsError: they are no needs.
    """
    needs: dict[str, float] = accept(_KIND, "needs", _KIND.check, value, origin)
    return needs


def take_needs(index: int, point: dict[str, Any], shared: Shared) -> OwnNeeds:
    """Remove a point's own needs from it, and return them.

    Args:
        index: the point's, for errors.
        point: the point.
        shared: what there is.

    Raises:
        SettingsError: these are no needs, or can never be met.
    """
    if NEEDS not in point:
        return NO_NEEDS
    origin = origin_of(index)
    needs = read_needs(point.pop(NEEDS), origin)
    check_needs(countable(needs), shared.resources, origin)
    _check_gpus(needs, shared, origin)
    return needs


def take_all_needs(
    points: Sequence[dict[str, Any]], shared: Shared, first: int = 0
) -> list[OwnNeeds]:
    """Remove their own needs from points, and return them; `first` is the place of the first."""
    return [take_needs(index, point, shared) for index, point in enumerate(points, first)]


def origin_of(index: int) -> str:
    """How errors call the needs of the point with this index."""
    return f"{NEEDS} of point {index}"


def _check_gpus(needs: OwnNeeds, shared: Shared, origin: str) -> None:
    """Raise SettingsError for GPUs of a point in a sweep that gives jobs none."""
    name = next((name for name in GPU_NAMES if needs.get(name)), None)
    if name is None:
        return
    if shared.gpus is None and shared.gpu_memory is None:
        message = f"{origin}: {name} needs a sweep that gives jobs GPUs: set gpus, such as gpus=1"
    elif shared.gpus == 0:
        message = (
            f"{origin}: {name} needs a sweep that gives jobs GPUs, and gpus is 0: set it to 1, say"
        )
    elif name == "gpu_memory" and needs.get("gpus") == 0:
        message = f"{origin}: gpu_memory makes no sense with gpus=0"
    else:
        return
    raise SettingsError("needs", needs[name], origin, "no GPUs", message=message)
