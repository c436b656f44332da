"""SweepSource: runs jobs for points, all at once, a few at a time, or as somebody chooses them.

points --submit_jobs, feed_jobs, ask_jobs--> JobSpecs --> SpecSource
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from hsm.core.engine.adding import AskedAdder, ProgramAdder
from hsm.core.engine.asking import AskedJob, Asker, Asking
from hsm.core.engine.backend import Backend
from hsm.core.engine.begun_late import BegunLate
from hsm.core.engine.compute_source import SweepObserver
from hsm.core.engine.feeding import Feed
from hsm.core.engine.spec_source import SpecSource
from hsm.core.engine.submission import Claimed, OpenSweep, claim, give_back, make_specs
from hsm.core.errors import HsmError, SettingsError
from hsm.core.gpu.need import GpuNeeds
from hsm.core.needs import OwnNeeds
from hsm.core.program.params import check_combinations, plain_points, with_facts
from hsm.core.program.program import Program, find_program
from hsm.core.record.claim import claimable, unclaim
from hsm.core.record.paths import SweepPaths
from hsm.core.record.resume import Resumption
from hsm.core.record.sweep_id import check_sweep_id
from hsm.core.settings.point_needs import Shared, take_all_needs
from hsm.core.settings.resolve import SweepConf
from hsm.core.space.choosing import is_study

#: Points that are checked before the first job starts; there may be very many.
_CHECKED_FIRST = 10_000


class Enqueuer(Asker, Protocol):
    """Chooses jobs, and takes points that are to be next."""

    def enqueue(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Ask for these points, or parts of points, next. Thread-safe. Raises HsmError."""


