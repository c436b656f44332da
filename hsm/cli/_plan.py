"""From a command line to a plan: what runs, over which points, and where.

    overrides, --config, --method, … --> Selection --.
    --script, -- command ------------> Program ------+--> Plan --jobs()--> PlannedJob, one by one
    --sweep-id, --sweep-dir -------------------------'

Making a plan starts nothing and writes nothing. Every mistake in a command line is found here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from hsm.cli._earlier import recorded_points, recorded_program
from hsm.cli._points import AskedPoints
from hsm.cli._stdout import say
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
from hsm.core.settings.point_needs import take_needs
from hsm.core.settings.resolve import HsmConfig, Resolved

_COMMAND = "command after --"


@dataclass(frozen=True)
class PlannedJob:
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
        resources: what its jobs share, by name.
        facts: what the journal is to say of the points, see `AskedPoints.facts`.
        takes_over_added: whether it also has the jobs that were added while the sweep ran.
        notes: lines for people, on how the points were chosen.
    """

    program: Program
    source: Iterable[dict[str, Any]]
    sweep_id: str
    paths: SweepPaths
    previous: Sweep | None = None
    rerun: Rerun = "unfinished"
    resources: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    takes_over_added: bool = True
    notes: Sequence[str] = ()

    def jobs(self) -> Iterator[PlannedJob]:
        """Yield the jobs that will run. Raises SettingsError at one that cannot."""
        resumption = None if self.previous is None else Resumption(self.previous, self.rerun)
        for index, params in enumerate(self._all_points()):
            take_needs(index, params, self.resources)
            num = index
            if resumption is not None:
                [match] = resumption.match([params])
                if not match.runs:
                    continue
                num = match.num
            directory = self.paths.job_dir(num)
            command = self.program.command_for(params, directory)
            assert command is not None, "the command line names no functions"
            yield PlannedJob(num, params, directory, command)

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
        rerun, resources = resolved.conf.rerun, resolved.conf.resources
        if earlier is not None:
            resumed = self._resumed(resolved.hsm_config, earlier, rerun)
            return replace(resumed, resources=resources)
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
        plan = Plan(program, (), sweep_id, paths, previous, rerun, resources)
        return self._with_points(plan, self.points)

    def _with_points(self, plan: Plan, points: AskedPoints) -> Plan:
        """The plan with these points."""
        points = points.loaded()
        selection = points.select(plan.program, plan.previous)
        return replace(
            plan,
            source=selection,
            facts={"points": points.record()},
            takes_over_added="max_runs" not in self.points.choosing,
            notes=self.points.notes(selection, plan.previous),
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
    root = Path(os.path.expanduser(hsm_config.output_dir or OUTPUT_DIR))
    sweep_id = sweep_id or new_sweep_id(program.name)
    paths = SweepPaths(os.path.expanduser(sweep_dir) if sweep_dir else root / sweep_id)
    if not resumes:
        origin, name = ("--sweep-dir", sweep_dir) if sweep_dir else ("--sweep-id", sweep_id)
        _check_new(sweep_id, name, origin, paths)
    return sweep_id, paths


def _check_new(sweep_id: str, name: str, origin: str, paths: SweepPaths) -> None:
    place = paths.sweep_dir if os.path.exists(paths.journal) else taken_by(sweep_id)
    if place is not None:
        hint = f"hsm sweep --resume {name} resumes it"
        message = f"{origin} {shown(name)} is taken by the sweep in {place}; {hint}"
        raise SettingsError("sweep", name, origin, "a new one", hint, message=message)
