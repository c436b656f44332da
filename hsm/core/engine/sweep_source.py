"""SweepSource: runs jobs for points, all at once or a few at a time.

points --submit_jobs or feed_jobs--> JobSpecs --> SpecSource
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from hsm.core.engine.adding import ProgramAdder
from hsm.core.engine.backend import Backend
from hsm.core.engine.compute_source import SweepObserver
from hsm.core.engine.feeding import Feed
from hsm.core.engine.spec_source import SpecSource
from hsm.core.engine.submission import OpenSweep, claim, give_back, make_specs
from hsm.core.program.params import check_combinations, plain_points, with_facts
from hsm.core.program.program import Program, find_program
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep_id import check_sweep_id
from hsm.core.settings.point_needs import take_all_needs
from hsm.core.settings.resolve import SweepConf

#: Points that are checked before the first job starts; there may be very many.
_CHECKED_FIRST = 10_000

#: A point, and what its job needs by name.
Checked = tuple[dict[str, Any], Mapping[str, int]]


class SweepSource(SpecSource):
    """Runs the jobs of sweeps on a backend.

    Args:
        backend, conf, asked, observers: see `SpecSource`.
        function, command, script, args_style: what jobs run by default, see `submit_jobs`.
    """

    def __init__(
        self,
        backend: Backend,
        conf: SweepConf,
        *,
        asked: SweepConf | None = None,
        observers: Iterable[SweepObserver] = (),
        function: Callable[[Any], Any] | None = None,
        command: str | Sequence[str] | None = None,
        script: str | os.PathLike[str] | None = None,
        args_style: str | None = None,
    ) -> None:
        super().__init__(backend, conf, asked=asked, observers=observers)
        self._default = (function, command, script, args_style)

    def submit_jobs(
        self,
        param_combinations: Iterable[Mapping[str, Any]],
        sweep_id: str,
        sweep_dir: str | Path,
        *,
        function: Callable[[Any], Any] | None = None,
        command: str | Sequence[str] | None = None,
        script: str | os.PathLike[str] | None = None,
        args_style: str | None = None,
        resume: bool | None = None,
    ) -> list[str]:
        if function is None and command is None and script is None:
            function, command, script, style = self._default
            args_style = args_style or style
        program = find_program(function, command, script, args_style)
        check_sweep_id(sweep_id, "submit_jobs")
        paths = SweepPaths(sweep_dir)
        resumes = self.conf.resume if resume is None else resume
        combinations, facts = with_facts(param_combinations, paths, resumes=resumes)
        self.note(paths, chosen=facts.get("chosen"))  # Not how many: there may be more later.
        points = plain_points(combinations)
        needs = take_all_needs(points, self.conf.resources)
        checked = list(zip(points, needs, strict=True))
        with self._mutex:
            sweep = self._sweeps.get(paths.sweep_dir)
            if sweep is None:
                return self._begin(checked, program, sweep_id, paths, resumes=resumes)
            if sweep.resumption is not None:
                sweep_id = sweep.resumption.sweep_id
            return self._submit_more(sweep, sweep_id, sweep.as_begun(program), checked)

    def feed_jobs(
        self,
        param_combinations: Iterable[Mapping[str, Any]],
        sweep_id: str,
        sweep_dir: str | Path,
        program: Program,
        *,
        resume: bool | None = None,
    ) -> Feed[Checked]:
        """Like `submit_jobs` for a new sweep, but a few jobs at a time, as they can start.

        A job's number is the place of its parameters in the sweep. Of a list all parameters are
        checked here, of a `Selection` the first ones; others when they come. A generator is not
        asked for a point before there is room for its job.

        Args:
            param_combinations: each job's parameters.
            sweep_id: the sweep's id.
            sweep_dir: its directory.
            program: what the jobs run.
            resume: see `submit_jobs`.

        Raises:
            SettingsError: parameters, or the id, are wrong.
        """
        check_sweep_id(sweep_id, "feed_jobs")
        paths = SweepPaths(sweep_dir)
        resumes = self.conf.resume if resume is None else resume
        combinations, facts = with_facts(param_combinations, paths, resumes=resumes)
        is_generator = "planned" not in facts
        checked = self._checked(combinations, is_generator=is_generator)
        self.note(paths, **{**facts, **self._facts.get(paths.sweep_dir, {})})
        planned = facts.get("planned")

        def give(points: Sequence[Checked], first: int) -> list[str]:
            with self._mutex:
                sweep = self._sweeps.get(paths.sweep_dir)
                if sweep is None:
                    return self._begin(
                        points, program, sweep_id, paths, resumes=resumes, planned=planned
                    )
                place = first if planned is not None else None
                return self._submit_more(
                    sweep, sweep.journal.sweep_id, program, points, place=place
                )

        return Feed(self, checked, give, planned=planned, begins_empty=True)

    def _checked(self, combinations: object, *, is_generator: bool) -> Iterator[Checked]:
        """Each point with its needs; but for a generator's, the first ones are checked at once."""
        check_combinations(combinations)
        assert isinstance(combinations, Iterable)
        is_list = isinstance(combinations, (list, tuple))
        points = iter(combinations)
        if is_generator:
            return self._check_each(points, 0)
        first = list(self._check(islice(points, None if is_list else _CHECKED_FIRST), 0))
        return chain(first, self._check_each(points, len(first)))

    def _check(self, points: Iterable[Mapping[str, Any]], first: int) -> Iterator[Checked]:
        plain = plain_points(points, first)
        return zip(plain, take_all_needs(plain, self.conf.resources, first), strict=True)

    def _check_each(self, points: Iterator[Mapping[str, Any]], first: int) -> Iterator[Checked]:
        for place, point in enumerate(points, first):
            yield from self._check([point], place)

    def _begin(
        self,
        checked: Sequence[Checked],
        program: Program,
        sweep_id: str,
        paths: SweepPaths,
        *,
        resumes: bool,
        planned: int | None = None,
    ) -> list[str]:
        """Submit the first jobs of a new or resumed sweep."""
        points, needs = _apart(checked)
        lock, resumption = claim(paths, program, self.conf, resumes=resumes)
        if resumption is not None and planned is not None:
            resumption.reserve(planned)
        try:
            specs = make_specs(
                points,
                needs,
                program,
                paths,
                resumption=resumption,
                are_places=planned is not None,
            )
            for note in program.notes:
                self._observers.message(note)
            sweep_id = sweep_id if resumption is None else resumption.sweep_id
            ids = self.submit(
                specs,
                sweep_id,
                paths.sweep_dir,
                function=program.function,
                lock=lock,
                files=program.files(),
                program=program.record(),
                resumption=resumption,
            )
        finally:
            if self.has(paths):
                self._sweeps[paths.sweep_dir].as_begun(program)
            else:
                give_back(lock, resumption)
        sweep = self._sweeps[paths.sweep_dir]
        sweep.next_num = max(sweep.next_num, planned or 0)
        self._allow_additions(sweep, sweep_id, program, points[0] if points else {})
        return ids

    def _allow_additions(
        self, sweep: OpenSweep, sweep_id: str, program: Program, first: Mapping[str, Any]
    ) -> None:
        """Have jobs added when somebody asks, of which `first` shows how parameters are given."""

        def more(points: Sequence[dict[str, Any]], begin: Callable[[], None]) -> list[str]:
            added = list(zip(points, take_all_needs(points, self.conf.resources), strict=True))
            return self._submit_more(sweep, sweep_id, program, added, begin)

        adder = ProgramAdder(program, first, more)
        self.additions.begins(sweep.journal.paths, adder, sweep.resumption)

    def _submit_more(
        self,
        sweep: OpenSweep,
        sweep_id: str,
        program: Program,
        checked: Sequence[Checked],
        begin: Callable[[], None] | None = None,
        *,
        place: int | None = None,
    ) -> list[str]:
        """Submit further jobs of a sweep.

        Args:
            sweep, sweep_id, program: whose jobs they are, and what they run.
            checked: their points.
            begin: called when nothing can be refused any more.
            place: the place of the first one in the sweep, if that is to be its number.
        """
        points, needs = _apart(checked)
        with self._mutex:
            resumption, paths = sweep.resumption, sweep.journal.paths
            specs = make_specs(
                points,
                needs,
                program,
                paths,
                first=sweep.next_num if place is None else place,
                resumption=resumption,
                are_places=place is not None,
            )
            if begin is not None:
                self._check_open(though_stopped=False)
                begin()
            return self.submit(
                specs,
                sweep_id,
                paths.sweep_dir,
                function=program.function,
                though_stopped=begin is not None,
            )


def _apart(
    checked: Sequence[Checked],
) -> tuple[list[dict[str, Any]], list[Mapping[str, int]]]:
    return [point for point, _ in checked], [needs for _, needs in checked]
