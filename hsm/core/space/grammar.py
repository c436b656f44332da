"""Hydra's grammar: valid keys, the meaning of unquoted scalars, and Hydra's own parser.

Most keys and scalars are recognized without the parser. This is the module of core that imports it,
and only on first use, since that takes some 200 ms.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hsm.core.errors import SettingsError, did_you_mean, shown

if TYPE_CHECKING:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override

#: What an override must be, for messages.
SYNTAX = "key=value in Hydra's override syntax"

# The grammar's tokens. Its numbers differ from Python's: 1_000 and 1e3 are valid, 0x10 is not.
_UNSIGNED = r"(?:0|[1-9](?:_?[0-9])*)"
_POINT = rf"(?:{_UNSIGNED}?\.[0-9](?:_?[0-9])*|{_UNSIGNED}\.)"
_INT = re.compile(rf"[+-]?{_UNSIGNED}")
_FLOAT = re.compile(
    rf"[+-]?(?:{_POINT}|(?:{_POINT}|{_UNSIGNED})e[+-]?[0-9](?:_?[0-9])*|inf|nan)",
    re.IGNORECASE | re.ASCII,
)
_CONSTANTS = {"true": True, "false": False, "null": None}

_ID = r"[A-Za-z_][A-Za-z0-9_-]*"
_STEP = rf"(?:[A-Za-z_$][A-Za-z0-9_$-]*|{_UNSIGNED})"
_PACKAGE = rf"(?:{_STEP}(?:\.{_STEP})+|[A-Za-z_$][A-Za-z0-9_$-]*)"
_KEY = re.compile(rf"(?:~|\+{{0,2}})(?:{_ID}(?:/{_ID})+|{_PACKAGE})(?:@{_PACKAGE})?")
_KEY_ALLOWED = "a parameter's name as Hydra has them, such as lr, model.C, +new, db@source"
_UNKNOWN_FUNCTION = re.compile(r"Unknown function '(.*)' Available: (\S*)")


def plain_key(key: str) -> str:
    """The parameter that a key sets: ``+x`` and ``++x`` set ``x``."""
    return key.lstrip("+")


def is_usual_key(key: str) -> bool:
    """Whether `key` is valid in every Hydra; some Hydras accept more."""
    return _KEY.fullmatch(key) is not None


def check_key(key: object, origin: str, hint: str = "") -> str:
    """Return `key` if it is valid before the ``=`` of an override.

    Args:
        key: the key.
        origin: where it was written, for messages.
        hint: an addition to the message if it is not valid.

    Raises:
        SettingsError: it is not valid.
    """
    if isinstance(key, str) and (is_usual_key(key) or (key.strip("+~") and _hydra_takes(key))):
        return key
    message = ""
    if not isinstance(key, str):
        kind = type(key).__name__
        message = f"{origin}: expected a string as a key, got {key!r} ({kind}): quote it"
    raise SettingsError("a key", key, origin, _KEY_ALLOWED, hint, message=message)


@lru_cache(maxsize=1024)
def _hydra_takes(key: str) -> bool:
    """Whether the installed Hydra accepts a key that `_KEY` does not, as 1.4 does ``items[0]``."""
    try:
        override = parse_override(f"{key}=0", "")
    except SettingsError:
        return False
    return bool(override.get_key_element() == key and override.value() == 0)


def read_scalar(text: str) -> Any:
    """Read `text` as Hydra reads ``key=text``: as an int, a float, a boolean, None, or a string.

    Brackets, commas and quotes have no meaning here. Spaces and tabs around it are dropped.
    """
    return typed(text.strip(" \t"))


def typed(text: str) -> Any:
    """Convert `text` to the type as which Hydra reads it; the whole text must match."""
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if _INT.fullmatch(text):
        try:
            return int(text)
        except ValueError:  # thousands of digits, more than Python converts
            return text
    return float(text) if _FLOAT.fullmatch(text) else text


@lru_cache(maxsize=1)
def _parser() -> OverridesParser:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def parse_override(text: str, origin: str) -> Override:
    """Parse `text` with Hydra's parser.

    Raises:
        SettingsError: the parser refuses it, or it changes a list instead of setting a value.
    """
    if not isinstance(text, str):
        raise _unreadable(text, origin, "it is not a string")
    from hydra.errors import HydraException

    try:
        override = _parser().parse_override(text)
    except HydraException as error:
        raise _unreadable(text, origin, _reason(text, str(error))) from None
    except RecursionError:
        raise _unreadable(text, origin, "it is nested too deeply") from None
    except ValueError as error:  # a number with more digits than Python converts
        raise _unreadable(text, origin, str(error)) from None
    if override.type.name == "EXTEND_LIST":  # Hydra 1.4
        hint = "extend_list() is a change, not a value: give the whole list"
        raise _unreadable(text, origin, hint)
    return override


def _unreadable(text: object, origin: str, reason: str) -> SettingsError:
    message = f"{origin}: cannot use the override {shown(text)}: {reason}"
    return SettingsError("an override", text, origin, SYNTAX, reason, message=message)


def _reason(text: str, message: str) -> str:
    """Rewrite the parser's message with less of its jargon."""
    message = " ".join(message.split())
    unknown = _UNKNOWN_FUNCTION.search(message)
    if unknown:
        names = unknown[2].split(",")
        hint = did_you_mean(unknown[1], names) or f"only {', '.join(names)}"
        return f"there is no {unknown[1]}(), {hint}"
    if "=" not in text:
        return "it has no ="
    return re.sub(r" expecting .*", "", message) + " (special characters need quotes: key='a, b')"
