"""Bounding the threads of libraries that a job finds loaded, as it is a fork.

A library reads its variable (OMP_NUM_THREADS) when it is loaded, and what a job's environment says
comes too late for one that its fork server has loaded. Looking for the libraries takes a job longer
than anything else that hsm does in it, so the fork server does that once:

    fork server: find(), bound(variables)    which libraries there are; most jobs get this number
    each job:    bound(its variables)        a few calls, if its number is another one

A number is only ever lowered: what the app has set itself stays if it is less. OpenBLAS makes its
threads anew in the first fork that sets a number, so it pays to have the number before the fork.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

#: The variables that a library reads, the first that is set counts; by threadpoolctl's names.
_READS: Mapping[str, Sequence[str]] = {
    "openmp": ("OMP_NUM_THREADS",),
    "openblas": ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"),
    "flexiblas": ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"),
    "mkl": ("MKL_NUM_THREADS", "OMP_NUM_THREADS"),
    "blis": ("BLIS_NUM_THREADS", "OMP_NUM_THREADS"),
}
_TORCH = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_NUMBA = ("NUMBA_NUM_THREADS",)
#: Modules that keep count of threads themselves.
_MODULES = frozenset({"torch", "numba.core.config"})
#: What the file names of such libraries contain.
_NAMES = (b"openblas", b"libmkl", b"libblis", b"flexiblas", b"libgomp", b"libomp", b"libiomp")


class LoadedPools(NamedTuple):
    """The libraries that this process had loaded when `find` was called.

    Attributes:
        libraries: what threadpoolctl knows of each.
        are_any: whether a job has anything to bound. In a fork, each line of code that runs copies
            memory, so most jobs ask no more than this.
    """

    libraries: Sequence[Any] = ()
    are_any: bool = False

    @classmethod
    def find(cls) -> LoadedPools:
        """Look for libraries; none without threadpoolctl."""
        libraries = _loaded_libraries()
        return cls(libraries, bool(libraries) or not _MODULES.isdisjoint(sys.modules))

    def bound(self, variables: Mapping[str, str]) -> None:
        """Have the libraries start no more threads than `variables` say."""
        for library in self.libraries:
            most = _first(_READS[library.internal_api], variables)
            if most is not None and (library.get_num_threads() or 0) > most:
                library.set_num_threads(most)

    def bound_job(self, variables: Mapping[str, str]) -> None:
        """The same in a job, with what Python modules keep count of themselves."""
        self.bound(variables)
        _bound_torch(_first(_TORCH, variables))
        _bound_numba(_first(_NUMBA, variables))


def _loaded_libraries() -> Sequence[Any]:
    with suppress(OSError), open("/proc/self/maps", "rb") as maps:
        loaded = maps.read()
        if not any(name in loaded for name in _NAMES):
            return ()
    # Beside a script there may be anything of that name.
    with suppress(Exception):
        before = set(os.environ)
        import threadpoolctl

        for name in os.environ.keys() - before:  # It allows itself a second OpenMP runtime.
            del os.environ[name]
        found = threadpoolctl.ThreadpoolController().lib_controllers
        return [each for each in found if each.internal_api in _READS]
    return ()


def _first(names: Sequence[str], variables: Mapping[str, str]) -> int | None:
    """The number of the first of these variables that is set; None if none is, or to no number."""
    text = next((variables[name] for name in names if name in variables), "")
    return int(text) if text.isdecimal() and int(text) > 0 else None


def _bound_torch(most: int | None) -> None:
    torch = sys.modules.get("torch")
    get_number = getattr(torch, "get_num_threads", None)
    if most is not None and get_number is not None and get_number() > most:
        torch.set_num_threads(most)  # type: ignore[union-attr]


def _bound_numba(most: int | None) -> None:
    config: Any = sys.modules.get("numba.core.config")
    if config is None or most is None or most >= config.NUMBA_NUM_THREADS:
        return
    parallel: Any = sys.modules.get("numba.np.ufunc.parallel")
    if not getattr(parallel, "_is_initialized", False):
        config.NUMBA_NUM_THREADS = most
        return
    # Its threads were started: from then on numba refuses any other number in the environment.
    os.environ["NUMBA_NUM_THREADS"] = str(config.NUMBA_NUM_THREADS)
    parallel.set_num_threads(most)
