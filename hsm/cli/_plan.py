"""From a command line to a plan: what runs, over which points, and where.

    overrides, --config, --method, … --> Selection --.
    --script, -- command ------------> Program ------+--> Plan --jobs()--> PlannedJob, one by one
    --sweep-id, --sweep-dir -------------------------'

Making a plan starts nothing and writes nothing. Every mistake in a command line is found here.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hsm.cli._earlier import recorded_points, recorded_program
from hsm.cli._points import AskedPoints
from hsm.cli._stdout import say
from hsm.cli._study import AskedStudy, check_method
from hsm.core.engine.adding import params_of, points_of
from hsm.core.errors import HsmError, SettingsError, shown
from hsm.core.plain_json import identity
from hsm.core.program.program import Program, find_program
from hsm.core.record.claim import check_rerun
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import taken_by
from hsm.core.record.resume import Rerun, Resumption
from hsm.core.record.sweep import Sweep, read_sweep
from hsm.core.record.sweep_id import OUTPUT_DIR, check_sweep_id, new_sweep_id
from hsm.core.settings.args_style import ArgsStyle
from hsm.core.settings.point_needs import Shared, take_needs
from hsm.core.settings.resolve import HsmConfig, Resolved
from hsm.core.space.choosing import is_study
from hsm.core.space.selection import Selection

if TYPE_CHECKING:
    from hsm.core.local.study_run import StudyPlan

_COMMAND = "command after --"
#: A storage that is gone with the process.
_IN_MEMORY = "optuna.storages.InMemoryStorage"
#: Points with which the command line of a study's jobs is tried.
_CHECKED = 3


class PlannedJob(NamedTuple):
    """A job that would run, with its directory and command."""

    num: int
    params: dict[str, Any]
    directory: Path
    command: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A sweep that is ready to start.

    Attributes:
        program: what its jobs run.
        source: each job's parameters and own needs, including jobs that do not run again; can be
            iterated more than once.
        sweep_id: its id.
        paths: its directory.
        previous: the sweep so far, if it is resumed.
        rerun: which jobs run again when it is resumed.
        shared: what its jobs share.
        facts: what the journal is to say of the points, see `AskedPoints.record`.
        takes_over_added: whether it also has the jobs that were added while the sweep ran.
        notes: lines for people, on how the points were chosen.
        study: what the points are chosen from, one by one; None if `source` has them all.
        goal: settings that say what is optimised, as far as the points have a word on it.
        roots: directories that contain sweeps.
        origins: where each setting came from, by its name.
    """

    program: Program
    source: Iterable[dict[str, Any]]
    sweep_id: str
    paths: SweepPaths
    previous: Sweep | None = None
    rerun: Rerun = "unfinished"
    shared: Shared = field(default_factory=Shared)
    facts: Mapping[str, Any] = field(default_factory=dict)
    takes_over_added: bool = True
    notes: Sequence[str] = ()
    study: AskedStudy | None = None
    goal: Mapping[str, Any] = field(default_factory=dict)
    roots: Sequence[str] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    def count(self) -> int:
        """How many jobs will run. Raises SettingsError at one that cannot."""
        if self.study is None:
            return sum(1 for _ in self.jobs())
        if self.previous is None:
            return self.study.count()
        resumption = Resumption(self.previous, self.rerun)
        resumption.of_study()
        return max(0, self.study.count() - resumption.over)

    def check(self) -> None:
        """Raise SettingsError if a job cannot run; of a study, whose points nobody knows, any."""
        jobs = iter(self.jobs())
        if self.study is not None:
            jobs = map(self._planned, *_some(self.study)) if self.study.knows_keys else iter(())
        for _ in jobs:
            pass

    def study_plan(self, *, is_dry: bool = False) -> StudyPlan:
        """The study, for its run; with `is_dry` one that writes nothing."""
        from hsm.core.local.study_run import StudyPlan  # which commands without a study do without

        assert self.study is not None
        if os.getcwd() not in sys.path:  # Classes and functions may be named that are here.
            sys.path.append(os.getcwd())
        options = self.study.options
        if is_dry and options.is_optuna:
            options = replace(options, storage={"_target_": _IN_MEMORY})
        return StudyPlan(options, self.study.space, self.study.origin, self.roots)

    def first_trials(self, places: int) -> Iterator[PlannedJob]:
        """Yield the jobs of a study that will start first.

        Args:
            places: how many start at once.

        Raises:
            HsmError: the study cannot be opened.
        """
        resumption = None
        if self.previous is not None:
            resumption = Resumption(self.previous, self.rerun)
        study = self.study_plan(is_dry=True)
        trials = study.open(self.paths, self.sweep_id, self.program, resumption)
        with closing(trials):
            again = [job for job in trials.earlier() if _runs(job.num, resumption)]
            for job in again:
                yield self._planned(job.num, dict(job.point))
            for _ in range(len(again), places):
                asked = trials.ask()
                if asked is None:
                    return
                yield self._planned(asked.num, dict(asked.point))

    def _planned(self, num: int, params: dict[str, Any]) -> PlannedJob:
        take_needs(num, params, self.shared)
        directory = self.paths.job_dir(num)
        command = self.program.command_for(params, directory)
        assert command is not None, "the command line names no functions"
        return PlannedJob(num, params, directory, command)

    def jobs(self) -> Iterator[PlannedJob]:
        """Yield the jobs that will run. Raises SettingsError at one that cannot."""
        resumption = None if self.previous is None else Resumption(self.previous, self.rerun)
        for index, params in enumerate(self._all_points()):
            take_needs(index, params, self.shared)
            num = index
            if resumption is not None:
                [match] = resumption.match([params])
                if not match.runs:
                    continue
                num = match.num
            yield self._planned(num, params)

    def _all_points(self) -> Iterator[dict[str, Any]]:
        """Each job's, and then those that the launcher will add again."""
        if self.previous is None or not self.previous.asked.added or not self.takes_over_added:
            yield from self.source
            return
        seen, order = set(), list[str]()
        for point in self.source:
            order = order or list(point)
            seen.add(identity(params_of(point)))
            yield point
        for asked in self.previous.asked.added:
            for point in points_of(asked, self.program, order):
                if identity(params_of(point)) not in seen:
                    yield point


