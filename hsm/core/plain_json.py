"""Values that survive a round trip through JSON, and the identity of a job's parameters.

NaN and the infinities, which JSON lacks, are written and read the way Python spells them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

#: Levels of nested lists and objects. The reader of a deeper value may have less stack than its
#: writer, or another Python with another limit.
MAX_DEPTH = 100
#: Characters; the identity of larger parameters is a hash.
_MAX_IDENTITY = 1024

#: Encodes a value in one line, as in a journal; what JSON cannot hold becomes a string.
encode = json.JSONEncoder(separators=(",", ":"), default=str).encode
#: The same, but raises TypeError for what JSON cannot hold.
_encode_strictly = json.JSONEncoder(separators=(",", ":")).encode


def json_value(value: Any) -> Any:
    """Return `value`, its NumPy and torch scalars as numbers, if JSON preserves it, else None."""
    found = as_json(value)
    return None if found is None else found[0]


def is_short(value: Any) -> bool:
    """Whether `value` is a scalar that JSON certainly preserves, in a short text.

    A quick check for what most jobs return; False does not mean that JSON cannot hold the value.
    """
    kind = type(value)
    return kind is float or kind is bool or value is None or (kind is int and abs(value) < 1 << 64)


def are_plain(params: Mapping[str, Any]) -> bool:
    """Whether these are texts and scalars under texts, which JSON certainly preserves.

    A quick check for what most parameters are, as `is_short` is one for what most jobs return.
    """
    return type(params) is dict and all(map(_is_plain, params, params.values()))


def _is_plain(name: object, value: object) -> bool:
    return type(name) is str and (type(value) is str or is_short(value))


def as_json(value: Any) -> tuple[Any, str] | None:
    """Return what `json_value` returns, and its JSON; None if JSON does not preserve the value."""
    found = _preserved(value)
    if found is None:
        try:
            return _preserved(_with_numbers(value))
        except Exception:  # whatever the attributes of somebody's class raise
            return None
    return found


def _preserved(value: Any) -> tuple[Any, str] | None:
    try:
        text = _encode_strictly(value)
        return (value, text) if _same(json.loads(text), value, MAX_DEPTH) else None
    except (TypeError, ValueError, RecursionError, MemoryError):
        return None


def _with_numbers(value: Any) -> Any:
    """`value` with numbers in place of NumPy and torch scalars, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_numbers(item) for item in value]
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    return value


def _same(first: Any, second: Any, depth: int) -> bool:
    """Compare values; unlike ``==``, NaN equals itself, and 1, 1.0 and True differ.

    False for values nested deeper than `depth`.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        return (
            depth > 0
            and first.keys() == second.keys()
            and all(_same(first[key], second[key], depth - 1) for key in first)
        )
    if isinstance(first, list) and isinstance(second, (list, tuple)):
        return (
            depth > 0
            and len(first) == len(second)
            and all(_same(one, other, depth - 1) for one, other in zip(first, second, strict=True))
        )
    if isinstance(first, float) and isinstance(second, float) and math.isnan(first):
        return math.isnan(second)
    return type(first) is type(second) and bool(first == second)


def identity(params: Mapping[str, Any]) -> str:
    """Return a text that two jobs share exactly if their parameters are equal, in any order."""
    # Round-trip as through the journal first: then all keys are strings, which can be sorted.
    plain = params if are_plain(params) else json.loads(json.dumps(params, default=str))
    text = json.dumps(plain, sort_keys=True)
    if len(text) <= _MAX_IDENTITY:
        return text
    import hashlib  # slow to import, and rarely needed

    return hashlib.sha256(text.encode()).hexdigest()


def is_flat(value: Any) -> bool:
    """Whether `value` is not nested too deeply to be shown."""
    if not isinstance(value, (list, dict)):
        return True
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for inner in level
            for item in (inner.values() if isinstance(inner, dict) else inner)
            if isinstance(item, (list, dict))
        ]
        if not level:
            return True
    return False
