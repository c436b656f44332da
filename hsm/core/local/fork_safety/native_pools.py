"""Finding pools of native threads that speak against a fork.

A forked process has none of these threads, and a library that is unaware of that waits for them
forever. How each library behaves was found by experiment; untested ones are not known to be safe.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache

from hsm.core.local.fork_safety.finding import Finding, listed
from hsm.core.local.fork_safety.native_threads import NativeThread, native_threads

#: Libraries that restart their threads in a fork: OpenBLAS, Arrow, and numba's workqueue.
_SAFE = re.compile(r"lib\w*openblas|libarrow(_acero|_compute|_dataset)?\.|workqueue\.cpython-")
#: Threads that a fork does not need, in any library: jemalloc's, which return unused memory, and
#: the one that polars starts on import.
_SAFE_NAMES = frozenset(("jemalloc_bg_thd", "polars-ooc-clea"))
_OPENMP = re.compile(r"lib(gomp|iomp5|omp)\b")
_PYTHON = re.compile(r"(lib)?python")
_HANGS = "a fork lacks its threads and hangs when it needs them"
_POLARS = Finding(f"polars has been used: {_HANGS}", is_harmful=True)
_JAX = Finding(f"JAX has been used: {_HANGS}", is_harmful=True)
_NUMBA = Finding("numba has used its OpenMP layer, which ends a fork that uses it", is_harmful=True)
#: Libraries whose pools are known to hang a fork that uses them.
_HANGING = ((re.compile("_?polars"), _POLARS), (re.compile("libjax|xla_ext|libtpu"), _JAX))

#: omp_pause_hard of OpenMP 5.0: the runtime frees everything that it can recreate.
_HARD = 2
#: Seconds for an OpenMP runtime's threads to end; they need less than a millisecond.
_TIMEOUT = 0.2


def find_pools(python: Collection[int], raw_threads: int) -> list[Finding]:
    """Find native threads that speak against a fork; end OpenMP's threads if possible.

    Args:
        python: native ids of the threads that Python's `threading` knows.
        raw_threads: the number of threads that Python runs without `threading`.
    """
    found = dict.fromkeys(_libraries_in_use())
    openmp: list[NativeThread] = []
    unknown: Counter[str] = Counter()
    pythons_own = -raw_threads
    for thread in native_threads(python):
        name = os.path.basename(thread.library or "")
        if _SAFE.match(name) or thread.name in _SAFE_NAMES:
            continue
        if _OPENMP.match(name):
            openmp.append(thread)
        elif _PYTHON.match(name):
            pythons_own += 1
        else:
            known = next((finding for pattern, finding in _HANGING if pattern.match(name)), None)
            if known is None:
                unknown[thread.owner] += 1
            else:
                found[known] = None
    # Under pytest, that thread is its watchdog, which no job needs.
    if pythons_own > 0 and "_pytest.faulthandler" not in sys.modules:
        unknown["Python itself"] = pythons_own
    if unknown:
        names = listed([f"{owner} ({count})" for owner, count in unknown.items()])
        text = f"native threads are running that may not survive a fork: {names}"
        found[Finding(text, is_harmful=False)] = None
    return [*found, *_end_openmp(openmp)]


def _libraries_in_use() -> Iterable[Finding]:
    """Yield findings for libraries that a fork breaks even if they have no thread right now."""
    numba = sys.modules.get("numba.np.ufunc.parallel")
    if getattr(numba, "_threading_layer", None) == "omp":
        yield _NUMBA
    if getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None):
        yield _JAX


def _end_openmp(threads: Collection[NativeThread]) -> Iterable[Finding]:
    """Make OpenMP runtimes end these threads, which they restart when needed; yield those left."""
    libraries = {thread.library for thread in threads if thread.library is not None}
    paused = {library for library in libraries if _pause(library)}
    deadline = time.monotonic() + _TIMEOUT
    left = list(threads)
    while left := [thread for thread in left if os.path.exists(f"/proc/self/task/{thread.tid}")]:
        if time.monotonic() >= deadline or not paused:
            break
        time.sleep(0.0002)
    for library in sorted({thread.library for thread in left if thread.library is not None}):
        text = f"OpenMP has been used ({os.path.basename(library)}): {_HANGS}"
        # If the runtime was paused, the threads left belong to the pool of a thread other than
        # this one, which is the one that forks.
        yield Finding(text, is_harmful=library not in paused)


def _pause(library: str) -> bool:
    """Make an OpenMP runtime end its threads; False if it cannot."""
    try:
        return bool(_loaded(library).omp_pause_resource_all(_HARD) == 0)
    except (OSError, AttributeError):  # AttributeError: older than OpenMP 5.0
        return False


@lru_cache
def _loaded(library: str) -> ctypes.CDLL:
    """Get a handle for a library that is already loaded. Raises OSError."""
    return ctypes.CDLL(library, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
