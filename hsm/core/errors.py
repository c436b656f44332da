"""The errors that hsm raises for its callers to catch.

    Exception
      `-- HsmError                    all of them
            |-- SettingsError         the value of a setting was refused; also a ValueError
            |     `-- UnknownSetting  there is no setting of that name
            `-- record.job.JobFailed  a job did not complete, and its value was asked for

Errors that belong to one module (an illegal transition of a job, a damaged journal) derive from
HsmError there. An error's data are its attributes; its text is one line for a person.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

from hsm.core.printable import printable


class HsmError(Exception):
    """Base of every error that hsm raises. Its text is fit for a terminal, whatever it quotes."""

    def __str__(self) -> str:
        return printable(super().__str__())


class SettingsError(HsmError, ValueError):
    """A setting, an argument or a settings file was refused, before any job was started.

    Attributes:
        key: the name of the setting, argument or file.
        value: what was given.
        origin: where it came from, for a person to find: "environment variable HSM_LOCAL_TIMEOUT".
        allowed: what may be given instead, worded to follow "must be".
        hint: one more remark, often empty.
    """

    def __init__(self, key: str, value: object, origin: str, allowed: str, hint: str = "") -> None:
        # All of it becomes `args`: so the error survives a pickle on its way between processes.
        super().__init__(key, value, origin, allowed, hint)
        self.key = key
        self.value = value
        self.origin = origin
        self.allowed = allowed
        self.hint = hint

    def __str__(self) -> str:
        hint = f"; {self.hint}" if self.hint else ""
        refused = f"{_short(self.value)} is refused, {self.key} must be {self.allowed}"
        return printable(f"{self.origin}: {refused}{hint}")


class UnknownSetting(SettingsError):
    """There is no setting of that name: `allowed` lists the names, `hint` asks for the near one."""

    @classmethod
    def among(
        cls, key: object, value: object, origin: str, known: Iterable[str], *, prefix: str = ""
    ) -> UnknownSetting:
        """The error for a `key` that is none of `known`.

        Args:
            key, value: what was given.
            origin: where it came from.
            known: the names that exist.
            prefix: what every name begins with, so that it says nothing about which one was meant.
        """
        from difflib import get_close_matches  # 2 ms to import, for a rare error

        names = list(known)
        plain = {name.removeprefix(prefix).lower(): name for name in names}
        near = get_close_matches(str(key).removeprefix(prefix).lower(), plain, n=1)
        hint = f"did you mean {plain[near[0]]}?" if near else ""
        return cls(str(key), value, origin, ", ".join(names), hint)

    def __str__(self) -> str:
        hint = f", {self.hint}" if self.hint else ""
        return printable(
            f"{self.origin}: there is no setting {_short(self.key)}{hint} (known: {self.allowed})"
        )


class _Short(reprlib.Repr):
    """Shows a value in a few words, be it a whole file or a structure without end."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxstring = self.maxother = 80
        self.maxlong = 40

    def repr_int(self, x: int, level: int) -> str:
        try:
            return super().repr_int(x, level)
        except ValueError:  # Python refuses to write out integers of thousands of digits
            return f"an integer of {x.bit_length()} bits"


_short = _Short().repr
