"""Keeps values of the setting `env` out of what hsm records and shows: only the names stay.

``--env KEY=value`` becomes ``--env KEY=***``, and ``hydra.launcher.env.KEY=value`` becomes
``hydra.launcher.env.KEY=***``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

#: Stands for a value that is not shown. Hydra's grammar reads it as a text.
MASK = "***"

_FLAG = "--env"
#: An override below which there may be variables, whoever it is that reads the command line.
_OVERRIDE = re.compile(r"(\+{0,2}hydra\.launcher\.env(?:\.[^=]*)?=).*", re.DOTALL)
#: An override of something that holds all of the launcher's settings.
_ABOVE = re.compile(r"(\+{0,2}hydra(?:\.launcher)?=).*\benv\b.*", re.DOTALL)
#: What may stand between a variable's name and its value, in YAML or in a program.
_BETWEEN = rb"""["']?[ \t]*[:=][ \t]*["']?"""


def masked_text(text: str) -> str:
    """KEY=value without its value; all of a text that is of another form is masked."""
    name, equals, _ = text.partition("=")
    return f"{name}={MASK}" if equals else MASK


def masked_words(words: Sequence[str]) -> list[str]:
    """The words of a command line, without the values of variables for jobs."""
    masked: list[str] = []
    is_value = False  # of the flag before it
    for at, word in enumerate(words):
        if word == "--" and not is_value:  # What follows is a command.
            return [*masked, *words[at:]]
        if is_value:
            masked.append(masked_text(word))
        elif word.startswith(f"{_FLAG}="):
            masked.append(f"{_FLAG}={masked_text(word.partition('=')[2])}")
        else:
            masked.append(_ABOVE.sub(rf"\1{MASK}", _OVERRIDE.sub(rf"\1{MASK}", word)))
        is_value = word == _FLAG and not is_value
    return masked


def masked_data(data: bytes, variables: Mapping[str, str]) -> bytes:
    """`data` without the values of these variables, where they follow the variables' names.

    Elsewhere they stay: as plain words, they may be anything.
    """
    for name, value in variables.items():
        if value:
            name_before = re.escape(os.fsencode(name)) + _BETWEEN
            pattern = b"(" + name_before + b")" + re.escape(os.fsencode(value))
            data = re.sub(pattern, rb"\1" + MASK.encode(), data)
    return data
