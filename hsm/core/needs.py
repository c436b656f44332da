"""What jobs need of countable things: those of a whole sweep, and those of single points.

A point may also have needs of its own of GPUs, under the names of the settings; these are no
countable things, and are read by `hsm.core.gpu.need`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from hsm.core.errors import SettingsError, did_you_mean, shown

#: The key of a point whose value is what its job needs, and no parameter.
NEEDS = "_needs_"
#: The names in it that mean GPUs.
GPU_NAMES = ("gpus", "gpu_memory")
#: The needs of a job that needs nothing.
NO_NEEDS: Mapping[str, int] = MappingProxyType({})

#: What a point says of its own needs, by name. Floats are shares of a GPU.
OwnNeeds: TypeAlias = Mapping[str, float]


class Needs:
    """What the jobs of a sweep need; equal needs are one object, as jobs may be very many.

    Args:
        usual: what each of them needs, by name.
    """

    def __init__(self, usual: Mapping[str, int]) -> None:
        self._usual = usual
        self._known: dict[frozenset[tuple[str, int]], Mapping[str, int]] = {}
        self._of_most = self.of({})

    def of(self, own: OwnNeeds) -> Mapping[str, int]:
        """What a job needs whose own needs are `own`; a thing that it needs none of is left out."""
        if own is NO_NEEDS:
            return self._of_most
        counts = countable(own)
        key = frozenset(counts.items())
        if key not in self._known:
            all_of_it = {**self._usual, **counts}
            some = {name: number for name, number in all_of_it.items() if number}
            self._known[key] = MappingProxyType(some) if some else NO_NEEDS
        return self._known[key]


def countable(own: OwnNeeds) -> dict[str, int]:
    """A point's own needs without those of GPUs."""
    return {name: int(number) for name, number in own.items() if name not in GPU_NAMES}


def check_needs(needs: Mapping[str, int], resources: Mapping[str, int], origin: str) -> None:
    """Raise SettingsError if a job could never have all that it needs.

    Args:
        needs: what a job needs, by name.
        resources: what there is.
        origin: where the needs came from, for the error.
    """
    for name, number in needs.items():
        there = resources.get(name)
        if there is None:
            known = ", ".join(resources)
            hint = did_you_mean(name, resources) or (f"known: {known}" if known else "")
            hint = hint or f"there are none; set resources to {{{name}: {max(number, 1)}}}, say"
            message = f"{origin}: there is no resource {shown(name)}; {hint}"
            allowed = known or "set with resources"
            raise SettingsError("needs", name, origin, allowed, hint, message=message)
        if number > there:
            message = f"{origin}: a job cannot need {number} of {name}: there are {there}"
            raise SettingsError("needs", number, origin, f"at most {there}", message=message)
