"""From a command line to a plan: what runs, over which points, and where.

    overrides, --config ---> SweepDefinition --.
    --script, -- command --> Program ----------+--> Plan --jobs()--> one PlannedJob at a time
    --sweep-id, --sweep-dir -------------------'

Making a plan starts nothing and writes nothing. Every mistake in a command line is found here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsm.cli._earlier import recorded_points, recorded_program
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
from hsm.core.space.definition import (
    SweepDefinition,
    parse_overrides,
    read_sweep_file,
    read_sweep_text,
)

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

#: Sweep files to look for if the command line names none.
SWEEP_FILES = ("conf/sweep.yaml", "sweeps/sweep.yaml")
_COMMAND = "command after --"
_LINE = "command line"
#: Stands for standard input where a sweep file is named, and its name in messages.
STDIN, _STDIN_NAME = "-", "standard input"


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
        source: each job's parameters; can be iterated more than once.
        max_points: take at most this many points; None for all.
        sweep_id: its id.
        paths: its directory.
        previous: the sweep so far, if it is resumed.
        rerun: which jobs run again when it is resumed.
        resources: what its jobs share, by name.
    """

    program: Program
    source: Iterable[dict[str, Any]]
    max_points: int | None
    sweep_id: str
    paths: SweepPaths
    previous: Sweep | None = None
    rerun: Rerun = "unfinished"
    resources: Mapping[str, int] = field(default_factory=dict)

    def points(self) -> Iterator[dict[str, Any]]:
        """Each job's parameters and own needs, including jobs that do not run again."""
        return islice(self.source, self.max_points)

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

    @property
    def takes_over_added(self) -> bool:
        """Whether it also has the jobs that were added while the sweep ran."""
        return self.max_points is None

    def _all_points(self) -> Iterator[dict[str, Any]]:
        """Each job's, and then those that the launcher will add again."""
        if self.previous is None or not self.previous.asked.added or not self.takes_over_added:
            yield from self.points()
            return
        seen, order = set(), list[str]()
        for point in self.points():
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
        overrides: the sweep in Hydra's syntax.
        config: the sweep file.
        script: the script that jobs run.
        command: the words after ``--``, instead of a script.
        args_style: how these get their arguments.
        sweep_id: the sweep's id.
        sweep_dir: its directory.
        max_runs: run only the first N points.
    """

    overrides: Sequence[str]
    config: str
    script: str
    command: Sequence[str] | None
    args_style: ArgsStyle | None
    sweep_id: str
    sweep_dir: str
    max_runs: int | None

    def count(self, hsm_config: HsmConfig) -> int:
        """Count the jobs of a new sweep. What they run may still be unknown."""
        program = Program()
        if self.script or self.command or hsm_config.script or hsm_config.command:
            program = self._program(hsm_config)
        count = find_definition(self.overrides, self.config, program).count()
        return count if self.max_runs is None else min(count, self.max_runs)

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
        definition = find_definition(self.overrides, self.config, program)
        sweep_id, paths = find_place(
            self.sweep_id,
            self.sweep_dir,
            program,
            resolved.hsm_config,
            resumes=resolved.conf.resume,
        )
        previous = read_sweep(paths.sweep_dir) if os.path.exists(paths.journal) else None
        check_rerun(paths, rerun, resumes=previous is not None)
        return Plan(program, definition, self.max_runs, sweep_id, paths, previous, rerun, resources)

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
        points: Iterable[dict[str, Any]]
        if self.overrides or self.config:
            points = find_definition(self.overrides, self.config, program)
        else:
            points = recorded_points(earlier)
        return Plan(program, points, self.max_runs, earlier.sweep_id, earlier.paths, earlier, rerun)

    def _program(self, hsm_config: HsmConfig) -> Program:
        return find_what_runs(self.script, self.command, self.args_style, hsm_config)


def find_definition(overrides: Sequence[str], config: str, program: Program) -> SweepDefinition:
    """Build the sweep's definition from overrides, a sweep file, or both.

    Overrides alone are the whole sweep. Given a file as well, the overrides win for the keys that
    they set. Without either, the usual places are searched for a file.

    Raises:
        SettingsError: an override or the file is wrong.
        HsmError: there are no overrides and no file.
    """
    if not config and not overrides:
        config = next((name for name in SWEEP_FILES if os.path.isfile(name)), "")
    if not config and not overrides:
        raise HsmError(
            "nothing to sweep over: give overrides, such as lr=0.1,0.01, or a sweep file with "
            f"--config (there is no {' or '.join(SWEEP_FILES)}; hsm init writes one)"
        )
    loader = _config_loader(program, overrides, config)
    definition = _parse(overrides, loader) if overrides else None
    if config:
        from_file = _read(config, loader)
        definition = from_file if definition is None else from_file.overridden_by(definition)
    assert definition is not None
    _check_keys(program, definition, _STDIN_NAME if config == STDIN else config or _LINE)
    program.check(definition.shared_keys(), definition.all_keys())
    return definition


def check_overrides(overrides: Sequence[str], program: Program) -> None:
    """Check overrides that add points to a sweep whose jobs run `program`.

    Raises:
        SettingsError: one is wrong.
    """
    _check_keys(program, _parse(overrides, _config_loader(program, overrides, "")), _LINE)


def _check_keys(program: Program, definition: SweepDefinition, origin: str) -> None:
    """Refuse keys that a Hydra app does not have. Raises SettingsError."""
    if not program.uses_hydra:
        return
    from hsm.hydra_app.config_check import check_keys

    assert program.script is not None
    note = check_keys(program.script, definition, origin)
    if note:
        say(f"hsm: {note}", error=True)


def _read(config: str, loader: ConfigLoader | None) -> SweepDefinition:
    """Read a sweep file, or standard input for ``-``."""
    if config != STDIN:
        return read_sweep_file(config, config_loader=loader)
    if sys.stdin is None:
        raise HsmError("--config -: there is no standard input")
    if sys.stdin.isatty():
        raise HsmError(
            "--config - reads standard input, which is a terminal here: pipe the sweep into it, as "
            "in (echo lr; seq 10) | hsm sweep --config - …"
        )
    try:
        data = sys.stdin.buffer.read()
    except OSError as error:
        raise HsmError(f"--config -: cannot read standard input: {error.strerror}") from error
    if not data.strip():
        raise HsmError("--config -: standard input is empty")
    return read_sweep_text(data, _STDIN_NAME, config_loader=loader)


def _config_loader(program: Program, overrides: Sequence[str], config: str) -> ConfigLoader | None:
    """Hydra's config loader for the app, if a ``glob()`` may need to look up config groups."""
    if not program.uses_hydra or not (config or any("glob(" in text for text in overrides)):
        return None
    from hsm.hydra_app.config_check import config_loader

    assert program.script is not None
    return config_loader(program.script[-1])


def _parse(overrides: Sequence[str], loader: ConfigLoader | None) -> SweepDefinition:
    for text in overrides:
        if "=" not in text and os.path.isfile(text):
            hint = f"did you mean --script {text}, or --config {text}?"
            message = f"{shown(text)} is a file, not an override; {hint}"
            raise SettingsError("an override", text, _LINE, "key=value", hint, message=message)
    return parse_overrides(overrides, config_loader=loader)


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
