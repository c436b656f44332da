"""The space that a study under Hydra searches, and the overrides of the jobs with its points.

    params, zip, search_space (hydra.sweeper), command line --AppPoints--> SearchSpace
    a point of it --overrides--> ["x=0.5", "+w=0.1", "~z"]

A parameter is known without the plus of its override, as it is in the journal: so a study that is
resumed finds it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader

from hsm.core.errors import SettingsError
from hsm.core.logger import get_logger
from hsm.core.plain_json import identity
from hsm.core.record.job import Job
from hsm.core.space.axes import Axis, Zipped
from hsm.core.space.choosing import Choosing, Method
from hsm.core.space.definition import SweepDefinition
from hsm.core.space.domains import drawn_column
from hsm.core.space.selection import Selection
from hsm.core.study.search_space import SearchSpace
from hsm.hydra_app.app_points import ORIGIN, AppPoints, plain
from hsm.hydra_app.override_values import override_text, searched_values_of

log = get_logger(__name__)

_OLD_KEY = "search_space"
_OLD_FORM = "a mapping such as {x: {type: float, low: 0, high: 1}}"
#: Values of one parameter of which the texts are remembered.
_MAX_TEXTS = 10_000


class StudySpace:
    """What a study searches.

    Args:
        settings: what is below hydra.sweeper.
        arguments: the overrides of the command line.
        loader: looks up config groups.

    Attributes:
        space: the space.
        definition: what it was made from.

    Raises:
        HydraException, SettingsError: an override, or something else, is wrong.
    """

    def __init__(
        self, settings: Mapping[str, Any], arguments: Sequence[str], loader: ConfigLoader
    ) -> None:
        #: Overrides that delete keys: they have no value, and so are no parameters.
        self._deletes = [text for text in arguments if text.startswith("~")]
        others = [text for text in arguments if not text.startswith("~")]
        points = AppPoints(_params(settings), settings.get("zip"))
        written = points.definition(others, loader, searched_values_of)
        #: Keys as overrides have them, by what they are without a plus.
        self._keys = {key.lstrip("+"): key for key in written.all_keys()}
        blocks = [[_plainly(axis) for axis in block] for block in written.blocks]
        self.definition = SweepDefinition(blocks)
        self.space = SearchSpace.of(self.definition, ORIGIN)
        self._texts = dict(self._written_texts())

    def selection(self, repeat: Mapping[str, Sequence[Any]]) -> Selection:
        """Points of it, of each kind, to compose before any job starts."""
        choosing = Choosing(Method.random, 1, seed=0, repeat=repeat)
        return Selection(self.definition, choosing, origin=ORIGIN)

    def first(self, repeat: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """A point of it, which depends on nothing random."""
        point: dict[str, Any] = {}
        for axis in self.definition.blocks[0] if self.definition.blocks else ():
            point.update(axis.point(0))
        return {**point, **{key: values[0] for key, values in repeat.items()}}

    def fixed(self) -> list[str]:
        """The overrides that all jobs have."""
        return self.overrides(self.space.fixed)

    def searched(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """A job's parameters without those that all jobs have."""
        fixed = self.space.fixed
        return {
            key: value
            for key, value in params.items()
            if key[:1] != "~" and not (key in fixed and fixed[key] == value)
        }

    def overrides(self, point: Mapping[str, Any], earlier: Job | None = None) -> list[str]:
        """The overrides of a job with these parameters.

        Args:
            point: the parameters.
            earlier: the job, if it has been submitted in an earlier run of the sweep: what a
                function has added to the space then, is on record without a plus.
        """
        words = set(() if earlier is None else earlier.label.split())
        texts = [self._text(key, value, words) for key, value in point.items() if key[:1] != "~"]
        return [*texts, *self._deletes]

    def _text(self, key: str, value: Any, words: set[str]) -> str:
        known = self._texts.get((key, identity({key: value})))
        if known is not None:
            return known
        if key in self._keys:
            return override_text(self._keys[key], value)
        text = override_text(key, value)
        return f"+{text}" if f"+{text}" in words else text

    def _written_texts(self) -> list[tuple[tuple[str, str], str]]:
        """The overrides of values that can be listed, as they were written: in quotes, say."""
        texts = []
        for axis in (axis for block in self.definition.blocks for axis in block):
            if drawn_column(axis) is not None:
                continue
            for index in range(min(axis.count, _MAX_TEXTS)):
                for key, value in axis.point(index).items():
                    text = override_text(self._keys[key], value)
                    texts.append(((key, identity({key: value})), text))
        return texts


def _plainly(axis: Axis) -> Axis:
    """The axis, its keys without a plus."""
    if not isinstance(axis, Zipped):
        return axis
    return Zipped({key.lstrip("+"): values for key, values in axis.columns.items()}, axis.name)


def _params(settings: Mapping[str, Any]) -> Any:
    """The parameters; those of ``search_space`` if there are no others."""
    old, params = plain(settings.get(_OLD_KEY)), settings.get("params")
    if not old:
        return params
    where = f"{ORIGIN}.{_OLD_KEY}"
    if plain(params):
        log.warning("%s has no effect, as there is %s.params", where, ORIGIN)
        return params
    if not isinstance(old, Mapping):
        raise SettingsError(_OLD_KEY, old, where, _OLD_FORM)
    found = {key: _from_old_form(form, f"{where}.{key}") for key, form in old.items()}
    shown = " ".join(f"{key}: {value}" for key, value in found.items())
    log.warning("%s is deprecated: write %s.params: {%s}", where, ORIGIN, shown)
    return found


def _from_old_form(form: Any, where: str) -> Any:
    """The override of a parameter of ``search_space``.

    Raises:
        SettingsError: it is not as hydra-optuna-sweeper has it.
    """
    if not isinstance(form, Mapping):
        raise SettingsError(_OLD_KEY, form, where, _OLD_FORM)
    kind = form.get("type")
    if kind == "categorical":
        if not isinstance(form.get("choices"), list) or not form["choices"]:
            raise SettingsError(
                "choices", form.get("choices"), f"{where}.choices", "a list of values"
            )
        return form["choices"]
    if kind not in ("int", "float"):
        raise SettingsError("type", kind, f"{where}.type", "int, float or categorical")
    numbers = {name: form.get(name) for name in ("low", "high", "step")}
    if form.get("log") or numbers["step"] is None:
        del numbers["step"]
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise SettingsError(name, number, f"{where}.{name}", "a number")
    return _number(numbers, is_int=kind == "int", is_log=bool(form.get("log")))


def _number(numbers: Mapping[str, Any], *, is_int: bool, is_log: bool) -> str:
    """The override of a number: of a range both ends may be values, as there."""
    low, high, step = numbers["low"], numbers["high"], numbers.get("step")
    if step is not None:
        if is_int:
            return f"range({int(low)},{int(high) + 1},{int(step)})"
        return f"range({float(low)},{float(high) + float(step) / 2},{float(step)})"
    text = f"int(interval({int(low)},{int(high)}))" if is_int else f"interval({low},{high})"
    return f"tag(log, {text})" if is_log else text
