"""From a command line to a sweep's points: overrides, a sweep file, and how to choose from them.

overrides, --zip, --also --.
--config, or a usual file --+--> SweepDefinition --.
--method, --seed, … --> Choosing -------------------+--> Selection: each job's parameters
--sampler, --pruner, … --> StudyOptions ------------'--> AskedStudy: what they are chosen from
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hsm.cli._named_file import STDIN, STDIN_NAME, read_named, usual_file
from hsm.cli._stdout import say
from hsm.cli._study import (
    AskedStudy,
    Given,
    check_known,
    check_recorded,
    file_keys,
    line_goal,
    plain_goal,
    recorded_study,
    refuse_without_study,
    study_option,
)
from hsm.core.errors import SettingsError, shown
from hsm.core.program.program import Program
from hsm.core.record.earlier_choice import chosen_seed
from hsm.core.settings.resolve import Resolved
from hsm.core.space.choosing import KEYS, Method, check_choosing, is_study
from hsm.core.space.definition import (
    SweepDefinition,
    parse_overrides,
    read_sweep_text,
)
from hsm.core.space.selection import Selection

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

    from hsm.cli._sweep_line import SweepLine
    from hsm.core.record.sweep import Sweep

_LINE = "command line"
_REPEAT = "NAME=VALUES, as in seed=0,1,2"


@dataclass(frozen=True)
class AskedPoints:
    """What a command line says about the points of a sweep.

    Attributes:
        overrides: a grid in Hydra's syntax.
        config: the sweep file; empty if none is named.
        zipped: groups of overrides that advance together, each in one text.
        also: further grids, each in one text.
        choosing: what is given of a `Choosing`, by name.
        study: what is given of a study besides, and on record if that holds.
        unless: what holds of a study for what neither this nor the sweep file gives.
        text: what the sweep file says, once it was read.
    """

    overrides: Sequence[str] = ()
    config: str = ""
    zipped: Sequence[str] = ()
    also: Sequence[str] = ()
    choosing: Mapping[str, Any] = field(default_factory=dict)
    study: Given = field(default_factory=dict)
    unless: Given = field(default_factory=dict)
    text: str | None = None

    @classmethod
    def of(cls, line: SweepLine, config: str) -> AskedPoints:
        """What `line` says, with `config` as its sweep file. Raises SettingsError."""
        given = {
            "method": line.method,
            "n_trials": line.n_trials,
            "seed": line.seed,
            "filter": line.filter,
            "shuffle": line.shuffle,
            "repeat": _repeats(line.repeat),
            "max_runs": line.max_runs,
        }
        choosing = {name: value for name, value in given.items() if value not in (None, "", {})}
        study = {name: (value, study_option(name)) for name, value in line.study.items()}
        return cls(line.overrides, config, line.zipped, line.also, choosing, study)

    def aiming_at(self, settings: Mapping[str, Any], resolved: Resolved) -> AskedPoints:
        """The same, with what the settings say is optimised.

        Args:
            settings: the settings in the command line, checked.
            resolved: the settings that hold.

        Raises:
            SettingsError: the command line says it twice, and differently.
        """
        conf, origins = resolved.conf, resolved.origins
        unless = {
            name: (str(value), origins[name])
            for name, value in (("metric", conf.metric), ("direction", conf.direction))
            if value is not None
        }
        study = {**self.study, **line_goal(self.study, settings)}
        return replace(self, study=study, unless=unless)

    @classmethod
    def recorded(cls, sweep: Sweep, max_runs: int | None) -> AskedPoints | None:
        """What the command line said that started `sweep`; None if there is no such record.

        Args:
            sweep: the sweep.
            max_runs: other than it said, if not None.
        """
        points = sweep.latest.get("points")
        if not isinstance(points, Mapping):
            return None
        file = points.get("file") or {}
        choosing = {name: sweep.chosen[name] for name in KEYS if name in sweep.chosen}
        if max_runs is not None:
            choosing["max_runs"] = max_runs
        texts = [tuple(map(str, points.get(name, ()))) for name in ("overrides", "zip", "also")]
        overrides, zipped, also = texts
        name, text = str(file.get("name", "")), file.get("text")
        return cls(overrides, name, zipped, also, choosing, text=text if name else None)

    def on_record(self, sweep: Sweep) -> AskedPoints | None:
        """The space of a sweep that is a study, with what this says of the study."""
        found = AskedPoints.recorded(sweep, None)
        if found is None:
            return None
        study = {**recorded_study(sweep.chosen, sweep.sweep_id), **self.study}
        check_recorded(sweep.chosen, study)
        return replace(found, choosing=self.choosing, study=study, unless=self.unless)

    def going_on(self, sweep: Sweep) -> AskedPoints:
        """The same, where what is not given is as `sweep` had it, if that is a study."""
        study = recorded_study(sweep.chosen, sweep.sweep_id)
        return replace(self, unless={**self.unless, **study})

    def record(self) -> dict[str, Any]:
        """What the points are, for `recorded`; how they are chosen is on record anyway."""
        record: dict[str, Any] = {
            "overrides": list(self.overrides),
            "zip": list(self.zipped),
            "also": list(self.also),
            "file": {"name": self.config, "text": self.text} if self.config else {},
        }
        return {name: value for name, value in record.items() if value}

    def loaded(self) -> AskedPoints:
        """The same with its sweep file read; without any points, a usual file is one.

        Raises:
            SettingsError: it cannot be read.
            HsmError: there are no points.
        """
        asked = self if self.has_points else replace(self, config=usual_file())
        if not asked.config or asked.text is not None:
            return asked
        return replace(asked, text=read_named(asked.config))

    @property
    def has_points(self) -> bool:
        """Whether there are points, and not only how to choose them."""
        return bool(self.overrides or self.config or self.zipped or self.also)

    @property
    def origin(self) -> str:
        """Where the points are written, for messages."""
        return STDIN_NAME if self.config == STDIN else self.config or _LINE

    def select(self, program: Program, previous: Sweep | None = None) -> Selection | AskedStudy:
        """Find the points that are to run, or what they are chosen from.

        Overrides alone are the whole sweep. Given a file as well, the overrides win for the keys
        that they set. Without any points, the usual places are searched for a file.

        Args:
            program: what the jobs run; a Hydra app's keys are checked.
            previous: the sweep so far, if this resumes one: its seed holds if none is given.

        Raises:
            SettingsError: an option, an override or the file is wrong.
            HsmError: there are no points.
        """
        return self.loaded()._select(program, previous)

    def _select(self, program: Program, previous: Sweep | None) -> Selection | AskedStudy:
        loader = _config_loader(program, [*self.overrides, *self.zipped, *self.also], self.config)
        definition = self._definition(loader)
        given = {**definition.choosing, **self._given()}
        if "method" in given:
            check_known(*given["method"])
        if is_study(self._method(definition.choosing)):
            study = AskedStudy.of(
                definition, {**self.unless, **definition.choosing, **self._line()}, self.origin
            )
            _check_keys(program, study.sample, self.origin)
            if study.knows_keys:
                program.check(study.sample.shared_keys(), study.sample.all_keys())
            return study
        refuse_without_study({**definition.choosing, **self.study})
        given = {name: each for name, each in given.items() if name in KEYS}
        choosing = check_choosing(
            {name: value for name, (value, _) in given.items()},
            {name: origin for name, (_, origin) in given.items()},
        )
        if choosing.seed is None and choosing.is_random and previous is not None:
            choosing = choosing.with_seed(chosen_seed(previous.chosen))
        selection = Selection(definition, choosing, origin=self.origin)
        # Of a grid, points from all over it are looked at.
        _check_keys(program, definition if choosing.is_default else selection, self.origin)
        program.check(selection.shared_keys(), selection.all_keys())
        return selection

    def goal(self) -> dict[str, Any]:
        """The settings that say what is optimised, if this is no study. Raises SettingsError."""
        return plain_goal(self.study)

    def notes(self, selection: Selection, previous: Sweep | None) -> list[str]:
        """What people should know of the points that were selected: a seed that they did not give.

        Args:
            selection: the points.
            previous: the sweep so far, if this resumes one.
        """
        seed = selection.seed
        if seed is None or "seed" in self.choosing or "seed" in selection.definition.choosing:
            return []
        if previous is not None and seed == chosen_seed(previous.chosen):
            return [f"seed {seed}, as before"]
        return [f"seed {seed} (--seed {seed} gives these points again)"]

    def max_runs_of_recorded(self) -> int | None:
        """How many of the points that a sweep had run again, if they are not given anew.

        Raises:
            SettingsError: they are to be chosen in another way, too.
        """
        for name in self.choosing:
            if name != "max_runs":
                option = f"--{name.replace('_', '-')}"
                message = (
                    f"{option} chooses among points, and --resume alone runs those on record: give "
                    "the points again, as overrides or with --config"
                )
                raise SettingsError(
                    option, self.choosing[name], option, "left out", message=message
                )
        return self.choosing.get("max_runs")

    def _line(self) -> dict[str, tuple[Any, str]]:
        """All that is given to choose by, other than in the sweep file."""
        return {**self.study, **self._given()}

    def _method(self, file: Given) -> Any:
        """The method, of which `file` is what the sweep file says."""
        found = {**self.unless, **file, **self._line()}
        return found.get("method", (Method.grid, ""))[0]

    def _given(self) -> dict[str, tuple[Any, str]]:
        return {
            name: (value, f"--{name.replace('_', '-')}") for name, value in self.choosing.items()
        }

    def _definition(self, loader: ConfigLoader | None) -> SweepDefinition:
        intervals: bool | None = self._method({}) != Method.grid
        if self.config and "method" not in {**self.unless, **self._line()}:
            intervals = None  # as the file's method has it
        definition = None
        if self.config:
            assert self.text is not None, "it is loaded"
            name = STDIN_NAME if self.config == STDIN else self.config
            data = self.text.encode()
            keys = file_keys()
            definition = read_sweep_text(
                data, name, config_loader=loader, intervals=intervals, more_keys=keys
            )
            if intervals is None:
                intervals = self._method(definition.choosing) != Method.grid
        line = _line(self.overrides, self.zipped, loader, intervals or False)
        if line is not None:
            definition = line if definition is None else definition.overridden_by(line)
        for text in self.also:
            other = _parse(_words("--also", text), loader, intervals or False, "--also")
            definition = other if definition is None else definition.followed_by(other)
        assert definition is not None, "there are points"
        return definition


def _repeats(texts: Sequence[str]) -> dict[str, str]:
    repeats: dict[str, str] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name or not values:
            raise SettingsError("repeat", text, "--repeat", _REPEAT)
        if name in repeats:
            hint = f"all its values go into one: {name}=0,1,2"
            message = f"--repeat: {shown(name)} is given twice, last as {shown(text)}; {hint}"
            raise SettingsError("repeat", text, "--repeat", "given once", hint, message=message)
        repeats[name] = values
    return repeats


def _words(option: str, text: str) -> list[str]:
    """The overrides in one text, separated by spaces. Raises SettingsError."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        message = f"{option} {shown(text)}: {str(error).lower()}"
        raise SettingsError(option, text, option, "overrides", message=message) from None
    if not words:
        raise SettingsError(option, text, option, "overrides separated by spaces")
    return words


