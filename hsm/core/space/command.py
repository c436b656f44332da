"""A command whose words place parameters: ``["./fit", "--lr={lr}", "--out={job_dir}"]``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hsm.core.errors import SettingsError, did_you_mean
from hsm.core.space.arguments import holdable, simplified
from hsm.core.space.grammar import plain_key

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|\{")


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
            hint = did_you_mean(name, plain) or "a brace itself is written {{"
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
        return holdable(text)
    except (TypeError, ValueError, RecursionError) as error:
        allowed = "a text, or what JSON can hold"
        raise SettingsError(name, value, "command", allowed, str(error)) from error


def _checked(argv_template: object) -> Sequence[str]:
    is_list = isinstance(argv_template, Sequence) and not isinstance(argv_template, (str, bytes))
    words = [*argv_template] if is_list else []  # type: ignore[misc]
    if not words or not all(isinstance(word, str) for word in words):
        allowed = "a list of arguments, each a text"
        raise SettingsError("the command", argv_template, "command", allowed)
    return words
