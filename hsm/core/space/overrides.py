"""Hydra's override syntax -> axes of a sweep, with Hydra's own parser.

    lr=0.1,0.01   'seed=range(5)'   'model=choice(svm, forest)'   '+x=sort(3, 1, 2)'   a.b=3   ~c

Hydra is imported on first use only, see `hsm.core.space.grammar`. Most overrides need none of it,
see `hsm.core.space.plain_override`.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    from hydra.core.override_parser.types import Glob, Override, RangeSweep

_COUNTABLE = "values that can be counted"


def axes_from_overrides(
    overrides: Sequence[str], config_loader: ConfigLoader | None, origin: str
) -> tuple[Zipped, ...]:
    """Make one axis for each override, in order.

    Raises:
        SettingsError: Hydra's parser refuses an override, or it cannot be enumerated, or its key is
            given twice.
    """
    if isinstance(overrides, (str, bytes)):
        raise SettingsError("overrides", overrides, origin, f"a list, each {SYNTAX}")
    axes: dict[str, Zipped] = {}
    for text in overrides:
        key, values = _read(text, origin, config_loader)
        if plain_key(key) in axes:
            name = plain_key(key)
            hint = f"several values go into one override: {key}=1,2"
            message = f"{origin}: {name} is given twice, last as {shown(text)}; {hint}"
            raise SettingsError(name, text, origin, "given once", hint, message=message)
        axes[plain_key(key)] = Zipped({key: values})
    return tuple(axes.values())


def values_from_expression(
    key: str, expression: str, origin: str, config_loader: ConfigLoader | None = None
) -> Values:
    """Return the values that ``key=expression`` sweeps over.

    Raises:
        SettingsError: see `axes_from_overrides`.
    """
    return _read(f"{key}={expression}", origin, config_loader)[1]


def _read(text: str, origin: str, config_loader: ConfigLoader | None) -> tuple[str, Values]:
    """The key of an override, and the values that it sweeps over."""
    if (plain := read_plain_override(text)) is not None:
        return plain
    override = parse_override(text, origin)
    key = check_key(override.get_key_element(), origin)
    return key, _values(override, config_loader, origin)


def _values(override: Override, config_loader: ConfigLoader | None, origin: str) -> Values:
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
        key = override.get_key_element()
        hint = f"an interval has no list of values: write {key}=0.1,0.5 or {key}=range(0,1,0.25)"
        raise _refused(override, origin, _COUNTABLE, hint)
    else:
        values = Listed([_plain(value, override, origin)])
    if values.count == 0:
        raise _refused(override, origin, "at least one value", "it has no values")
    return _shuffled(values, override, origin) if getattr(value, "shuffle", False) else values


def _range(override: Override, sweep: RangeSweep, origin: str) -> Values:
    start, stop = sweep.start, sweep.stop
    if start is None or stop is None:  # Hydra's types allow this, but it never does it
        raise _refused(override, origin, _COUNTABLE, "the range has no start or no end")
    try:
        return stepped(start, stop, sweep.step, getattr(sweep, "transformers", ()))
    except ValueError as error:
        raise _refused(override, origin, _COUNTABLE, str(error)) from None


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
