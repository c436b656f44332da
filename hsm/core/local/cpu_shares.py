"""What each job gets of the machine's CPUs: how many threads, and which CPUs.

    cpus=auto           the available CPUs divided by the jobs that run at once
    cpu_affinity=share  the CPUs that the fewest other jobs use: as long as there are enough, none

The number of threads is in the job's environment, where libraries read it when they are loaded.
Those that a forked job finds loaded are told by `hsm.core.local.processes.loaded_pools`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hsm.core.local.available_cpus import available_cpus, usable_cpus
from hsm.core.settings.resolve import AUTO, LocalConf

#: What tells a job its number of CPUs.
COUNT = "HSM_CPUS"
#: What libraries read, and what they read if that is not set: who has set this means them, too.
_VARIABLES: Mapping[str, Collection[str]] = {
    "OMP_NUM_THREADS": (),
    "OPENBLAS_NUM_THREADS": ("GOTO_NUM_THREADS", "OMP_NUM_THREADS"),
    "MKL_NUM_THREADS": ("OMP_NUM_THREADS",),
    "BLIS_NUM_THREADS": ("OMP_NUM_THREADS",),
    "NUMBA_NUM_THREADS": (),
    "NUMEXPR_NUM_THREADS": ("OMP_NUM_THREADS",),
    "VECLIB_MAXIMUM_THREADS": (),
    "RAYON_NUM_THREADS": (),
}
#: Files of the kernel's that tell where a CPU is.
_PLACE = ("physical_package_id", "core_id")


@dataclass(frozen=True, eq=False)
class Share:
    """What one attempt of a job gets.

    Attributes:
        variables: for its environment.
        cpus: the CPUs that it may run on; empty for any.
    """

    variables: Mapping[str, str]
    cpus: tuple[int, ...] = ()


class CpuShares:
    """Gives jobs their shares. Thread-safe.

    Args:
        conf: the settings, with as many parallel jobs as there may be.
    """

    def __init__(self, conf: LocalConf) -> None:
        self._asked = conf.cpus
        self._most = conf.max_parallel_jobs
        self._is_exclusive = conf.cpu_affinity is not None
        self._env = conf.env
        self._available = available_cpus()
        self._usable = len(usable_cpus())
        self._names = {*_VARIABLES, *(name for others in _VARIABLES.values() for name in others)}
        self._set_by_user = frozenset(name for name in self._names if name in os.environ)
        self._mutex = threading.Lock()  # guards what follows
        self._running = 0
        self._places = 1
        self._told: int | None = None
        #: The variables of jobs with so many CPUs that have none of these themselves.
        self._usual: dict[int, Mapping[str, str]] = {}
        #: How many jobs run on each CPU.
        self._jobs_on = dict.fromkeys(_by_core(usable_cpus()), 0)

    def expect(self, jobs: int) -> str | None:
        """Take account of jobs that will be started; see `Backend.expect`."""
        with self._mutex:
            self._places = max(self._places, min(self._most, self._running + jobs))
            count = self._count()
            if self._places == 1 or count is None or count in (self._told, self._usable):
                return None
            names = [name for name in self._variables(count, self._env) if name != COUNT]
            if not names:
                return None
            self._told = count
        others = " and others are" if len(names) > 1 else " is"
        of_all = f"{count} of {self._available} CPUs"
        return f"each job has {of_all}: {names[0]}{others} set (cpus=none leaves them)"

    def allow(self, jobs: int) -> None:
        """Have so many jobs run at once from now on; those that run keep their shares."""
        with self._mutex:
            self._most = jobs
            self._places = min(self._places, jobs)

    def variables(self) -> Mapping[str, str]:
        """The variables that jobs which start now get; empty if none."""
        with self._mutex:
            return self._variables(self._count(), self._env)

    def take(self, env: Collection[str]) -> Share:
        """A job's share, until `give_back`.

        Args:
            env: the variables that the job gets otherwise, which stay.
        """
        with self._mutex:
            self._running += 1
            if self._running > self._places:
                self._places = max(self._places, min(self._most, self._running))
            count = self._count()
            cpus: tuple[int, ...] = ()
            if self._is_exclusive:
                size = count or max(1, self._usable // self._places)
                cpus = tuple(sorted(self._jobs_on, key=self._jobs_on.__getitem__)[:size])
                for cpu in cpus:
                    self._jobs_on[cpu] += 1
            return Share(self._variables(count, env), cpus)

    def give_back(self, share: Share) -> None:
        """Note that the attempt is over."""
        with self._mutex:
            self._running -= 1
            for cpu in share.cpus:
                self._jobs_on[cpu] -= 1

    def _count(self) -> int | None:
        """The CPUs of a job that starts now; None if nobody counts."""
        if self._asked != AUTO:
            return self._asked  # type: ignore[no-any-return]
        return max(1, self._available // self._places)

    def _variables(self, count: int | None, env: Collection[str]) -> Mapping[str, str]:
        """The variables for a job with so many CPUs, less those that it or the user has."""
        if count is None:
            return {}
        if not self._names.isdisjoint(env):
            return self._unset(count, env)
        usual = self._usual.get(count)
        if usual is None:
            usual = self._usual[count] = self._unset(count, ())
        return usual

    def _unset(self, count: int, env: Collection[str]) -> Mapping[str, str]:
        if self._asked == AUTO and count >= self._usable:
            return {COUNT: str(count)}  # Libraries take no more by themselves.
        names = (
            name
            for name, others in _VARIABLES.items()
            if not any(one in self._set_by_user or one in env for one in (name, *others))
        )
        return dict.fromkeys((COUNT, *names), str(count))


def _by_core(cpus: Collection[int]) -> list[int]:
    """These CPUs, such that those of one core stand together, and the cores of one package."""

    def place(cpu: int) -> tuple[int, int, int]:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        with suppress(OSError, ValueError):
            package, core = ((topology / name).read_text() for name in _PLACE)
            return int(package), int(core), cpu
        return 0, 0, cpu

    return sorted(cpus, key=place)
