"""Designs: where in a space random points lie, as vectors of numbers from 0 on and below 1.

    random   independent numbers
    lhs      Latin hypercube: of n points, each n-th of each axis has one
    sobol    Sobol's sequence, scrambled        halton   Halton's sequence, scrambled

Each vector is computed by its index. Sources: M. D. McKay, R. J. Beckman and W. J. Conover,
Technometrics 21 (1979) for lhs; `scipy.stats.qmc` has the two sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from hsm.core.errors import SettingsError
from hsm.core.space import chance
from hsm.core.space.choosing import Method
from hsm.core.space.permutation import Permutation

#: Vectors that a sequence gives at once: a power of two, for which Sobol's are balanced.
_BLOCK = 256
#: Points and axes that SciPy's sequence of Sobol has.
_MAX_SOBOL, _MAX_SOBOL_AXES = 2**30, 21201
_INSTALL = "pip install 'hpc-sweep-manager[qmc]'"


class Design(Protocol):
    """Vectors by index."""

    def vector(self, index: int) -> Sequence[float]: ...


class _Random:
    def __init__(self, axes: int, seed: int) -> None:
        self._axes, self._seed = axes, seed

    def vector(self, index: int) -> Sequence[float]:
        return [chance.uniform(self._seed, "random", index, axis) for axis in range(self._axes)]


class _LatinHypercube:
    def __init__(self, axes: int, count: int, seed: int) -> None:
        self._seed, self._count = seed, count
        self._orders = [Permutation(count, seed, "lhs", axis) for axis in range(axes)]

    def vector(self, index: int) -> Sequence[float]:
        return [
            min((order[index] + self._within(index, axis)) / self._count, 1 - 2**-53)
            for axis, order in enumerate(self._orders)
        ]

    def _within(self, index: int, axis: int) -> float:
        return chance.uniform(self._seed, "within", index, axis)


class _Sequence:
    """A sequence of `scipy.stats.qmc`, of which the last block is kept."""

    def __init__(self, engine: Any, axes: int, seed: int) -> None:
        self._engine, self._axes, self._seed = engine, axes, seed
        self._number = -1
        self._block: Any = None

    def vector(self, index: int) -> Sequence[float]:
        number, at = divmod(index, _BLOCK)
        if number != self._number:
            self._number, self._block = number, self._read(number)
        return [min(max(float(each), 0.0), 1 - 2**-53) for each in self._block[at]]

    def _read(self, number: int) -> Any:
        import numpy as np

        generator = np.random.default_rng(self._seed)
        try:
            engine = self._engine(self._axes, scramble=True, rng=generator)
        except TypeError:  # before SciPy 1.15
            engine = self._engine(self._axes, scramble=True, seed=generator)
        if number:
            engine.fast_forward(number * _BLOCK)
        return engine.random(_BLOCK)


def make_design(method: Method, axes: int, count: int, seed: int, origin: str) -> Design:
    """The design of a method.

    Args:
        method: any but grid.
        axes: numbers in each vector.
        count: vectors.
        seed: which ones.
        origin: where the method was written, for messages.

    Raises:
        SettingsError: SciPy is needed and missing, or its sequence is too short.
    """
    if method is Method.random:
        return _Random(axes, seed)
    if method is Method.lhs:
        return _LatinHypercube(axes, count, seed)
    if method is Method.sobol and (count > _MAX_SOBOL or axes > _MAX_SOBOL_AXES):
        most = f"at most {_MAX_SOBOL} trials over {_MAX_SOBOL_AXES} axes"
        message = f"{origin}: method=sobol has {most}, not {count} over {axes}"
        raise SettingsError("n_trials", count, origin, most, message=message)
    try:
        from scipy.stats import qmc
    except ImportError:
        others = "random and lhs need nothing"
        message = f"{origin}: method={method} needs SciPy: {_INSTALL}; {others}"
        raise SettingsError("method", method, origin, others, message=message) from None
    return _Sequence(qmc.Sobol if method is Method.sobol else qmc.Halton, axes, seed)
