"""The values that the keys of a study may have, and the check of each.

Values are data, or texts as they are typed on a command line: ``20`` and ``"20"`` are the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, NoReturn

from hsm.core.errors import SettingsError, did_you_mean
from hsm.core.results.goal import Constraint
from hsm.core.settings.kinds import MAX_DURATION, is_none
from hsm.core.settings.resolve import Direction
from hsm.core.space.chance import MAX_SEED
from hsm.core.space.choosing import check_choosing
from hsm.core.space.grammar import check_key, read_scalar
from hsm.core.text_enum import TextEnum
from hsm.core.units import parse_duration

#: Checks a value: of the key of that name, as it was written, from there.
Check = Callable[[str, Any, str], Any]

#: Trials and jobs at most: what a journal has numbers for.
_MAX_COUNT = (1 << 31) - 1
_CONSTRAINT = re.compile(r"\s*(?P<name>[^<>=\s]+)\s*(?P<sign><=|>=)\s*(?P<bound>\S+)\s*")
_CONSTRAINTS = "conditions such as memory <= 8 or accuracy >= 0.9"
_POINTS = "a list of points, such as [{lr: 0.1, model: svm}]"


class PruneMode(TextEnum):
    """What becomes of a job whose trial is to be pruned."""

    ask = "ask"
    stop = "stop"


class RepeatAs(TextEnum):
    """Which value of its repeats a trial has."""

    mean = "mean"
    median = "median"
    worst = "worst"


class Duplicates(TextEnum):
    """What becomes of a point that is proposed again."""

    run = "run"
    reuse = "reuse"


def refuse(name: str, value: Any, origin: str, allowed: str, hint: str = "") -> NoReturn:
    """Raise the error for a value that is not allowed."""
    raise SettingsError(name, value, origin, allowed, hint)


def whole(at_least: int, at_most: int = _MAX_COUNT) -> Check:
    """A check for whole numbers within these bounds."""
    least = f"of at least {at_least}" if at_most == _MAX_COUNT else f"from {at_least} to {at_most}"

    def check(name: str, value: Any, origin: str) -> int:
        number = read_scalar(value) if isinstance(value, str) else value
        if isinstance(number, bool) or not isinstance(number, int):
            refuse(name, value, origin, f"a whole number {least}")
        if not at_least <= number <= at_most:
            refuse(name, value, origin, f"a whole number {least}")
        return int(number)

    return check


def number(allowed: str, low: float = -math.inf, high: float = math.inf) -> Check:
    """A check for finite numbers within these bounds, in words `allowed`."""

    def check(name: str, value: Any, origin: str) -> float:
        found = read_scalar(value) if isinstance(value, str) else value
        if isinstance(found, bool) or not isinstance(found, int | float):
            refuse(name, value, origin, allowed)
        try:
            found = float(found)
        except OverflowError:
            refuse(name, value, origin, allowed)
        if not (math.isfinite(found) and low <= found <= high):
            refuse(name, value, origin, allowed)
        return found

    return check


def duration(name: str, value: Any, origin: str) -> float:
    """Seconds above 0, or a text such as 2h."""
    allowed = "a number of seconds above 0, or a text such as 30m or 2h"
    try:
        seconds = parse_duration(value) if isinstance(value, str) else value
    except ValueError:
        refuse(name, value, origin, allowed)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        refuse(name, value, origin, allowed)
    if not 0 < seconds <= MAX_DURATION:
        refuse(name, value, origin, allowed)
    return float(seconds)


def switch(name: str, value: Any, origin: str) -> bool:
    """True or false."""
    found = read_scalar(value) if isinstance(value, str) else value
    if not isinstance(found, bool):
        refuse(name, value, origin, "true or false")
    return found


def text(name: str, value: Any, origin: str) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        refuse(name, value, origin, "a text")
    return str(value)


def word_of(members: type[TextEnum]) -> Check:
    """A check for the words of an enum."""
    names = [str(member) for member in members]

    def check(name: str, value: Any, origin: str) -> TextEnum:
        word = value.name if isinstance(value, Enum) else value
        if not isinstance(word, str) or str(word) not in names:
            hint = did_you_mean(word, names) if isinstance(word, str) else ""
            refuse(name, word, origin, f"one of {', '.join(names)}", hint)
        return members(str(word))

    return check


def _items(value: Any) -> list[Any]:
    """The items of a list, or of a text with commas."""
    if isinstance(value, str) and not isinstance(value, Enum):
        inner = value.strip().removeprefix("[").removesuffix("]")
        return [item.strip() for item in inner.split(",")]
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def directions(name: str, value: Any, origin: str) -> tuple[Direction, ...]:
    """One direction, or a list of them."""
    check = word_of(Direction)
    found = tuple(check(name, item, origin) for item in _items(value))
    if not found:
        refuse(name, value, origin, "one of minimize, maximize, or a list of these")
    return found


def metrics(name: str, value: Any, origin: str) -> tuple[str, ...]:
    """One name of a metric, or a list of different ones."""
    found = _items(value)
    if not found or not all(isinstance(item, str) and item for item in found):
        refuse(name, value, origin, "the name of a metric, or a list of names")
    if len(set(found)) < len(found):
        refuse(name, value, origin, "different metrics")
    return tuple(found)


def points(name: str, value: Any, origin: str) -> tuple[dict[str, Any], ...]:
    """A list of points, each a mapping, or a text such as ``lr=0.1 model=svm``."""
    listed = [value] if isinstance(value, Mapping | str) else value
    if not isinstance(listed, Sequence):
        refuse(name, value, origin, _POINTS)
    return tuple(_point(name, item, origin) for item in listed)


def _point(name: str, item: Any, origin: str) -> dict[str, Any]:
    if isinstance(item, str):
        words = [word.partition("=") for word in item.split()]
        if not words or not all(equals for _, equals, _ in words):
            refuse(name, item, origin, "parameters such as lr=0.1 model=svm")
        item = {key: read_scalar(word) for key, _, word in words}
    if not isinstance(item, Mapping) or not item:
        refuse(name, item, origin, _POINTS)
    return {check_key(key, origin): each for key, each in item.items()}


def texts(name: str, value: Any, origin: str) -> tuple[str, ...]:
    """A text, or a list of texts."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, Sequence) or not all(isinstance(it, str) and it for it in listed):
        refuse(name, value, origin, "a text, or a list of texts")
    return tuple(map(str, listed))


