r"""Parameters -> the arguments of a command.

    to_override("lr", 0.1)                               lr=0.1
    to_override("note", "a, b")                          note='a, b'
    expand_command(["./fit", "--lr={lr}"], params, dir)  ./fit --lr=0.1

`to_override` writes what Hydra's own parser reads back as the same value, of the same type; that
parser's grammar (hydra/grammar/Override*.g4) decides what needs quotes. Nothing here is meant for a
shell: every argument is one element of an argv. Nor does anything here change what OmegaConf does
with a text afterwards, in the script:

    ${model.C}    is an interpolation in the script's own config, in quotes or not
    \${model.C}   is the text ${model.C}
    ???           is OmegaConf's mark for "missing", and cannot be given as a text
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from hsm.core.errors import SettingsError

# The grammar's own tokens. Its numbers are not quite Python's: 1_000 and 1e3 are, 0x10 is not.
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

# Text that needs no quotes. The grammar would bear more, but this much is easy to be sure of.
_BARE = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.-]*")
# A dict's key cannot be quoted: these may stand in it, some of them after a backslash.
_DICT_KEY = re.compile(r"[A-Za-z0-9_/\-\\+.$%*@?|()\[\]{}:=, \t]+")
_TO_ESCAPE = re.compile(r"[\\()\[\]{}:=, \t]")

_VALUES_ALLOWED = "null, a boolean, a number, a text, or a list or dict of such"
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|\{")


def plain_key(key: str) -> str:
    """The parameter that a key sets: ``+x`` and ``++x`` set ``x``."""
    return key.lstrip("+")


def check_key(key: object, origin: str, hint: str = "") -> str:
    """`key` if Hydra takes it as the part before the ``=``; `hint` is for the message if not.

    Raises:
        SettingsError: it does not.
    """
    if isinstance(key, str) and (_KEY.fullmatch(key) or (key.strip("+~") and _hydra_takes(key))):
        return key
    if not isinstance(key, str):
        hint = f"this is no text but of type {type(key).__name__}: put it in quotes"
    raise SettingsError("a key", key, origin, _KEY_ALLOWED, hint)


@lru_cache(maxsize=1024)
def _hydra_takes(key: str) -> bool:
    """Whether the installed Hydra has a kind of key that `_KEY` lacks: 1.4 has ``items[0]``."""
    from hsm.core.space.overrides import is_key

    return is_key(key)


def read_scalar(text: str) -> Any:
    """What Hydra makes of ``key=text``: an int, a float, a boolean, None, else the text.

    Only these are told apart: brackets, commas and quotes have no meaning here. Spaces and tabs
    around are dropped.
    """
    return _typed(text.strip(" \t"))


def _typed(text: str) -> Any:
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if _INT.fullmatch(text):
        try:
            return int(text)
        except ValueError:  # thousands of digits are more than Python converts
            return text
    return float(text) if _FLOAT.fullmatch(text) else text


def to_override(key: str, value: Any, origin: str = "parameters") -> str:
    """``key=value``, such that Hydra's parser gives `value` back.

    Tuples become lists, paths text, an enum's member its name (its value if the enum is also a str
    or an int), NumPy's scalars and arrays what they hold. ``("~key", None)`` gives ``~key``, which
    deletes the key.

    Raises:
        SettingsError: Hydra has no such key, or no way to write such a value (a dict whose key is
            the text "1", say), or no argument can hold it (a NUL).
    """
    check_key(key, origin)
    if value is None and key.startswith("~"):
        return key
    try:
        return f"{key}={_holdable(_element(value))}"
    except RecursionError:
        reason = "it is nested too deeply, or holds itself"
        raise SettingsError(key, value, origin, _VALUES_ALLOWED, reason) from None
    except (TypeError, ValueError) as error:
        reason = "it has no form as UTF-8" if isinstance(error, UnicodeError) else str(error)
        raise SettingsError(key, value, origin, _VALUES_ALLOWED, reason) from error


def to_argv(params: Mapping[str, Any], origin: str = "parameters") -> list[str]:
    """One ``key=value`` argument for each parameter, in their order.

    Raises:
        SettingsError: see `to_override`.
    """
    return [to_override(key, value, origin) for key, value in params.items()]


def _element(value: Any) -> str:
    value = simplified(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    # The methods of int and float themselves: a subclass may print itself as np.float64(0.1).
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
    """`value` as one of the types that Hydra's grammar has, where it only wears another coat."""
    if isinstance(value, Enum):
        return value.value if isinstance(value, (str, int)) else value.name
    if isinstance(value, PurePath):
        return str(value)
    # NumPy's scalars and arrays, without importing NumPy; those of float64 are floats as well.
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    return value