#: A point, and what its job needs by name.
Checked = tuple[dict[str, Any], OwnNeeds]


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
        self._shared = Shared.of(conf)

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
        checked = list(self._check(combinations))
        with self._mutex:
            sweep = self._sweeps.get(paths.sweep_dir)
            if sweep is None:
                return self._begin(checked, program, sweep_id, paths, resumes=resumes)
            if sweep.resumption is not None:
                sweep_id = sweep.resumption.sweep_id
            return self._submit_more(sweep, sweep.as_begun(program), checked, sweep_id=sweep_id)

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
                return self._submit_more(sweep, program, points, place=place)

        return Feed(self, checked, give, planned=planned, begins_empty=True)

    def ask_jobs(
        self,
        open_asker: Callable[[Resumption | None], Enqueuer],
        sweep_id: str,
        sweep_dir: str | Path,
        program: Program,
        *,
        check: Callable[[], None] = lambda: None,
        n_jobs: int | None = None,
        resume: bool | None = None,
    ) -> BegunLate:
        """Like `feed_jobs`, but of somebody who chooses each job when it can start.

        All happens when what is returned begins: a new fork server has little of what `open_asker`
        imports; then the directory is claimed, so that nobody else opens the same study.

        Args:
            open_asker: finds who chooses the jobs, given what knows the jobs so far; None for a new
                sweep. May tell the source more of the sweep with `note`.
            sweep_id: the sweep's id.
            sweep_dir: its directory.
            program: what the jobs run.
            check: raises what `open_asker` would, as far as that can be told before.
            n_jobs: jobs at once, at most; None for as many as there are places.
            resume: see `submit_jobs`.

        Raises:
            SettingsError: the id is wrong.
        """
        check_sweep_id(sweep_id, "ask_jobs")
        paths = SweepPaths(sweep_dir)
        resumes = self.conf.resume if resume is None else resume
        claims: list[Claimed] = []
        made: list[Path] = []

        def begin() -> Asking:
            self.get_ready(program.function, n_jobs or self.places, program.kept_script)
            check()
            made.extend(place for place in claimable(paths) if not place.exists())
            claims.append(claim(paths, program, self.conf, resumes=resumes))
            asker = open_asker(claims[0].resumption)
            give = partial(self._give_asked, claims, program, sweep_id, paths)
            planned = self._facts.get(paths.sweep_dir, {}).get("planned")
            asking = Asking(self, asker, give, planned=planned, n_jobs=n_jobs)
            enqueue = partial(self._enqueue, asker, asking)
            self.additions.begins(paths, AskedAdder(enqueue), None)
            return asking

        def has_failed() -> None:
            for claimed in claims:
                unclaim(paths, made)
                give_back(*claimed)

        return BegunLate(begin, has_failed)

    def _give_asked(
        self,
        claims: list[Claimed],
        program: Program,
        sweep_id: str,
        paths: SweepPaths,
        asked: Sequence[AskedJob],
    ) -> list[str]:
        """Submit jobs that were asked for; takes the claim out of `claims` for the first ones."""
        checked = list(self._check([job.point for job in asked]))
        nums = [job.num for job in asked]
        with self._mutex:
            if claims:
                return self._submit_first(
                    claims.pop(), checked, program, sweep_id, paths, nums=nums
                )
            return self._submit_more(self._sweeps[paths.sweep_dir], program, checked, nums=nums)

    def _enqueue(
        self,
        asker: Enqueuer,
        asking: Asking,
        points: Sequence[dict[str, Any]],
        begin: Callable[[], None],
    ) -> None:
        """Have points asked for next; `begin` as in `hsm.core.engine.adding.Adder.submit`."""
        self._check_open(though_stopped=False)
        asker.enqueue(points)
        if not asking.more():
            raise HsmError("it is too late: no further job is asked for")
        begin()

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

    def _check(self, points: object, first: int = 0) -> Iterator[Checked]:
        plain = plain_points(points, first)
        needs = take_all_needs(plain, self._shared, first)
        if (gpus := self._backend.gpus) is not None:
            from hsm.core.gpu.gpu_checks import check_own_gpus  # as few sweeps need it

            usual = GpuNeeds(self.conf.gpus, self.conf.gpu_memory)
            check_own_gpus(needs, usual, gpus.allowed, first, silence=gpus.found.silence)
        return zip(plain, needs, strict=True)

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
        """Claim the directory of a new or resumed sweep, and submit its first jobs."""
        claimed = claim(paths, program, self.conf, resumes=resumes)
        if claimed.resumption is not None and is_study(claimed.resumption.method):
            give_back(*claimed)
            message = (
                f"{paths.sweep_dir} is a study: LocalManager.optimize or hsm sweep --resume goes "
                "on with it, and points of other choice cannot"
            )
            raise SettingsError("resume", True, "resume", "a sweep of points", message=message)
        if claimed.resumption is not None and planned is not None:
            claimed.resumption.reserve(planned)
        ids = self._submit_first(
            claimed, checked, program, sweep_id, paths, are_places=planned is not None
        )
        sweep = self._sweeps[paths.sweep_dir]
        sweep.next_num = max(sweep.next_num, planned or 0)
        self._allow_additions(sweep, program, checked[0][0] if checked else {})
        return ids

    def _submit_first(
        self,
        claimed: Claimed,
        checked: Sequence[Checked],
        program: Program,
        sweep_id: str,
        paths: SweepPaths,
        *,
        are_places: bool = False,
        nums: Sequence[int] | None = None,
    ) -> list[str]:
        """Submit the first jobs of a sweep whose directory is claimed, or give that back.

        Args:
            claimed: the claim.
            checked, program, sweep_id, paths: see `_begin`.
            are_places, nums: see `make_specs`.
        """
        points, needs = _apart(checked)
        lock, resumption = claimed
        try:
            specs = make_specs(
                points,
                needs,
                program,
                paths,
                resumption=resumption,
                are_places=are_places,
                nums=nums,
            )
            for note in program.notes:
                self._observers.message(note)
            return self.submit(
                specs,
                sweep_id if resumption is None else resumption.sweep_id,
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
                give_back(*claimed)

    def _allow_additions(
        self, sweep: OpenSweep, program: Program, first: Mapping[str, Any]
    ) -> None:
        """Have jobs added when somebody asks, of which `first` shows how parameters are given."""

        def more(points: Sequence[dict[str, Any]], begin: Callable[[], None]) -> list[str]:
            return self._submit_more(sweep, program, list(self._check(points)), begin)

        adder = ProgramAdder(program, first, more)
        self.additions.begins(sweep.journal.paths, adder, sweep.resumption)

    def _submit_more(
        self,
        sweep: OpenSweep,
        program: Program,
        checked: Sequence[Checked],
        begin: Callable[[], None] | None = None,
        *,
        sweep_id: str | None = None,
        place: int | None = None,
        nums: Sequence[int] | None = None,
    ) -> list[str]:
        """Submit further jobs of a sweep.

        Args:
            sweep, program: whose jobs they are, and what they run.
            checked: their points.
            begin: called when nothing can be refused any more.
            sweep_id: what the caller takes the sweep's id to be; None for what it is.
            place: the place of the first one in the sweep, if that is to be its number.
            nums: see `make_specs`.
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
                nums=nums,
            )
            if begin is not None:
                self._check_open(though_stopped=False)
                begin()
            return self.submit(
                specs,
                sweep_id or sweep.journal.sweep_id,
                paths.sweep_dir,
                function=program.function,
                though_stopped=begin is not None,
            )


def _apart(
    checked: Sequence[Checked],
) -> tuple[list[dict[str, Any]], list[OwnNeeds]]:
    return [point for point, _ in checked], [needs for _, needs in checked]
