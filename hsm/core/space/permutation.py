"""A random order of any number of things, one place at a time.

A short order is shuffled in memory. A long one is a Feistel network over the next even number of
bits, walked until it is in range again: a bijection that needs no memory.

Source: J. Black and P. Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002, section 3.
"""

from __future__ import annotations

from hsm.core.space import chance

#: The longest order that is kept in memory.
_MAX_SHUFFLED = 4096
_ROUNDS = 6


class Permutation:
    """``permutation[0], …, permutation[count - 1]`` are the numbers below `count`, in some order.

    Args:
        count: how many there are; any number.
        seed: which order.
    """

    def __init__(self, count: int, *seed: object) -> None:
        self.count = count
        self._seed = seed
        self._half = max(1, -(-max(0, count - 1).bit_length() // 2))
        self._mask = (1 << self._half) - 1
        self._order = _shuffled(count, *seed) if count <= _MAX_SHUFFLED else None

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise IndexError(f"no place {index} in an order of {self.count}")
        if self._order is not None:
            return self._order[index]
        # The network permutes at most four times as many numbers, so a few steps lead back.
        number = self._step(index)
        while number >= self.count:
            number = self._step(number)
        return number

    def _step(self, number: int) -> int:
        left, right = number >> self._half, number & self._mask
        for turn in range(_ROUNDS):
            left, right = right, left ^ chance.bits(self._half, *self._seed, turn, right)
        return left << self._half | right


def _shuffled(count: int, *seed: object) -> list[int]:
    """Fisher and Yates's shuffle."""
    order = list(range(count))
    for last in range(count - 1, 0, -1):
        other = chance.below(last + 1, *seed, last)
        order[last], order[other] = order[other], order[last]
    return order