def _text(text: str) -> str:
    if _BARE.fullmatch(text) and isinstance(_typed(text), str):
        return text
    quote = '"' if "'" in text and '"' not in text else "'"
    # Backslashes are plain text, except in front of a quote: there each needs another one.
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
    if _typed(key) != key:
        raise ValueError(f"Hydra would read the dict's key {key!r} as {_typed(key)!r}")
    return _TO_ESCAPE.sub(r"\\\g<0>", key)


def placeholders(argv_template: Sequence[str]) -> list[str]:
    """The names that a command places with ``{name}``, each once, in order; ``job_dir`` is one too.

    Raises:
        SettingsError: the command is not a list of texts, or a ``{`` is not closed.
    """
    names: dict[str, None] = {}
    for argument in _checked(argv_template):
        for match in _PLACEHOLDER.finditer(argument):
            if match[0] == "{":
                allowed, hint = "one whose every {name} is closed", "a brace itself is written {{"
                raise SettingsError("an argument", argument, "command", allowed, hint)
            if match[1] is not None:
                names[match[1]] = None
    return list(names)


def check_command(argv_template: Sequence[str], keys: Iterable[str]) -> None:
    """See that a command places nothing but parameters and ``job_dir``; ``{x}`` places ``+x`` too.

    Args:
        argv_template: the command.
        keys: the parameters that every job has.

    Raises:
        SettingsError: it places another name; the error lists those there are.
    """
    known = {name: None for key in keys for name in (plain_key(key), key)}
    for name in placeholders(argv_template):
        if name not in known and name != "job_dir":
            plain = [*dict.fromkeys(map(plain_key, known)), "job_dir"]
            allowed = "one of " + ", ".join(f"{{{key}}}" for key in plain)
            hint = suggestion(name, plain) or "a brace itself is written {{"
            raise SettingsError("a placeholder", f"{{{name}}}", "command", allowed, hint)


def expand_command(
    argv_template: Sequence[str], params: Mapping[str, Any], job_dir: str | os.PathLike[str]
) -> list[str]:
    """The command of one job: ``{key}`` becomes that parameter, ``{job_dir}`` the job's directory.

    A text is placed as it is, everything else as JSON writes it: ``0.1``, ``true``, ``null``,
    ``[1, 2]``. ``{{`` and ``}}`` are the braces themselves. A parameter that is called job_dir
    cannot be placed.

    Raises:
        SettingsError: the command places a name that is no parameter, or a value that no argument
            can hold.
    """
    check_command(argv_template, params)
    known = {plain_key(key): value for key, value in params.items()}
    known |= {**params, "job_dir": os.fspath(job_dir)}

    def replaced(match: re.Match[str]) -> str:
        return match[0][0] if match[1] is None else _placed(match[1], known[match[1]])

    return [_PLACEHOLDER.sub(replaced, argument) for argument in argv_template]


def _placed(name: str, value: Any) -> str:
    value = simplified(value)
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return _holdable(text)
    except (TypeError, ValueError, RecursionError) as error:
        allowed = "a text, or what JSON can hold"
        raise SettingsError(name, value, "command", allowed, str(error)) from error


def _holdable(text: str) -> str:
    """`text` if an argument can hold it.

    Raises:
        ValueError: it holds a NUL or has no form as bytes.
    """
    if "\0" in text:
        raise ValueError("no argument can hold a NUL character")
    os.fsencode(text)
    return text


def _checked(argv_template: object) -> Sequence[str]:
    is_list = isinstance(argv_template, Sequence) and not isinstance(argv_template, (str, bytes))
    words = [*argv_template] if is_list else []  # type: ignore[misc]
    if not words or not all(isinstance(word, str) for word in words):
        allowed = "a list of arguments, each a text"
        raise SettingsError("the command", argv_template, "command", allowed)
    return words


def suggestion(name: str, known: Collection[str]) -> str:
    """A question whether the nearest of `known` was meant, or nothing if none is near."""
    from difflib import get_close_matches  # 2 ms to import, for a rare error

    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else ""
