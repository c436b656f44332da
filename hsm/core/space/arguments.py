r"""Parameters -> the arguments of a command.

    to_override("lr", 0.1)                               lr=0.1
    to_override("note", "a, b")                          note='a, b'

Hydra's parser reads the output of `to_override` back as the same value of the same type; its
grammar (hydra/grammar/Override*.g4) decides what needs quotes. Nothing is quoted for a shell: every
argument is one element of an argv. Nor does this module change what OmegaConf later does with a
string in the script:

    ${model.C}    is an interpolation in the script's own config, in quotes or not
    \${model.C}   is the string ${model.C}
    ???           is OmegaConf's mark for "missing", and cannot be given as a string
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from hsm.core.errors import SettingsError
from hsm.core.space.grammar import check_key, typed

# Strings that need no quotes. The grammar allows more, but these are certain.
_BARE = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.-]*")
# A dict's key cannot be quoted. It may have these characters, some of them after a backslash.
_DICT_KEY = re.compile(r"[A-Za-z0-9_/\-\\+.$%*@?|()\[\]{}:=, \t]+")
_TO_ESCAPE = re.compile(r"[\\()\[\]{}:=, \t]")

_VALUES_ALLOWED = "null, a boolean, a number, a text, or a list or dict of such"


def to_override(key: str, value: Any, origin: str = "parameters") -> str:
    """Write ``key=value`` such that Hydra's parser reads `value` back.

    Converts tuples to lists, paths to strings, enum members to their names (or their values, if the
    enum is also a str or an int), and NumPy scalars and arrays to plain values. ``("~key", None)``
    becomes ``~key``, which deletes the key.

    Raises:
        SettingsError: the key is not valid in Hydra, or Hydra's syntax cannot express the value (a
            dict with the string "1" as key, say), or an argument cannot hold it (a NUL).
    """
    check_key(key, origin)
    if value is None and key.startswith("~"):
        return key
    try:
        return f"{key}={holdable(_element(value))}"
    except (TypeError, ValueError, RecursionError) as error:
        raise unwritable(key, value, origin, error) from error


def to_argv(params: Mapping[str, Any], origin: str = "parameters") -> list[str]:
    """Write one ``key=value`` argument for each parameter, in order.

    Raises:
        SettingsError: see `to_override`.
    """
    return [to_override(key, value, origin) for key, value in params.items()]


def unwritable(key: str, value: Any, origin: str, error: Exception) -> SettingsError:
    """The error for a parameter that cannot be written, because of `error`."""
    reason = str(error)
    if isinstance(error, UnicodeError):
        reason = "it has no form as UTF-8"
    elif isinstance(error, RecursionError):
        reason = "it is nested too deeply, or holds itself"
    return SettingsError(key, value, origin, _VALUES_ALLOWED, reason)


def _element(value: Any) -> str:
    value = simplified(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    # Use the base classes' methods: a subclass may print itself as np.float64(0.1).
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_dict_key(k)}:{_element(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_element, value)) + "]"
    raise TypeError(f"a {type(value).__name__} is none of these")


def simplified(value: Any) -> Any:
    """Convert an enum member, a path or a NumPy value to the plain value that it stands for."""
    if isinstance(value, Enum):
        return value.value if isinstance(value, (str, int)) else value.name
    if isinstance(value, PurePath):
        return str(value)
    # NumPy scalars and arrays, without importing NumPy.
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    return value


def _text(text: str) -> str:
    if _BARE.fullmatch(text) and isinstance(typed(text), str):
        return text
    quote = '"' if "'" in text and '"' not in text else "'"
    # Backslashes are literal, except in front of a quote, where each must be doubled.
    inner = re.sub(rf"(\\*){quote}", rf"\1\1\\{quote}", text)
    trailing = len(inner) - len(inner.rstrip("\\"))
    return quote + inner + "\\" * trailing + quote


def _dict_key(key: Any) -> str:
    key = simplified(key)
    if key is None or isinstance(key, (bool, int, float)):
        return _element(key)
    if not isinstance(key, str):
        raise TypeError(f"a {type(key).__name__} cannot be a dict's key there")
    if not _DICT_KEY.fullmatch(key):
        raise ValueError(f"Hydra has no way to write the dict's key {key!r}")
    if typed(key) != key:
        raise ValueError(f"Hydra would read the dict's key {key!r} as {typed(key)!r}")
    return _TO_ESCAPE.sub(r"\\\g<0>", key)


def holdable(text: str) -> str:
    """Return `text` if an argument can hold it.

    Raises:
        ValueError: it has a NUL character, or cannot be encoded.
    """
    if "\0" in text:
        raise ValueError("no argument can hold a NUL character")
    os.fsencode(text)
    return text
