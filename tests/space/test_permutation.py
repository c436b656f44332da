"""A random order by index: every number once, the same for the same seed, no memory."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.core.space import chance
from hsm.core.space.permutation import _MAX_SHUFFLED, Permutation

pytestmark = pytest.mark.thorough

SHORT = [6, 5, 0, 1, 9, 3, 4, 7, 2, 8]
LONG = [323554282609, 813489754241, 933990055684]
UNIFORM = 0.2332389355210921


@given(count=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
def test_every_number_comes_once(count: int, seed: int) -> None:
    order = Permutation(count, seed)
    assert sorted(order[index] for index in range(count)) == list(range(count))


@pytest.mark.parametrize("count", [_MAX_SHUFFLED + 1, 4099, 16_384, 16_385, 20_000])
def test_every_number_comes_once_in_a_long_order(count: int) -> None:
    order = Permutation(count, 7)
    found = [order[index] for index in range(count)]
    assert sorted(found) == list(range(count))
    # No order that a person would see: neighbours lie about a third of the range apart.
    steps = [abs(one - other) for one, other in itertools.pairwise(found)]
    assert 0.3 < sum(steps) / len(steps) / count < 0.37


@given(count=st.integers(2**64, 2**80), index=st.integers(0, 2**64 - 1), other=st.integers(0, 9))
def test_an_order_may_be_longer_than_any_list(count: int, index: int, other: int) -> None:
    order = Permutation(count, 1)
    assert 0 <= order[index] < count
    assert (order[index] == order[other]) == (index == other)


def test_the_order_is_the_seeds() -> None:
    for count in (50, 100_000):
        first = [Permutation(count, 1)[index] for index in range(20)]
        assert first == [Permutation(count, 1)[index] for index in range(20)]
        assert first != [Permutation(count, 2)[index] for index in range(20)]


def test_it_is_the_same_under_every_python() -> None:
    """Sweeps are resumed years later."""
    assert [Permutation(10, 3)[index] for index in range(10)] == SHORT
    assert [Permutation(10**12, 3)[index] for index in range(3)] == LONG
    assert chance.uniform(3, "random", 0, 1) == UNIFORM


def test_all_orders_of_a_few_are_about_as_likely() -> None:
    found = Counter(tuple(Permutation(3, seed)[at] for at in range(3)) for seed in range(6000))
    assert len(found) == 6
    assert all(850 < times < 1150 for times in found.values())


@pytest.mark.parametrize("index", [-1, 5, 10**30])
def test_there_is_no_other_place(index: int) -> None:
    with pytest.raises(IndexError):
        Permutation(5, 1)[index]


def test_numbers_below_a_bound_are_spread_evenly() -> None:
    found = Counter(chance.below(10, "evenly", index) for index in range(10_000))
    assert sorted(found) == list(range(10))
    assert all(880 < times < 1120 for times in found.values())
