"""Designs: vectors by index, whichever of them are asked for, and in whatever order."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm import SettingsError
from hsm.core.space.choosing import Method
from hsm.core.space.designs import Design, make_design

pytestmark = pytest.mark.thorough

DRAWING = [Method.random, Method.lhs, Method.sobol, Method.halton]
#: The third vector of two axes, of 5, with the seed 3.
PINNED = {
    Method.random: [0.7396898197791372, 0.7201816916720258],
    Method.lhs: [0.10357204215743385, 0.6600408598595535],
}


def design(method: Method, axes: int, count: int, seed: int) -> Design:
    if method in (Method.sobol, Method.halton):
        pytest.importorskip("scipy.stats")
    return make_design(method, axes, count, seed, "here")


@pytest.mark.parametrize("method", DRAWING)
def test_a_vector_does_not_depend_on_those_before_it(method: Method) -> None:
    forwards, backwards = (design(method, 3, 600, 7) for _ in range(2))
    found = {index: list(backwards.vector(index)) for index in reversed(range(600))}
    assert all(list(forwards.vector(index)) == found[index] for index in range(600))
    assert all(0 <= number < 1 for vector in found.values() for number in vector)
    assert {len(vector) for vector in found.values()} == {3}


@pytest.mark.parametrize("method", DRAWING)
def test_another_seed_gives_other_vectors(method: Method) -> None:
    one, other = (design(method, 2, 20, seed) for seed in (0, 2**32 - 1))
    assert all(list(one.vector(index)) != list(other.vector(index)) for index in range(20))


@pytest.mark.parametrize("method", PINNED)
def test_vectors_are_the_same_under_every_python(method: Method) -> None:
    assert design(method, 2, 5, 3).vector(2) == PINNED[method]


@pytest.mark.parametrize("method", [Method.sobol, Method.halton])
def test_a_sequence_read_by_blocks_is_the_sequence(method: Method) -> None:
    """The blocks are read by engines of their own, which skip what came before."""
    qmc = pytest.importorskip("scipy.stats.qmc")
    numpy = pytest.importorskip("numpy")
    engine = qmc.Sobol if method is Method.sobol else qmc.Halton
    generator = numpy.random.default_rng(7)
    try:
        expected = engine(3, scramble=True, rng=generator).random(1024)
    except TypeError:  # before SciPy 1.15
        expected = engine(3, scramble=True, seed=generator).random(1024)
    sequence = design(method, 3, 1024, 7)
    found = [list(sequence.vector(index)) for index in range(1024)]
    assert numpy.allclose(found, expected, rtol=0, atol=1e-12)


@given(count=st.integers(1, 300), axes=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_each_stratum_of_each_axis_has_one_vector(count: int, axes: int, seed: int) -> None:
    hypercube = design(Method.lhs, axes, count, seed)
    vectors = [hypercube.vector(index) for index in range(count)]
    for axis in range(axes):
        strata = sorted(math.floor(vector[axis] * count) for vector in vectors)
        assert strata == list(range(count))


@pytest.mark.parametrize("method", [Method.random, Method.lhs])
def test_very_many_vectors_cost_nothing(method: Method) -> None:
    found = design(method, 2, 10**15, 1).vector(10**15 - 1)
    assert all(0 <= number < 1 for number in found)


@pytest.mark.parametrize(("axes", "count"), [(2, 2**30 + 1), (21202, 2)])
def test_sobols_sequence_has_an_end(axes: int, count: int) -> None:
    with pytest.raises(SettingsError) as caught:
        make_design(Method.sobol, axes, count, 1, "here")
    assert str(caught.value) == (
        f"here: method=sobol has at most 1073741824 trials over 21201 axes, not {count} over {axes}"
    )
