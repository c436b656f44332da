"""A study as a command line asks for it: `hsm sweep --method optuna`.

--sampler, --pruner, …, the sweep file --.
--metric, --minimize, the record ---------+--> StudyOptions --.
overrides, the sweep file --> SweepDefinition --> SearchSpace -+--> AskedStudy
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hsm.cli._point_options import POINT_OPTIONS, STUDY
from hsm.core.errors import SettingsError, did_you_mean, shown
from hsm.core.record.sweep import Sweep
from hsm.core.settings.resolve import SETTINGS
from hsm.core.space.choosing import OPTUNA, Choosing, Method, is_study
from hsm.core.space.definition import SweepDefinition
from hsm.core.space.selection import Selection

if TYPE_CHECKING:  # imported only where there is a study
    from hsm.core.study.options import StudyOptions
    from hsm.core.study.search_space import SearchSpace

#: Values by the keys of a study, each with where it was written.
Given = Mapping[str, tuple[Any, str]]

#: Points that the keys of a Hydra app are checked with.
_CHECKED = 20
_PARTS = ("sampler", "pruner", "storage")
_GOAL = ("metric", "direction")


@dataclass(frozen=True)
class AskedStudy:
    """A study that is asked for.

    Attributes:
        options: what was said of it.
        space: what is searched.
        sample: some points of it, and all that is known of the keys that points have.
        origin: where it was written, for messages.
    """

    options: StudyOptions
    space: SearchSpace
    sample: Selection
    origin: str

    @classmethod
    def of(cls, definition: SweepDefinition, given: Given, origin: str) -> AskedStudy:
        """The study that was asked for.

        Args:
            definition: the space, read with intervals.
            given: what was said besides.
            origin: where the space was written, for messages.

        Raises:
            SettingsError: something is wrong.
        """
        from hsm.core.study.options import check_study
        from hsm.core.study.search_space import SearchSpace

        values = {name: _part(name, *each) for name, each in given.items()}
        options = check_study(values, {name: where for name, (_, where) in given.items()})
        space = SearchSpace.of(definition, origin)
        choosing = Choosing(Method.random, _CHECKED, seed=0, repeat=options.repeat)
        return cls(options, space, Selection(definition, choosing, origin=origin), origin)

    @property
    def knows_keys(self) -> bool:
        """Whether jobs have no other parameters, which only what proposes the points knows."""
        return self.options.is_optuna and self.options.custom_search_space is None

    def count(self) -> int:
        """How many jobs there will be, at most."""
        return self.options.n_trials * self.options.repeats


def _part(name: str, value: Any, origin: str) -> Any:
    """A value as `check_study` takes it: of a text such as ``{name: tpe}`` the mapping."""
    is_mapping = isinstance(value, str) and value.lstrip().startswith("{")
    if name not in _PARTS or not is_mapping:
        return value
    from hsm.core.yaml_lines import load_yaml  # slow to import

    return load_yaml(value, origin)


def study_option(name: str) -> str:
    """The option for a key of a study."""
    for each in POINT_OPTIONS:
        if each.name == name and each.section == STUDY:
            return each.option
    return f"--{name.replace('_', '-')}"


def file_keys() -> Sequence[str]:
    """The keys that a sweep file may have for a study."""
    from hsm.core.study.options import ALIASES, STUDY_KEYS

    return (*STUDY_KEYS, *ALIASES)


def refuse_without_study(given: Given) -> None:
    """Refuse what only an optimiser knows what to do with. Raises SettingsError."""
    if not given:
        return
    from hsm.core.study.options import ALIASES, STUDY_KEYS

    keys = {*STUDY_KEYS, *ALIASES} - {*Choosing().__dict__, *_GOAL, *ALIASES}
    for name, (value, origin) in given.items():
        if name in keys:
            message = f"{origin}: {name} is for a method that asks, such as --method optuna"
            raise SettingsError(name, value, origin, "left out", message=message)


def check_known(method: Any, origin: str) -> None:
    """Refuse a text that names no method at all. Raises SettingsError."""
    known = (*Method, OPTUNA)
    if isinstance(method, str) and method not in known and not is_study(method):
        allowed = f"one of {', '.join(known)}, or the dotted path of a class with ask and tell"
        raise SettingsError("method", method, origin, allowed, did_you_mean(method, known))


def plain_goal(given: Given) -> dict[str, Any]:
    """The settings that --objective and --direction are without a study. Raises SettingsError."""
    if not given:
        return {}
    from hsm.core.study.options import ALIASES

    found = {}
    for name, (value, origin) in given.items():
        key = ALIASES.get(name, name)
        if key in _GOAL:
            found[key] = SETTINGS[key].parse(str(value), origin)
    return found


def line_goal(study: Given, settings: Mapping[str, Any]) -> Given:
    """What a command line says is optimised by its settings, --metric and --minimize.

    Args:
        study: what it says of the study besides.
        settings: the settings that were typed, checked.

    Raises:
        SettingsError: the two say different things.
    """
    found: dict[str, tuple[Any, str]] = {}
    for name in _GOAL:
        if settings.get(name) is None:
            continue
        setting, flag = str(settings[name]), SETTINGS[name].flag
        if name in study and study[name][0] != setting:
            value, option = study[name]
            message = f"{option} {shown(value)}: {flag} says the same thing, and differs"
            raise SettingsError(name, value, option, "given once", message=message)
        found[name] = (setting, flag)
    return found


def recorded_study(chosen: Mapping[str, Any], sweep_id: str) -> Given:
    """What a sweep's launcher recorded of its study; nothing if it was none."""
    if not is_study(chosen.get("method")):
        return {}
    from hsm.core.study.options import recorded_values

    origin = f"journal of {sweep_id}"
    return {name: (value, origin) for name, value in recorded_values(chosen).items()}


def check_recorded(chosen: Mapping[str, Any], study: Given) -> None:
    """Refuse to go on without what no record can hold, such as a storage's password.

    Args:
        chosen: what is on record.
        study: what is known of it, with what is given anew.

    Raises:
        SettingsError: something is not given anew.
    """
    for name in file_keys():
        if name in chosen and name not in study and name not in Choosing().__dict__:
            option, value = study_option(name), chosen[name]
            message = f"no record has the whole {name}, {shown(value)}: give it again with {option}"
            raise SettingsError(name, value, option, "given again", message=message)


def check_method(method: str, sweep: Sweep) -> None:
    """Refuse to go on with a study as with no study, or the other way round.

    Raises:
        SettingsError: `sweep` has jobs, whose points were chosen so.
    """
    before = str(sweep.chosen.get("method") or "grid")
    if sweep.jobs and is_study(before) != is_study(method):
        if is_study(before):
            message = f"cannot resume {sweep.sweep_id} with other points: it is a study ({before})"
        else:
            message = f"cannot resume {sweep.sweep_id} with {method}: its points were a {before}"
        raise SettingsError("method", method, "--method", before, message=message)
