"""Adding jobs to a sweep that is running.

    lr=0.3,0.5 --complete--> with model=svm, which all jobs share --points--> those that no job has
                                                                                       | submit
    journal: the request, then the jobs <-----------------------------------------------'

Whoever starts a sweep again gives the points that it had in the beginning: what was added is then
added again, from the journal's requests. So a request is recorded before its jobs, and not before
nothing can be refused any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hsm.core.engine.compute_source import SweepObserver
from hsm.core.engine.ledger import JobHandle, Ledger
from hsm.core.errors import HsmError
from hsm.core.job_numbers import show_numbers
from hsm.core.needs import NEEDS
from hsm.core.plain_json import identity
from hsm.core.printable import shorten
from hsm.core.program.program import Program
from hsm.core.record.controls import Add, told
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths
from hsm.core.record.resume import Resumption, identity_of
from hsm.core.space.definition import SweepDefinition, parse_overrides
from hsm.core.space.grammar import plain_key

#: Points of one request. A mistyped range may have a billion, and would end the sweep's launcher.
MOST_POINTS = 100_000
#: Characters of what all jobs share, in a line for people.
_MOST_SHOWN = 200


class Point(NamedTuple):
    """A point to add.

    Attributes:
        params: its parameters, as the journal has them.
        given: what its `Adder` makes the job from.
    """

    params: Mapping[str, Any]
    given: Any


class Adder(Protocol):
    """Makes jobs of one sweep from overrides. All methods may raise HsmError."""

    def complete(self, asked: Add, handles: Sequence[JobHandle]) -> tuple[Add, str]:
        """The request with what all these jobs share, and that as text."""

    def points(self, asked: Add) -> list[Point]:
        """The points of a complete request, all of which can run."""

    def submit(self, points: Sequence[Point], begin: Callable[[], None]) -> list[str]:
        """Submit a job for each point; returns their ids, or none if they come later.

        Args:
            points: the points.
            begin: to be called when nothing can be refused any more, before there are jobs.
        """


class Additions:
    """Adds jobs to the sweeps of one source. Thread-safe.

    Args:
        ledger: has the sweeps' jobs.
        observers: are told what was not added again.

    Attributes:
        again: whether a resumed sweep also gets the jobs that were added while it ran.
    """

    def __init__(self, ledger: Ledger, observers: SweepObserver) -> None:
        self._ledger = ledger
        self._observers = observers
        self._adders: dict[Path, Adder] = {}  # by the sweep's directory
        self.again = True

    def begins(self, paths: SweepPaths, adder: Adder, resumption: Resumption | None) -> None:
        """A sweep has its first jobs: have `adder` add others, at once what was added earlier."""
        if resumption is not None and resumption.added and self.again:
            jobs = _numbers(self._handles(paths))
            for asked in resumption.added:
                try:
                    points, _ = _split(adder.points(asked), jobs)
                    ids = adder.submit(points, lambda: None) if points else []
                except HsmError as error:
                    self._observers.message(f"not added again: {told(asked)}: {error}")
                    continue
                for point, job_id in zip(points, ids, strict=False):
                    jobs[identity(point.params)] = self._ledger[job_id].job.num
        self._adders[paths.sweep_dir] = adder

    def add(self, paths: SweepPaths, asked: Add, record: Callable[[Add], None]) -> list[str]:
        """Add jobs for those points that no job has.

        Args:
            paths: the sweep's.
            asked: the request.
            record: writes the complete request into the journal.

        Returns:
            Lines for people.

        Raises:
            HsmError: nothing was added, and why.
        """
        adder = self._adders.get(paths.sweep_dir)
        if adder is None:
            raise HsmError("the sweep is just beginning: ask again")
        handles = self._handles(paths)
        complete, shared = adder.complete(asked, handles)
        points, known = _split(adder.points(complete), _numbers(handles))
        if not points:
            raise HsmError(f"already there: the {_points(known)} of {_numbered(known)}")
        ids = adder.submit(points, lambda: record(complete))
        nums = [self._ledger[job_id].job.num for job_id in ids]
        count = len(points)
        lines = [
            f"added {_numbered(nums)}" if nums else f"added {count} {_plural(count)} to try next"
        ]
        if shared:
            lines.append(f"with {shorten(shared, _MOST_SHOWN)}, as all its jobs")
        if unset := _unset(points[0].params, [handle.job.params for handle in handles]):
            others = f"without {', '.join(unset)}, which all its other jobs set"
            lines.append(others if nums else f"with values of {', '.join(unset)} that are chosen")
        if known:
            lines.append(f"already there: the {_points(known)} of {_numbered(known)}")
        return lines

    def _handles(self, paths: SweepPaths) -> list[JobHandle]:
        directory = paths.sweep_dir
        return [each for each in self._ledger.all() if each.journal.paths.sweep_dir == directory]


def _numbers(handles: Iterable[JobHandle]) -> dict[str, int]:
    """The jobs' numbers, by the `identity` of their parameters."""
    return {identity_of(handle.job): handle.job.num for handle in handles}


