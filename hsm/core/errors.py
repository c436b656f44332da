"""The errors that hsm raises for its callers to catch.

    Exception
      `-- HsmError                    all of them
            |-- SettingsError         the value of a setting was refused; also a ValueError
            |     `-- UnknownSetting  there is no setting of that name
            `-- record.job.JobFailed  a job did not complete, and its value was asked for

Errors that belong to one module (an illegal transition of a job, a damaged journal) derive from
HsmError there. An error's data are its attributes; its text is one line for a person: what is
wrong, where, and what to do.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable

from hsm.core.printable import printable

#: How origins begin of values that were typed: they are texts.
_TYPED = ("--", "environment variable ")
#: How origins begin that need no word for what they name, and all those that name what is wrong.
_NOUNS = ("environment variable ", "argument ")
_NAMING = (*_TYPED, *_NOUNS, "hydra.", "${")
_KEY_OF_FILE = r"[^/]+ in /"
_NUMBER = r"[+-]?[0-9][0-9.]{0,30}"


class HsmError(Exception):
    """Base of every error that hsm raises. Its text is fit for a terminal, whatever it quotes."""

    def __str__(self) -> str:
        return printable(super().__str__())


class SettingsError(HsmError, ValueError):
    """A setting, an argument or a file was refused, before any job was started.

    Its text is one sentence: "--timeout must be a number of seconds above 0, not 'soon'". An origin
    that names what is wrong (an option, an argument, a variable, a key of a file) is its subject;
    any other stands before it: "points.csv, line 3: a row must be 2 cells, not ['3']".

    Attributes:
        key: the name of the setting, argument or file.
        value: what was given.
        origin: where it came from, for a person to find: "environment variable HSM_LOCAL_TIMEOUT".
        allowed: what may be given instead, worded to follow "must be".
        hint: one more remark, often empty.
        message: the text, where another one says it better.
    """

    def __init__(
        self,
        key: str,
        value: object,
        origin: str,
        allowed: str,
        hint: str = "",
        *,
        message: str = "",
    ) -> None:
        # All but `message` becomes `args`, and that stays an attribute: so the error survives a
        # pickle on its way between processes.
        super().__init__(key, value, origin, allowed, hint)
        self.key = key
        self.value = value
        self.origin = origin
        self.allowed = allowed
        self.hint = hint
        self.message = message

    def __str__(self) -> str:
        return printable(self.message or self._sentence())

    def _sentence(self) -> str:
        subject = self.origin if _names_it(self.origin) else f"{self.origin}: {self.key}"
        given = shown(self.value)
        if self.origin.startswith(_TYPED) and _is_number(self.value):
            given = str(self.value)
        hint = f"; {self.hint}" if self.hint else ""
        return f"{subject} must be {self.allowed}, not {given}{hint}"


class UnknownSetting(SettingsError):
    """There is no setting of that name: `allowed` lists the names, `hint` asks for the near one."""

    @classmethod
    def among(
        cls,
        key: object,
        value: object,
        origin: str,
        known: Iterable[str],
        *,
        prefix: str = "",
        hint: str = "",
    ) -> UnknownSetting:
        """The error for a `key` that is none of `known`.

        Args:
            key, value: what was given.
            origin: where it came from.
            known: the names that exist.
            prefix: what every name begins with.
            hint: a better one than the nearest name.
        """
        names = list(known)
        hint = hint or did_you_mean(key, names, prefix=prefix)
        return cls(str(key), value, origin, ", ".join(names), hint)

    def _sentence(self) -> str:
        if self.origin.startswith(_NOUNS):
            what = self.origin
        elif _names_it(self.origin):
            what = f"setting {self.origin}"
        else:
            what = f"setting {self.key} in {self.origin}"
        return f"unknown {what}; {self.hint or f'known: {self.allowed}'}"


def _names_it(origin: str) -> bool:
    return origin.startswith(_NAMING) or re.match(_KEY_OF_FILE, origin) is not None


def _is_number(value: object) -> bool:
    """Whether a value that was typed needs no quotes."""
    return isinstance(value, str) and re.fullmatch(_NUMBER, value) is not None


def did_you_mean(
    name: object, names: Iterable[str], *, prefix: str = "", most: int = 1, cutoff: float = 0.6
) -> str:
    """The question whether the nearest of `names` was meant; empty if none is near.

    Args:
        name: what was given.
        names: those that there are.
        prefix: what every name begins with, so that it says nothing about which one was meant.
        most: how many to name.
        cutoff: how near a name has to be, from 0 (all are) to 1.
    """
    from difflib import get_close_matches  # 2 ms to import, for a rare error

    plain = {each.removeprefix(prefix).lower(): each for each in names}
    near = get_close_matches(str(name).removeprefix(prefix).lower(), plain, most, cutoff)
    return f"did you mean {' or '.join(plain[each] for each in near)}?" if near else ""


class _Short(reprlib.Repr):
    """Shows a value in a few words, be it a whole file or a structure without end."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write out integers of thousands of digits.
        return repr(x) if x.bit_length() < 128 else f"an integer of {x.bit_length()} bits"


_repr = _Short().repr


def shown(value: object) -> str:
    """A value as an error shows it: in quotes if it is a text, and in a few words."""
    return _repr(value)
