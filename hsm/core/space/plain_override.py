"""The overrides that need no grammar: a plain key, and plain scalars or a range of numbers.

    lr=0.1,0.01   +model=svm   'seed=range(5)'   'x=choice(a, b)'

Hydra's parser takes a fifth of a second to import. So what is certain to mean the same without it
is read here; everything else, and everything that is wrong, is left to it.
"""

from __future__ import annotations

import re

from hsm.core.space.axes import Listed, Values, stepped
from hsm.core.space.grammar import is_usual_key, typed

#: Any text of these characters is a scalar in Hydra's grammar, whatever tokens it consists of.
_SCALAR = re.compile(r"[A-Za-z0-9_/.+-]{1,500}")
_CALL = re.compile(r"(range|choice)\(([^()]*)\)")
_SPACE = " \t"
_MAX_ARGUMENTS = 3  # of range()


def read_plain_override(text: object) -> tuple[str, Values] | None:
    """The key of an override and the values that it sweeps over; None if that takes the grammar."""
    if not isinstance(text, str):
        return None
    key, equals, value = text.partition("=")
    if not equals or key.startswith("~") or not is_usual_key(key):
        return None
    value = value.lstrip(_SPACE)
    values = _called(call[1], call[2]) if (call := _CALL.fullmatch(value)) else _listed(value)
    return None if values is None else (key, values)


def _called(function: str, arguments: str) -> Values | None:
    values = _listed(arguments)
    if values is None or None in values.items:  # Hydra's functions take no null
        return None
    if function == "choice":
        return values
    numbers = list(values.items)
    if len(numbers) > _MAX_ARGUMENTS or not all(type(number) in (int, float) for number in numbers):
        return None
    if len(numbers) == 1:
        numbers.insert(0, 0)
    try:
        steps = stepped(numbers[0], numbers[1], *(numbers[2:] or [1]))
    except ValueError:
        return None
    return steps if steps.count else None


def _listed(text: str) -> Listed | None:
    scalars = [scalar.strip(_SPACE) for scalar in text.split(",")]
    if not all(map(_SCALAR.fullmatch, scalars)):
        return None
    return Listed([typed(scalar) for scalar in scalars])