def _line(
    overrides: Sequence[str], zipped: Sequence[str], loader: ConfigLoader | None, intervals: bool
) -> SweepDefinition | None:
    """The grid of overrides and of groups that advance together; None without any."""
    if not overrides and not zipped:
        return None
    groups = [_words("--zip", text) for text in zipped]
    return _parse(overrides, loader, intervals, _LINE, groups)


def _parse(
    overrides: Sequence[str],
    loader: ConfigLoader | None,
    intervals: bool,
    origin: str,
    zipped: Sequence[Sequence[str]] = (),
) -> SweepDefinition:
    for text in overrides:
        if "=" not in text and os.path.isfile(text):
            hint = f"did you mean --script {text}, or --config {text}?"
            message = f"{shown(text)} is a file, not an override; {hint}"
            raise SettingsError("an override", text, origin, "key=value", hint, message=message)
    return parse_overrides(
        overrides, zipped=zipped, config_loader=loader, origin=origin, intervals=intervals
    )


def check_overrides(overrides: Sequence[str], program: Program) -> None:
    """Check overrides that add points to a sweep whose jobs run `program`.

    Raises:
        SettingsError: one is wrong.
    """
    definition = _parse(overrides, _config_loader(program, overrides, ""), False, _LINE)
    _check_keys(program, definition, _LINE)


def _check_keys(program: Program, sweep: SweepDefinition | Selection, origin: str) -> None:
    """Refuse keys that a Hydra app does not have. Raises SettingsError."""
    if not program.uses_hydra:
        return
    from hsm.hydra_app.config_check import check_keys

    assert program.script is not None
    note = check_keys(program.script, sweep, origin)
    if note:
        say(f"hsm: {note}", error=True)


def _config_loader(program: Program, overrides: Sequence[str], config: str) -> ConfigLoader | None:
    """Hydra's config loader for the app, if a ``glob()`` may need to look up config groups."""
    if not program.uses_hydra or not (config or any("glob(" in text for text in overrides)):
        return None
    from hsm.hydra_app.config_check import config_loader

    assert program.script is not None
    return config_loader(program.script[-1])
