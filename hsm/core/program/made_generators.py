"""Random generators that imported modules have made, which forks would have in common.

Those that were made from a seed are the same in every process anyway. All others, and torch's
global one, get fresh states in each job. `random` and NumPy's global generator are in rng.py.
"""

from __future__ import annotations

import gc
import random
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hsm.core.program.rng import python_random_is_seeded

#: Bits of a seed that somebody has chosen, at most; the system gives NumPy 128 and torch 64.
_NUMPY_BITS, _TORCH_BITS = 96, 40


@dataclass(frozen=True)
class MadeGenerators:
    """Generators that were not made from a seed.

    Attributes:
        python: instances of `random.Random`.
        numpy: bit generators of NumPy's `Generator` and `RandomState`.
        torch: torch's global generator, if it is loaded and was not seeded.
    """

    python: list[random.Random]
    numpy: list[Any]
    torch: Any

    @classmethod
    def find(cls) -> MadeGenerators:
        """Find those of this process."""
        objects, own = gc.get_objects(), vars(random)["_inst"]
        # By type(): to ask for an object's __class__ may run code of its own, as in torch.
        python = [each for each in objects if issubclass(type(each), random.Random)]
        fresh = [each for each in python if each is not own and not _is_seeded(each)]
        return cls(fresh, _numpy(objects), _torch())

    def renew(self) -> None:
        """Give each a fresh state from the operating system."""
        for generator in self.python:
            generator.seed()
        for bits in self.numpy:
            bits.state = type(bits)().state
        if self.torch is not None:
            self.torch.seed()


def _is_seeded(generator: random.Random) -> bool:
    try:
        return python_random_is_seeded(generator.getstate())
    except Exception:  # SystemRandom has no state; another subclass may have one of its own.
        return True


def _numpy(objects: list[Any]) -> list[Any]:
    module = sys.modules.get("numpy.random")
    if module is None:
        return []
    kinds = (module.Generator, module.RandomState)
    own = sys.modules["numpy.random.mtrand"]._rand
    found = [each for each in objects if type(each) in kinds and each is not own]
    bits = {id(each._bit_generator): each._bit_generator for each in found}
    return [each for each in bits.values() if _bits_of(_seed_of(each)) > _NUMPY_BITS]


def _seed_of(bits: Any) -> Any:
    return getattr(getattr(bits, "_seed_seq", None), "entropy", None)


def _bits_of(seed: Any) -> int:
    return seed.bit_length() if isinstance(seed, int) else 0


def _torch() -> Any:
    generator = getattr(sys.modules.get("torch"), "default_generator", None)
    with suppress(Exception):
        if generator is not None and _bits_of(generator.initial_seed()) > _TORCH_BITS:
            return generator
    return None