@dataclass(frozen=True)
class Asked:
    """What a command line asks for; fields that it leaves out are empty or None.

    Attributes:
        points: what it says about the points.
        script: the script that jobs run.
        command: the words after ``--``, instead of a script.
        args_style: how these get their arguments.
        sweep_id: the sweep's id.
        sweep_dir: its directory.
    """

    points: AskedPoints
    script: str
    command: Sequence[str] | None
    args_style: ArgsStyle | None
    sweep_id: str
    sweep_dir: str

    def count(self, hsm_config: HsmConfig) -> int:
        """Count the jobs of a new sweep. What they run may still be unknown."""
        program = Program()
        if self.script or self.command or hsm_config.script or hsm_config.command:
            program = self._program(hsm_config)
        selection = self.points.select(program)
        count = selection.count()
        if count is None:
            assert isinstance(selection, Selection)
            total = selection.choosing.n_trials or selection.definition.count()
            say(f"hsm: looking for those of {total} points that the filter keeps", error=True)
            count = sum(1 for _ in selection)
        return count

    def plan(self, resolved: Resolved, earlier: Sweep | None) -> Plan:
        """Plan the sweep.

        Args:
            resolved: the settings.
            earlier: the sweep to resume, if one was named.

        Raises:
            HsmError: the command line asks for something impossible.
        """
        rerun, shared = resolved.conf.rerun, Shared.of(resolved.conf)
        if earlier is not None:
            resumed = self._resumed(resolved.hsm_config, earlier, rerun)
            return replace(resumed, shared=shared, roots=_roots(resolved.hsm_config))
        program = self._program(resolved.hsm_config)
        sweep_id, paths = find_place(
            self.sweep_id,
            self.sweep_dir,
            program,
            resolved.hsm_config,
            resumes=resolved.conf.resume,
        )
        previous = read_sweep(paths.sweep_dir) if os.path.exists(paths.journal) else None
        check_rerun(paths, rerun, resumes=previous is not None)
        plan = Plan(program, (), sweep_id, paths, previous, rerun, shared)
        plan = replace(plan, roots=_roots(resolved.hsm_config))
        return self._with_points(plan, self.points)

    def _with_points(self, plan: Plan, points: AskedPoints) -> Plan:
        """The plan with these points."""
        points = points.loaded()
        if plan.previous is not None:
            points = points.going_on(plan.previous)
        selection = points.select(plan.program, plan.previous)
        if plan.previous is not None:
            asked = selection.options.method if isinstance(selection, AskedStudy) else "grid"
            check_method(asked, plan.previous)
        facts = {"points": points.record()}
        if isinstance(selection, AskedStudy):
            planned = replace(plan, study=selection, facts=facts)
            return replace(planned, goal=planned.study_plan().goal)
        return replace(
            plan,
            source=selection,
            facts=facts,
            takes_over_added="max_runs" not in self.points.choosing,
            notes=self.points.notes(selection, plan.previous),
            goal=points.goal(),
        )

    def _resumed(self, hsm_config: HsmConfig, earlier: Sweep, rerun: Rerun) -> Plan:
        if self.sweep_id or self.sweep_dir:
            option, value = "--sweep-id", self.sweep_id
            if not value:
                option, value = "--sweep-dir", self.sweep_dir
            message = f"{option} does not go with --resume: the sweep keeps its id and directory"
            allowed = "left out beside --resume"
            raise SettingsError(option, value, "command line", allowed, message=message)
        if self.script or self.command is not None:
            program = self._program(hsm_config)
        else:
            program = recorded_program(earlier, self.args_style)
        plan = Plan(program, (), earlier.sweep_id, earlier.paths, earlier, rerun)
        if self.points.has_points:
            return self._with_points(plan, self.points)
        if is_study(earlier.chosen.get("method")):
            study = self.points.on_record(earlier)
            if study is None:
                raise HsmError(
                    f"the journal of {earlier.sweep_id} does not say what it searches: give that "
                    "again, as overrides or with --config"
                )
            return self._with_points(plan, study)
        most = self.points.max_runs_of_recorded()
        again = AskedPoints.recorded(earlier, most) if earlier.to_come != 0 else None
        if again is not None and isinstance(rerun, str):
            return self._with_points(plan, again)
        kept = {name: earlier.latest.get(name) for name in ("chosen", "points")}
        return replace(
            plan,
            source=list(islice(recorded_points(earlier), most)),
            facts={name: value for name, value in kept.items() if value},
            takes_over_added=most is None,
        )

    def _program(self, hsm_config: HsmConfig) -> Program:
        return find_what_runs(self.script, self.command, self.args_style, hsm_config)


