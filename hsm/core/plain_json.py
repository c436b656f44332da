"""Values as JSON that gives them back as they are, and what tells a job's parameters from others.

NaN and the infinities, for which JSON has no words, are written and read in Python's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

#: Lists and objects one within the other. Who reads a deeper one may have less room on its stack
#: than who wrote it, and another Python has another limit.
MAX_DEPTH = 100
#: Characters; the identity of larger parameters is a hash.
_MAX_IDENTITY = 1024

#: Into one line, as it stands in a journal; what JSON has no word for becomes text.
encode = json.JSONEncoder(separators=(",", ":"), default=str).encode
#: The same of what JSON can hold; else TypeError.
_encode_strictly = json.JSONEncoder(separators=(",", ":")).encode


def json_value(value: Any) -> Any:
    """`value` if JSON gives it back as it is (a scalar of NumPy or torch: its item), else None."""
    found = as_json(value)
    return None if found is None else found[0]


def is_short(value: Any) -> bool:
    """Whether JSON surely gives `value` back as it is, and its text is that of one number or less.

    What is not may be so too: this is a quick look, for what most jobs return.
    """
    kind = type(value)
    return kind is float or kind is bool or value is None or (kind is int and abs(value) < 1 << 64)


def as_json(value: Any) -> tuple[Any, str] | None:
    """What `json_value` gives, and its text; None if JSON cannot hold it."""
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "ndim", None) == 0:
        value = item()
    try:
        text = _encode_strictly(value)
        return (value, text) if _same(json.loads(text), value, MAX_DEPTH) else None
    except (TypeError, ValueError, RecursionError, MemoryError):
        return None


def _same(first: Any, second: Any, depth: int) -> bool:
    """Equality that lets NaN equal itself and, unlike ``==``, tells 1 from 1.0 and True.

    False for what is nested deeper than `depth`.
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
    """Equal for two jobs exactly if they have the same parameters, in whatever order."""
    # As the journal gives them back: there all keys are texts, by which they can be sorted.
    text = json.dumps(json.loads(json.dumps(params, default=str)), sort_keys=True)
    if len(text) <= _MAX_IDENTITY:
        return text
    import hashlib  # which takes a while, and few need it

    return hashlib.sha256(text.encode()).hexdigest()


def is_flat(value: Any) -> bool:
    """Anything that is not nested too deeply to be shown."""
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
