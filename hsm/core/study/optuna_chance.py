"""What is random in a sampler, seeded by the trial that it is asked for.

Optuna's samplers draw from generators that go on from trial to trial, so a study that is resumed
would draw others, and with a seed the same once more. Here each trial has seeds of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy

from hsm.core.space import chance

_DEPTH = 5
_SEEDS = 32  # bits, of NumPy's RandomState


def reseed(sampler: object, seed: int, *place: object) -> None:
    """Seed every generator of a sampler and of what it is made of, for this place."""
    for number, generator in enumerate(_generators(sampler)):
        generator.seed(chance.bits(_SEEDS, seed, "study", *place, number))


def first_draw(sampler: object) -> int | None:
    """A number that a sampler's first generator draws: always the same if it had a seed."""
    for generator in _generators(sampler):
        return int(generator.randint(2**31 - 1))
    return None


def _generators(root: object) -> Iterator[numpy.random.RandomState]:
    """The generators in an object's attributes and below, each once, in a fixed order."""
    seen: set[int] = set()
    level: list[Any] = [root]
    for _ in range(_DEPTH):
        below: list[Any] = []
        for each in level:
            if id(each) in seen or not _is_part(each):
                continue
            seen.add(id(each))
            found = _generator(each)
            if found is None:
                below.extend(vars(each).values())
            elif id(found) not in seen:
                seen.add(id(found))
                yield found
        level = below


def _generator(each: Any) -> numpy.random.RandomState | None:
    """The generator that an object is, or lazily makes."""
    if type(each).__name__ == "LazyRandomState":
        each = each.rng
    return each if isinstance(each, numpy.random.RandomState) else None


def _is_part(each: Any) -> bool:
    """Whether an object may have generators: no value, no class, no function."""
    if isinstance(each, numpy.random.RandomState):
        return True
    return hasattr(each, "__dict__") and not isinstance(each, type) and not callable(each)