def _some(study: AskedStudy) -> tuple[Iterable[int], Iterable[dict[str, Any]]]:
    """Numbers and parameters of some jobs that a study may have."""
    return itertools.count(), islice(study.sample, _CHECKED)


def _runs(num: int, resumption: Resumption | None) -> bool:
    return resumption is not None and resumption.match_number(num).runs


def find_what_runs(
    script: str,
    command: Sequence[str] | None,
    args_style: ArgsStyle | None,
    hsm_config: HsmConfig,
) -> Program:
    """Find what the jobs run: the script, the command after ``--``, or what hsm.yaml names.

    Args:
        script: from the command line; empty if not given.
        command: from the command line; None if not given.
        args_style: from the command line; None if not given.
        hsm_config: consulted if both are missing.

    Raises:
        SettingsError: both are given, or the one given does not exist.
        HsmError: neither the command line nor hsm.yaml names anything to run.
    """
    if script and command is not None:
        allowed = "left out beside a command"
        message = "give --script or a command after --, not both"
        raise SettingsError("--script", script, "command line", allowed, message=message)
    if command is not None and not command:
        message, allowed = "there is no command after the --", "given after the --"
        raise SettingsError("the command", "--", "command line", allowed, message=message)
    if not (script or command or hsm_config.script or hsm_config.command):
        raise HsmError(
            "nothing to run: give --script train.py or a command after --, or put "
            "`script: train.py` into hsm.yaml"
        )
    caller = "--script" if script else _COMMAND
    return find_program(
        None, command, script or None, args_style, caller=caller, hsm_config=hsm_config
    )


def find_place(
    sweep_id: str, sweep_dir: str, program: Program, hsm_config: HsmConfig, *, resumes: bool
) -> tuple[str, SweepPaths]:
    """Return the sweep's id, a new one if none is given, and its directory.

    Args:
        sweep_id: from the command line; empty if not given.
        sweep_dir: from the command line; empty if not given.
        program: what the jobs run; a new id is named after it.
        hsm_config: its output_dir is where sweeps go.
        resumes: whether the sweep may exist already.

    Raises:
        SettingsError: the id cannot name a directory, or such a sweep exists already.
    """
    if sweep_id:
        check_sweep_id(sweep_id, "--sweep-id")
    [root] = map(Path, _roots(hsm_config))
    sweep_id = sweep_id or new_sweep_id(program.name)
    paths = SweepPaths(os.path.expanduser(sweep_dir) if sweep_dir else root / sweep_id)
    if not resumes:
        origin, name = ("--sweep-dir", sweep_dir) if sweep_dir else ("--sweep-id", sweep_id)
        _check_new(sweep_id, name, origin, paths)
    return sweep_id, paths


def _roots(hsm_config: HsmConfig) -> Sequence[str]:
    """The directories that contain sweeps."""
    return [os.path.expanduser(hsm_config.output_dir or OUTPUT_DIR)]


def _check_new(sweep_id: str, name: str, origin: str, paths: SweepPaths) -> None:
    place = paths.sweep_dir if os.path.exists(paths.journal) else taken_by(sweep_id)
    if place is not None:
        hint = f"hsm sweep --resume {name} resumes it"
        message = f"{origin} {shown(name)} is taken by the sweep in {place}; {hint}"
        raise SettingsError("sweep", name, origin, "a new one", hint, message=message)
