"""Chance by number: the same seed and place give the same value, under every Python.

Random points are computed by their index, like all points, so none of them depends on how many
were drawn before. The generators of the standard library cannot do that.
"""

from __future__ import annotations

import random

#: Seeds are below this.
MAX_SEED = 2**32
_BITS = 53  # of a float's mantissa


def new_seed() -> int:
    """A seed that nobody chose; seeding the app's own generator does not choose it either."""
    return random.SystemRandom().randrange(MAX_SEED)


def bits(count: int, *place: object) -> int:
    """`count` random bits, as a number, for this place."""
    from hashlib import blake2b  # slow to import, and usual sweeps draw nothing

    text = "/".join(map(str, place)).encode()
    if count <= 512:
        size = -(-count // 8) or 1
        number = int.from_bytes(blake2b(text, digest_size=size).digest(), "big")
        return number >> (8 * size - count)
    rest = bits(count - 512, *place, "more")
    return (rest << 512) | int.from_bytes(blake2b(text).digest(), "big")


def uniform(*place: object) -> float:
    """A random number from 0 on and below 1, for this place."""
    return float(bits(_BITS, *place) / (1 << _BITS))


def below(count: int, *place: object) -> int:
    """A random whole number from 0 on and below `count`, for this place."""
    # With 64 bits more than the numbers have, no number is more likely than another to any effect.
    return bits(count.bit_length() + 64, *place) % count
