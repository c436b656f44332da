"""The objective of one job: what a study is told of it.

    no metric       what the job returned: a number, or a list in the order of the objectives; if it
                    returned nothing, the one number that it wrote into results.json or
                    metrics.json, or reported
    metric: loss    "loss" of a dict that it returned, of its results.json, of its metrics.json, of
                    the last of its reports that has it; else what it returned, if that is a number

A key of a nested object is dotted: val.loss. Only finite numbers count: true, NaN and texts do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from hsm.core.errors import did_you_mean, shown
from hsm.core.results.job_files import FILES, flatten, read_object

#: The name of what is reported without a name, and of the returned value itself.
VALUE = "value"
_MAX_NAMED = 8


class Objective(NamedTuple):
    """A job's objective.

    Attributes:
        values: one finite number for each objective; None if there is a problem.
        recorded: what goes on record: also numbers that are not finite; None if there are none.
        problem: why there is no objective, in plain words; empty if there is one.
    """

    values: tuple[float, ...] | None
    recorded: float | list[float] | None
    problem: str = ""


@dataclass(frozen=True)
class JobOutput:
    """All that a job left which a metric may be in.

    Attributes:
        returned: what it returned.
        job_dir: its directory; None if it has none.
        sweep_dir: the sweep's.
        latest: the last value of each name that it reported.
    """

    returned: Any = None
    job_dir: Path | None = None
    sweep_dir: Path | None = None
    latest: Mapping[str, Any] = field(default_factory=dict)

    def objective(self, metrics: Sequence[str] | None, count: int) -> Objective:
        """Look up the objectives with these names; of None, what was returned, `count` numbers."""
        if metrics is None:
            return self._unnamed(count)
        found = [self.lookup(name) for name in metrics]
        missing = [name for name, each in zip(metrics, found, strict=True) if each is None]
        if len(missing) == len(metrics) and (objective := self._returned(count)) is not None:
            return objective
        if missing:
            return Objective(None, None, self._missing(missing[0]))
        return _checked([each[0] for each in found if each is not None], metrics)

    def lookup(self, name: str) -> tuple[Any] | None:
        """What is there under a name, in a tuple; None if there is nothing."""
        for values in self._places():
            if name in values and values[name] is not None:
                return (values[name],)
        return None

    def _places(self) -> Iterator[Mapping[str, Any]]:
        return (values for _, values in self._named_places())

    def _named_places(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Where metrics are looked up, each with what the job did there."""
        yield "it returned a dict", self._dict
        for name in FILES.values():
            yield f"it wrote a {name}", self._file(name)
        yield "it reports several values", self.latest

    @cached_property
    def _dict(self) -> Mapping[str, Any]:
        if isinstance(self.returned, Mapping):
            return {**dict(flatten(self.returned)), **self.returned}
        return {}

    @cached_property
    def _files(self) -> dict[str, Mapping[str, Any]]:
        return {}

    def _file(self, name: str) -> Mapping[str, Any]:
        if name not in self._files:
            content: Mapping[str, Any] | None = None
            if self.job_dir is not None and self.sweep_dir is not None:
                try:
                    content = read_object(str(self.job_dir), name, self.sweep_dir)
                except (OSError, ValueError):
                    content = None
            self._files[name] = dict(flatten(content)) if content else {}
        return self._files[name]

    def _unnamed(self, count: int) -> Objective:
        found = self._returned(count)
        if found is not None:
            return found
        if count == 1 and (self.returned is None or isinstance(self.returned, Mapping)):
            for place, values in self._named_places():
                numbers = {key: value for key, value in values.items() if _is_number(value)}
                name = VALUE if VALUE in numbers else next(iter(numbers), "")
                if name == VALUE or len(numbers) == 1:
                    return _checked([numbers[name]], None if name == VALUE else [name])
                if numbers:
                    return Objective(None, None, f"{place}: name its metric ({_some(numbers)})")
        what = "no number" if count == 1 else f"no list of {count} numbers"
        if self.returned is None:
            return Objective(None, None, f"it returned {what}")
        return Objective(None, None, f"it returned {what}: {shown(self.returned)}")

    def _returned(self, count: int) -> Objective | None:
        """The objective, if what was returned is as many numbers as there are objectives."""
        value = self.returned
        if count == 1 and _is_number(value):
            return _checked([value], None)
        if isinstance(value, list | tuple) and all(map(_is_number, value)) and value:
            if len(value) == count:
                return _checked(list(value), None)
            many = "1 number" if len(value) == 1 else f"{len(value)} numbers"
            problem = f"it returned {many}, and there {_are(count)}"
            return Objective(None, None, problem)
        return None

    def _missing(self, name: str) -> str:
        known = [
            key for values in self._places() for key, value in values.items() if _is_number(value)
        ]
        if not known:
            return f"it has no metric {shown(name)}"
        hint = did_you_mean(name, known)
        return f"it has no metric {shown(name)}; {hint or f'there are: {_some(known)}'}"


def _are(count: int) -> str:
    return "is 1 objective" if count == 1 else f"are {count} objectives"


def _some(names: Sequence[str] | Mapping[str, Any]) -> str:
    listed = list(dict.fromkeys(names))
    more = len(listed) - _MAX_NAMED
    return ", ".join(listed[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked(found: Sequence[Any], names: Sequence[str] | None) -> Objective:
    """The objective of what was found for each metric."""
    labels = [f"metric {shown(name)}" for name in names] if names else ["metric"] * len(found)
    for label, value in zip(labels, found, strict=True):
        if not _is_number(value):
            return Objective(None, None, f"its {label} is no number: {shown(value)}")
    values: list[float] = []
    problem = ""
    for label, value in zip(labels, found, strict=True):
        try:
            values.append(float(value))
        except OverflowError:
            return Objective(None, None, f"its {label} is beyond all floats")
        if not math.isfinite(value):
            problem = problem or f"its {label} is {float(value)}"
    recorded: float | list[float] = values[0] if len(values) == 1 else values
    return Objective(None if problem else tuple(values), recorded, problem)