def _split(points: Iterable[Point], jobs: Mapping[str, int]) -> tuple[list[Point], list[int]]:
    """The points that no job has, and the numbers of the jobs that have the others."""
    new, known = [], {}
    for point in points:
        num = jobs.get(identity(point.params))
        if num is None:
            new.append(point)
        else:
            known[num] = True
    return new, list(known)


def _numbered(nums: Sequence[int]) -> str:
    return f"job{'' if len(nums) == 1 else 's'} {show_numbers(nums)}"


def _points(nums: Sequence[int]) -> str:
    return _plural(len(nums))


def _plural(count: int) -> str:
    return "point" if count == 1 else "points"


def _unset(point: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The parameters that each job sets, and the point does not."""
    names = {plain_key(key) for key in point}
    return [
        key
        for key in (jobs[0] if jobs else ())
        if plain_key(key) not in names and all(key in params for params in jobs)
    ]


class ProgramAdder:
    """Adds jobs that run a command, a script or a function.

    Args:
        program: what they run.
        order: the parameters of the sweep's first job; the others have theirs in this order, too.
        submit: submits jobs for points, see `Adder.submit`.
    """

    def __init__(
        self,
        program: Program,
        order: Iterable[str],
        submit: Callable[[Sequence[dict[str, Any]], Callable[[], None]], list[str]],
    ) -> None:
        self._program = program
        self._order = list(order)
        self._submit = submit

    def complete(self, asked: Add, handles: Sequence[JobHandle]) -> tuple[Add, str]:
        given = {plain_key(key) for key in _keys(parse_overrides(asked.overrides))}
        shared = {
            key: value
            for key, value in _shared(_with_needs(handle.job) for handle in handles).items()
            if plain_key(key) not in given
        }
        text = " ".join(f"{key}={value}" for key, value in shared.items())
        return Add(asked.overrides, shared), text

    def points(self, asked: Add) -> list[Point]:
        return [
            Point(params_of(point), point) for point in points_of(asked, self._program, self._order)
        ]

    def submit(self, points: Sequence[Point], begin: Callable[[], None]) -> list[str]:
        return self._submit([dict(point.given) for point in points], begin)


class AskedAdder:
    """Adds points to those of somebody who is asked for each job, and may leave out parameters.

    Args:
        enqueue: has them asked for next. Raises HsmError.
    """

    def __init__(
        self, enqueue: Callable[[Sequence[dict[str, Any]], Callable[[], None]], None]
    ) -> None:
        self._enqueue = enqueue

    def complete(self, asked: Add, handles: Sequence[JobHandle]) -> tuple[Add, str]:
        return asked, ""

    def points(self, asked: Add) -> list[Point]:
        return [Point(point, point) for point in given_points(asked)]

    def submit(self, points: Sequence[Point], begin: Callable[[], None]) -> list[str]:
        self._enqueue([dict(point.given) for point in points], begin)
        return []


def given_points(asked: Add) -> Iterator[dict[str, Any]]:
    """The points of a request, as far as it gives them. Raises HsmError: there are too many."""
    definition = parse_overrides(asked.overrides)
    check_count(definition)
    yield from definition


def points_of(asked: Add, program: Program, order: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The points of a complete request, with the needs of their own.

    Args:
        asked: the request.
        program: what their jobs run.
        order: parameters that come first, in this order, if a point has them.

    Raises:
        HsmError: there are too many, or the program cannot run with them.
    """
    definition, shared = parse_overrides(asked.overrides), asked.params or {}
    check_count(definition)
    keys = list(params_of(shared))
    program.check([*keys, *definition.shared_keys()], [*keys, *definition.all_keys()])
    first = dict.fromkeys(order)
    for point in definition:
        whole = {**shared, **point}
        yield {key: whole[key] for key in {**first, **whole} if key in whole}


def params_of(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point's parameters, without the needs of its own."""
    return {key: value for key, value in point.items() if key != NEEDS}


def check_count(definition: SweepDefinition) -> None:
    """Refuse more points than a request may have. Raises HsmError."""
    count = definition.count()
    if count > MOST_POINTS:
        raise HsmError(f"{count} points are too many to add at once: at most {MOST_POINTS}")


def _keys(definition: SweepDefinition) -> list[str]:
    """All keys of the first point, the needs as well; there may be no point."""
    return list(next(iter(definition), {}))


def _with_needs(job: Job) -> Mapping[str, Any]:
    return {**job.params, NEEDS: dict(job.needs)} if job.needs else job.params


def _shared(points: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What all points have, with equal values of the same type."""
    each = iter(points)
    shared = dict(next(each, {}))
    texts = {key: identity({"": value}) for key, value in shared.items()}
    for point in each:
        for key in list(shared):
            if key not in point or identity({"": point[key]}) != texts[key]:
                del shared[key]
        if not shared:
            break
    return shared
