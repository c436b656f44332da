"""What tells the jobs of a sweep apart: the parameters in which they differ, under short names.

submitted jobs --> Varying --> names      model.optimizer.lr -> lr
'-> constants  seed=0 data=mnist
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from hsm.core.printable import printable
from hsm.core.record.job import Job
from hsm.display.text import shorten_start

#: Characters of the value of a constant.
_MAX_CONSTANT = 40


class Varying:
    """Finds out which parameters vary between the jobs of a sweep. Not thread-safe.

    A job costs one look at each of its parameters; of a parameter, only its first value is kept. A
    parameter that some jobs lack varies. Jobs whose parameters lie beside the journal are left out,
    since reading them would take too long.

    Attributes:
        names: the parameters that vary, in the order in which they appeared, and their short names:
            the shortest end of a dotted name that no other parameter has.
        constants: the other parameters in one line; empty as long as no parameter varies, because
            it is the jobs' whole label then.
    """

    def __init__(self) -> None:
        self.names: Mapping[str, str] = {}
        self.constants = ""
        self._seen: set[str] = set()  # ids of jobs
        self._jobs = 0  # with parameters
        self._first: dict[str, Any] = {}
        self._counts: Counter[str] = Counter()  # jobs that have a parameter
        self._differs: set[str] = set()
        self._state: tuple[int, int] = (0, 0)  # that `names` and `constants` are from

    def add(self, jobs: Iterable[Job]) -> None:
        """Take new jobs into account; others are known already."""
        for job in jobs:
            if job.job_id not in self._seen:
                self._seen.add(job.job_id)
                if isinstance(params := job.held_params, dict) and params:
                    self._add(params)
        varying = [name for name in self._first if self._varies(name)]
        state = len(self._first), len(varying)
        if state != self._state:  # Neither number ever gets less.
            self._state = state
            self._describe(varying)

    def _add(self, params: Mapping[str, Any]) -> None:
        self._jobs += 1
        for name, value in params.items():
            self._counts[name] += 1
            first = self._first.setdefault(name, value)
            # 1 and True are equal.
            if value is not first and (value != first or type(value) is not type(first)):
                self._differs.add(name)

    def _varies(self, name: str) -> bool:
        return name in self._differs or self._counts[name] < self._jobs

    def _describe(self, varying: list[str]) -> None:
        short = _short_names(self._first)
        self.names = {name: short[name] for name in varying}
        self.constants = " ".join(
            f"{short[name]}={shorten_start(text_of(value), _MAX_CONSTANT)}"
            for name, value in self._first.items()
            if varying and name not in self.names
        )


def text_of(value: Any) -> str:
    """A parameter's value in one line, as labels show it."""
    return printable(str(value))


def _short_names(names: Iterable[str]) -> dict[str, str]:
    ends = {name: list(_ends(name)) for name in names}
    count = Counter(end for each in ends.values() for end in each)
    return {
        name: printable(next((end for end in each if count[end] == 1), name))
        for name, each in ends.items()
    }


def _ends(name: str) -> Iterable[str]:
    """``a.b.c`` -> ``c``, ``b.c``, ``a.b.c``."""
    parts = name.split(".")
    return (".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1))
