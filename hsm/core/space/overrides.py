"""Hydra's override syntax -> axes of a sweep, with Hydra's own parser.

    lr=0.1,0.01   'seed=range(5)'   'model=choice(svm, forest)'   '+x=sort(3, 1, 2)'   a.b=3   ~c

Hydra is imported on first use only, see `hsm.core.space.grammar`. Most overrides need none of it,
see `hsm.core.space.plain_override`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hsm.core.errors import SettingsError, shown
from hsm.core.space.axes import (
    MAX_SHUFFLED,
    STRING_KEYS,
    Listed,
    Shuffled,
    Values,
    Zipped,
    stepped,
)
from hsm.core.space.grammar import SYNTAX, check_key, parse_override, plain_key
from hsm.core.space.plain_override import read_plain_override

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep

_COUNTABLE = "values that can be counted"


def axes_from_overrides(
    overrides: Sequence[str],
    zipped: Sequence[Sequence[str]],
    config_loader: ConfigLoader | None,
    origin: str,
    *,
    intervals: bool = False,
) -> tuple[Zipped, ...]:
    """Make one axis for each override and then one for each group that is zipped, in order.

    Raises:
        SettingsError: Hydra's parser refuses an override, or it cannot be enumerated, or its key is
            given twice, or the values of a group differ in number.
    """
    if isinstance(overrides, (str, bytes)):
        raise SettingsError("overrides", overrides, origin, f"a list, each {SYNTAX}")
    taken: set[str] = set()

    def column(text: str) -> tuple[str, Values]:
        key, values = _read(text, origin, config_loader, intervals=intervals)
        name = plain_key(key)
        if name in taken:
            hint = f"several values go into one override: {key}=1,2"
            message = f"{origin}: {name} is given twice, last as {shown(text)}; {hint}"
            raise SettingsError(name, text, origin, "given once", hint, message=message)
        taken.add(name)
        return key, values

    axes = [Zipped(dict([column(text)])) for text in overrides]
    for group in zipped:
        columns = dict(map(column, group))
        _check_listed(columns, origin)
        counts = {key: values.count for key, values in columns.items()}
        if len(set(counts.values())) > 1:
            lengths = ", ".join(f"{key} has {count}" for key, count in counts.items())
            message = f"{origin}: values that advance together differ in number: {lengths}"
            allowed = "as many values of each"
            raise SettingsError("zip", " ".join(group), origin, allowed, message=message)
        axes.append(Zipped(columns))
    return tuple(axes)


def _check_listed(columns: Mapping[str, Values], origin: str) -> None:
    """Refuse intervals among values that advance together. Raises SettingsError."""
    from hsm.core.space.domains import Interval

    for key, values in columns.items():
        if isinstance(values, Interval):
            reason = "an interval has no list of values to advance with others"
            message = f"{origin}: cannot zip {shown(values.text)}: {reason}"
            allowed = "values that can be listed"
            raise SettingsError(key, values.text, origin, allowed, reason, message=message)


def values_from_expression(
    key: str,
    expression: str,
    origin: str,
    config_loader: ConfigLoader | None = None,
    *,
    intervals: bool = False,
) -> Values:
    """Return the values that ``key=expression`` sweeps over.

    Raises:
        SettingsError: see `axes_from_overrides`.
    """
    return _read(f"{key}={expression}", origin, config_loader, intervals=intervals)[1]


def _read(
    text: str, origin: str, config_loader: ConfigLoader | None, *, intervals: bool
) -> tuple[str, Values]:
    """The key of an override, and the values that it sweeps over."""
    if (plain := read_plain_override(text)) is not None:
        return plain
    override = parse_override(text, origin)
    key = check_key(override.get_key_element(), origin)
    values = _values(override, config_loader, origin, intervals=intervals)
    return key, values


def _values(
    override: Override,
    config_loader: ConfigLoader | None,
    origin: str,
    *,
    intervals: bool = False,
) -> Values:
    from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, RangeSweep

    value: Any = override.value()
    values: Values
    if isinstance(value, RangeSweep):
        values = _range(override, value, origin)
    elif isinstance(value, Glob):
        values = Listed(_options(override, value, config_loader, origin))
    elif isinstance(value, ChoiceSweep):
        values = Listed([_plain(item, override, origin) for item in value.list])
    elif isinstance(value, IntervalSweep):
        return _interval(override, value, origin, intervals=intervals)
    else:
        values = Listed([_plain(value, override, origin)])
    if values.count == 0:
        raise _refused(override, origin, "at least one value", "it has no values")
    return _shuffled(values, override, origin) if getattr(value, "shuffle", False) else values


def _interval(override: Override, sweep: IntervalSweep, origin: str, *, intervals: bool) -> Values:
    """An interval, for a method that draws from it; whole numbers from ``int(interval())``."""
    if not intervals:
        key = override.get_key_element()
        hint = (
            f"an interval has no list of values: write {key}=0.1,0.5 or {key}=range(0,1,0.25); "
            "hsm sweep draws from it with --method random --n-trials 20"
        )
        raise _refused(override, origin, _COUNTABLE, hint)
    from hsm.core.space.domains import Interval

    start, stop = sweep.start, sweep.end
    assert start is not None
    assert stop is not None
    is_int = isinstance(start, int) and isinstance(stop, int)
    interval = Interval(start, stop, is_int, _is_log(sweep), text=override.input_line or "")
    if interval.problem:
        raise _refused(override, origin, "an interval to draw from", interval.problem)
    return interval


def _is_log(value: object) -> bool:
    """Whether ``tag(log, …)`` asks to draw evenly from the values' logarithms."""
    return "log" in (getattr(value, "tags", None) or ())


