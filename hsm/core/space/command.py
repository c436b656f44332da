"""Commands with placeholders for parameters: ``["./fit", "--lr={lr}", "--out={job_dir}"]``.

The word ``{args}`` stands for arguments with all parameters that no other placeholder names.
``{gpu}``, ``{slot}`` and ``{port}`` are not known before an attempt of the job starts: a word with
one of them is a `LateWord` until then.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from hsm.core.errors import SettingsError, did_you_mean, shown
from hsm.core.space.arguments import holdable, simplified, to_argv
from hsm.core.space.grammar import plain_key

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|\{")
_BRACE = "write {{ for a brace"
#: The word that stands for all arguments, and the name in it.
ARGS = "{args}"
_ARGS = "args"
#: Placeholders for what an attempt of a job is given, unless parameters have these names: its GPUs,
#: its place among the running jobs, and a free port.
GPU, SLOT, PORT = "gpu", "slot", "port"
_LATE = (GPU, SLOT, PORT)

Writer = Callable[[Mapping[str, Any]], Sequence[str]]


class LateWord(str):
    """A word of a job's command that only an attempt completes; as a text, it has placeholders.

    Args:
        pieces: texts and, at every second place, names of placeholders.
    """

    pieces: tuple[str, ...]

    def __new__(cls, pieces: Sequence[str]) -> LateWord:
        word = super().__new__(cls, _joined(pieces, {name: f"{{{name}}}" for name in pieces[1::2]}))
        word.pieces = tuple(pieces)
        return word


def late_names(command: Iterable[str]) -> set[str]:
    """The placeholders that an attempt must fill in."""
    return {name for word in command if type(word) is LateWord for name in word.pieces[1::2]}


def filled(command: Iterable[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """A job's command for one attempt.

    Args:
        command: what `expand_command` returned.
        values: what the names of `late_names` stand for.
    """
    return tuple(
        _joined(word.pieces, values) if type(word) is LateWord else word for word in command
    )


def _joined(pieces: Sequence[str], values: Mapping[str, str]) -> str:
    return "".join(values[piece] if at % 2 else piece for at, piece in enumerate(pieces))


def placeholders(argv_template: Sequence[str]) -> list[str]:
    """List the names in a command's ``{name}`` placeholders, including ``job_dir``, each once.

    Raises:
        SettingsError: the command is not a list of strings, or a ``{`` is not closed.
    """
    return list(_placeholders(tuple(_checked(argv_template))))


@lru_cache(maxsize=64)  # All jobs of a sweep have the same.
def _placeholders(argv_template: tuple[str, ...]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for argument in argv_template:
        for match in _PLACEHOLDER.finditer(argument):
            if match[0] == "{":
                message = f"command: a {{ is not closed in {shown(argument)}; {_BRACE}"
                allowed = "one whose every {name} is closed"
                raise SettingsError(
                    "an argument", argument, "command", allowed, _BRACE, message=message
                )
            if match[1] is not None:
                names[match[1]] = None
    return tuple(names)


def check_command(argv_template: Sequence[str], keys: Iterable[str]) -> None:
    """Check that all placeholders of a command are parameters, or names that hsm knows.

    ``{x}`` also stands for a parameter with the key ``+x``, and ``{args}`` for a parameter of that
    name, if there is one.

    Args:
        argv_template: the command.
        keys: the parameters that every job has.

    Raises:
        SettingsError: a placeholder has another name, which lists the valid ones, or ``{args}`` is
            no word of its own.
    """
    if names := placeholders(argv_template):
        _check_names(argv_template, names, keys)


def _check_names(argv_template: Sequence[str], names: Iterable[str], keys: Iterable[str]) -> None:
    known = {name: None for key in keys for name in (plain_key(key), key)}
    for name in names:
        if name == _ARGS and name not in known:
            _check_args(argv_template)
        elif name not in known and name != "job_dir" and name not in _LATE:
            plain = [*dict.fromkeys([*map(plain_key, known), "job_dir", _ARGS, *_LATE])]
            names = ", ".join(f"{{{key}}}" for key in plain)
            hint = did_you_mean(name, plain) or f"there are {names} ({_BRACE})"
            message = f"command: no parameter for {{{name}}}; {hint}"
            allowed = f"one of {names}"
            raise SettingsError(
                "a placeholder", f"{{{name}}}", "command", allowed, hint, message=message
            )


def _check_args(argv_template: Sequence[str]) -> None:
    """Raise SettingsError for a word in which ``{args}`` stands beside other text."""
    for at, word in enumerate(argv_template):
        if any(match[1] == _ARGS for match in _PLACEHOLDER.finditer(word)):
            if word == ARGS and at > 0:
                continue
            hint = "it stands for several words"
            message = f"command: {ARGS} must be a word of its own, not {shown(word)}; {hint}"
            if word == ARGS:
                message = f"command: {ARGS} stands where the program must be"
            allowed = "a word of its own, after the program"
            raise SettingsError("a placeholder", word, "command", allowed, hint, message=message)


def expand_command(
    argv_template: Sequence[str],
    params: Mapping[str, Any],
    job_dir: str | os.PathLike[str],
    write: Writer = to_argv,
) -> list[str]:
    """Fill in one job's command: ``{key}`` becomes the parameter, ``{job_dir}`` the directory.

    What `write` makes of the parameters that no placeholder names replaces the word ``{args}``. A
    word with a placeholder that an attempt fills in becomes a `LateWord`.

    Strings are inserted as they are, everything else as JSON: ``0.1``, ``true``, ``null``,
    ``[1, 2]``. ``{{`` and ``}}`` become single braces. A parameter named job_dir cannot be used.

    Raises:
        SettingsError: a placeholder is not a parameter, or an argument cannot hold a value.
    """
    if _is_plain(tuple(_checked(argv_template))):
        return list(argv_template)
    check_command(argv_template, params)
    known = {plain_key(key): value for key, value in params.items()}
    known |= {**params, "job_dir": os.fspath(job_dir)}
    words: list[str] = []
    for argument in argv_template:
        if argument == ARGS and _ARGS not in known:
            named = placeholders(argv_template)
            words += write(
                {k: v for k, v in params.items() if k not in named and plain_key(k) not in named}
            )
        else:
            words.append(_expanded(argument, known))
    return words


def _expanded(argument: str, known: Mapping[str, Any]) -> str:
    pieces, end = [""], 0
    for match in _PLACEHOLDER.finditer(argument):
        pieces[-1] += argument[end : match.start()]
        end = match.end()
        name = match[1]
        if name is None:
            pieces[-1] += match[0][0]
        elif name in known:
            pieces[-1] += _argument(name, known[name])
        else:
            pieces += [name, ""]
    pieces[-1] += argument[end:]
    return pieces[0] if len(pieces) == 1 else LateWord(pieces)


@lru_cache(maxsize=64)
def _is_plain(argv_template: tuple[str, ...]) -> bool:
    """Whether a command has neither placeholders nor braces, so that all jobs have the same."""
    return not any(_PLACEHOLDER.search(word) for word in argv_template)


def _argument(name: str, value: Any) -> str:
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