def constraints(name: str, value: Any, origin: str) -> tuple[Constraint, ...]:
    """A list of conditions, or one."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, Sequence):
        refuse(name, value, origin, _CONSTRAINTS)
    return tuple(_constraint(name, item, origin) for item in listed)


def _constraint(name: str, item: Any, origin: str) -> Constraint:
    match = _CONSTRAINT.fullmatch(item) if isinstance(item, str) else None
    bound = read_scalar(match["bound"]) if match else None
    if match is None or isinstance(bound, bool) or not isinstance(bound, int | float):
        refuse(name, item, origin, _CONSTRAINTS)
    if not math.isfinite(bound):
        refuse(name, item, origin, _CONSTRAINTS)
    return Constraint(match["name"], match["sign"] == "<=", float(bound))


def repeat(name: str, value: Any, origin: str) -> Mapping[str, Sequence[Any]]:
    """A mapping of parameters to their values."""
    return check_choosing({"repeat": value}, {"repeat": origin}).repeat


def part(name: str, value: Any, origin: str) -> Any:
    """What makes a sampler, a pruner or a storage: a name, a mapping with one, or an object."""
    if isinstance(value, bool | int | float) or (
        isinstance(value, Sequence) and not is_text(value)
    ):
        refuse(name, value, origin, "a name, or a mapping such as {name: …} or {_target_: …}")
    if isinstance(value, Mapping):
        if "name" not in value and "_target_" not in value:
            refuse(name, dict(value), origin, "a mapping with the key name or _target_")
        return dict(value)
    return value.strip() if isinstance(value, str) else value


def is_text(value: Any) -> bool:
    """Whether a value is a text."""
    return isinstance(value, str)


def anything(name: str, value: Any, origin: str) -> Any:
    """Any value."""
    return value


#: The check of seeds.
seed = whole(0, MAX_SEED - 1)


def is_unset(value: Any) -> bool:
    """Whether a value, which may be a text, means that none was given."""
    return value is None or (isinstance(value, str) and is_none(value))