def _range(override: Override, sweep: RangeSweep, origin: str) -> Values:
    start, stop = sweep.start, sweep.stop
    if start is None or stop is None:  # Hydra's types allow this, but it never does it
        raise _refused(override, origin, _COUNTABLE, "the range has no start or no end")
    try:
        values = stepped(start, stop, sweep.step, getattr(sweep, "transformers", ()))
    except ValueError as error:
        raise _refused(override, origin, _COUNTABLE, str(error)) from None
    if values.count and _is_log(sweep):
        from hsm.core.space.domains import LogSpaced

        return LogSpaced(values)
    return values


def _shuffled(values: Values, override: Override, origin: str) -> Values:
    if values.count > MAX_SHUFFLED:
        most = f"at most {MAX_SHUFFLED} values can be shuffled"
        raise _refused(override, origin, most, most)
    return Shuffled(values)


def _options(
    override: Override, glob: Glob, config_loader: ConfigLoader | None, origin: str
) -> list[Any]:
    """Return the config group's options that `glob` matches."""
    key = override.key_or_group
    if config_loader is None:
        hint = f"glob() needs a config group, and no config is known here: write {key}=a,b"
        raise _refused(override, origin, _COUNTABLE, hint)
    from hydra.core.object_type import ObjectType

    options = config_loader.get_group_options(key, results_filter=ObjectType.CONFIG)
    chosen: list[Any] = glob.filter(options)
    if not chosen:
        reason = f"there is no config group {key}"
        if options:
            reason = f"the glob matches nothing; {key} has {', '.join(options)}"
        raise _refused(override, origin, "a glob that matches something", reason)
    return chosen


def _plain(value: Any, override: Override, origin: str) -> Any:
    """Convert the parser's own types in `value` to plain ones."""
    from hydra.core.override_parser.types import Glob, QuotedString, Sweep

    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(item, override, origin) for item in value]
    if isinstance(value, dict):
        keys = [_plain(key, override, origin) for key in value]
        if not all(isinstance(key, str) for key in keys):
            raise _refused(override, origin, STRING_KEYS, STRING_KEYS)
        return dict(zip(keys, (_plain(v, override, origin) for v in value.values()), strict=True))
    if isinstance(value, (Sweep, Glob)):
        reason = "no sweep can stand inside a list or dict"
        raise _refused(override, origin, "a sweep of whole values", reason)
    return value


def _refused(override: Override, origin: str, allowed: str, reason: str) -> SettingsError:
    text = override.input_line
    message = f"{origin}: cannot sweep over {shown(text)}: {reason}"
    key = override.get_key_element()
    return SettingsError(key, text, origin, allowed, reason, message=message)
