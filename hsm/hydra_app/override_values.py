"""The values that an override sweeps over, each with the text that Hydra's own sweeper writes.

    lr=0.1,'a b' --Hydra's parser--> Override --values_of--> 0.1, 'a b' --override_text--> lr='a b'

Texts keep what values do not have: the quotes of a string, also inside of a list. So strings, lists
and dicts carry their text along; of all others Hydra writes the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.types import Glob, Override, RangeSweep

from hsm.core.space.arguments import to_override
from hsm.core.space.axes import Listed, Stepped, Values, stepped
from hsm.core.space.domains import LogSpaced
from hsm.core.space.overrides import values_from_expression
from hsm.hydra_app.refusals import LauncherError

#: Values of a range with fractions, or with casts, that are listed as Hydra lists them. Those of a
#: longer one are computed, in decimal as in Hydra 1.4.
_MAX_LISTED = 1_000_000

#: How Hydra's own sweeper refuses what it cannot enumerate.
_REFUSED = "BasicSweeper does not support sweep type : "


class _TextString(str):
    """A string, with the text that stands for it in an override."""

    __slots__ = ("text",)
    text: str


class _TextList(list[Any]):
    text: str


class _TextDict(dict[str, Any]):
    text: str


def values_of(override: Override) -> Values:
    """The values of an override that sweeps, or its only one, in the order of Hydra's own sweeper.

    A shuffle draws from Python's own generator, as there.

    Raises:
        HydraException: what Hydra's own sweeper raises.
        ValueError: likewise, for a range with a step of 0.
    """
    if not override.is_sweep_override():
        text = override.get_value_element_as_str()
        return Listed([_with_text(override.value(), text)])
    if not override.is_discrete_sweep():
        kind = override.value_type
        assert kind is not None
        key = override.get_key_element()
        hint = f"{_REFUSED}{kind.name}: {key} is an interval, from which points are drawn"
        raise LauncherError(f"{hint} with hydra.sweeper.method=random and hydra.sweeper.n_trials")
    value: Any = override.value()
    if isinstance(value, RangeSweep) and not value.shuffle and (steps := _steps(value)) is not None:
        return steps
    elements: Any = override.sweep_iterator()
    if isinstance(value, Glob):  # Hydra escapes nothing in the names of options.
        return Listed([_with_text(name, name) for name in elements])
    return Listed([_element(each) for each in elements])


def drawn_values_of(override: Override) -> Values:
    """The values of an override, for a method that draws from them: an interval, too.

    Raises:
        HydraException, ValueError: as `values_of`.
        SettingsError: nothing can be drawn from the interval.
    """
    if override.is_interval_sweep():
        key = override.get_key_element()
        text = override.get_value_string()
        return values_from_expression(key, text, "hydra.sweeper", intervals=True)
    values = values_of(override)
    is_log = override.is_range_sweep() and "log" in getattr(override.value(), "tags", ())
    return LogSpaced(values) if is_log and values.count else values


def searched_values_of(override: Override) -> Values:
    """The values of an override, for a method that searches them: ranges as such, in decimal.

    Raises as `drawn_values_of` does.
    """
    value: Any = override.value()
    casts: Any = getattr(value, "transformers", ())
    if not isinstance(value, RangeSweep) or value.shuffle or casts:
        return drawn_values_of(override)
    value.range()  # Raises what Hydra's sweeper raises.
    assert value.start is not None
    assert value.stop is not None
    try:
        steps = stepped(value.start, value.stop, value.step, ())
    except ValueError:  # of which Hydra says what is wrong
        return drawn_values_of(override)
    is_log = "log" in getattr(value, "tags", ())
    return LogSpaced(steps) if is_log and steps.count else steps


def override_text(key: str, value: Any) -> str:
    """The override that gives a job this value, as Hydra's own sweeper writes it.

    Raises:
        SettingsError: no override can express the value.
    """
    if (text := getattr(value, "text", None)) is not None:
        return f"{key}={text}"
    if value is None:
        return f"{key}=null"
    if isinstance(value, bool | int | float):
        return f"{key}={value}"
    return to_override(key, value)


def point_texts(point: Mapping[str, Any]) -> list[str]:
    """The overrides of a job with these parameters."""
    return [override_text(key, value) for key, value in point.items()]


def _steps(sweep: RangeSweep) -> Stepped | None:
    """The values of a range by index; None if they have to be listed."""
    numbers: Any = sweep.range()  # Raises what Hydra's sweeper raises.
    casts = getattr(sweep, "transformers", ())
    if isinstance(numbers, range) and not casts:
        count = max(0, -((numbers.start - numbers.stop) // numbers.step))
        return Stepped(numbers.start, numbers.step, count)
    assert sweep.start is not None
    assert sweep.stop is not None
    try:
        steps = stepped(sweep.start, sweep.stop, sweep.step, casts)
    except ValueError:  # of which Hydra says what is wrong
        return None
    return steps if steps.count > _MAX_LISTED else None


def _element(element: Any) -> Any:
    """An item of a sweep, as Hydra's parser has it, as a plain value with its text."""
    return _with_text(Override._convert_value(element), Override._get_value_element_as_str(element))


def _with_text(value: Any, text: str) -> Any:
    kinds: dict[type, type] = {str: _TextString, list: _TextList, dict: _TextDict}
    kind = kinds.get(type(value))
    if kind is None:
        return value
    carrying = kind(value)
    carrying.text = text
    return carrying
