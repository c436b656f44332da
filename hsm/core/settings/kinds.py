"""The kinds of values that settings may have: what is allowed, in words for people and as a check.

A value arrives as data (an argument, hsm.yaml), which `check` takes strictly: True is no count, "4"
is a text; or as text (an environment variable, the command line), which `parse` reads.
"""

from __future__ import annotations

import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum
from typing import Any

from hsm.core.units import format_size, parse_duration, parse_size

#: Seconds; about 31 years. Much beyond it the waiting functions of the operating system overflow.
MAX_DURATION = 1e9
#: A number that is left to hsm.
AUTO = "auto"

#: An integer, as it is typed.
INTEGER = r"[+-]?[0-9]{1,40}"
_SPELLINGS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


class Refused(ValueError):
    """A value is not allowed; the text says why, where "must be" leaves that open."""


def is_none(text: str) -> bool:
    """Whether a text means that there is no value."""
    return text.strip().lower() in ("none", "null")


def is_real(value: object) -> bool:
    """Whether a value is a number, NumPy's and fractions included."""
    if isinstance(value, (int, float)):
        return True
    from numbers import Real  # NumPy's numbers, fractions; rare enough to import it late

    return isinstance(value, Real)


def _texts(value: object) -> tuple[str, ...]:
    """`value`, a list of texts, as a tuple. TypeError if it is anything else."""
    if not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        raise TypeError
    return tuple(value)


class Kind(ABC):
    """A kind of value.

    `check` and `parse` raise ValueError, TypeError or OverflowError for what is not allowed.

    Attributes:
        allowed: the values that are allowed, worded to follow "must be".
        metavar: what stands for the value in the help; None for a switch, which takes none.
        names: the words that it may be, or of which it is made; often none.
        annotation: its type in Hydra's config; Any where Hydra would refuse some of what `check`
            takes, such as 2h for a number of seconds.
        is_secret: whether nobody is shown what it is.
        repeats: whether its flag may be given several times, and `gather` reads all of them.
    """

    allowed: str
    metavar: str | None
    names: Sequence[str] = ()
    annotation: Any = Any
    is_secret: bool = False
    repeats: bool = False

    @abstractmethod
    def check(self, value: Any) -> Any:
        """`value`, which is data, in the type that the setting has."""

    @abstractmethod
    def parse(self, text: str) -> Any:
        """The value that `text` spells."""

    def gather(self, texts: Sequence[str]) -> Any:
        """The value that a flag spells which was given with these texts, at least one."""
        return self.parse(texts[-1])

    def show(self, value: Any) -> str:
        """A checked value as a person would write it."""
        return f"{value:g}" if isinstance(value, float) else str(value)

    def hint(self, value: object) -> str:
        """What may have been meant by a value that is not allowed; often empty."""
        return ""

    def quotable(self, value: Any) -> Any:
        """A value that is not allowed, as an error may show it."""
        return value

    def shareable(self, value: Any) -> Any:
        """A checked value as a record may hold it, without secrets and in types that JSON has."""
        return value.value if isinstance(value, Enum) else value


class Count(Kind):
    """An integer.

    Args:
        at_least: the smallest that is allowed.
        optional: None, in text "none" or "null", is allowed.
    """

    metavar = "N"

    def __init__(self, *, at_least: int, optional: bool = False) -> None:
        self.at_least, self.optional = at_least, optional
        self.annotation = int | None if optional else int
        self.allowed = f"an integer of at least {at_least}{', or none' if optional else ''}"

    def check(self, value: Any) -> int | None:
        if value is None and self.optional:
            return None
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # NumPy's integers too, but neither 4.0 nor "4"
        if number < self.at_least:
            raise ValueError
        return number

    def parse(self, text: str) -> int | None:
        if self.optional and is_none(text):
            return None
        if not re.fullmatch(INTEGER, text.strip()):
            raise ValueError
        return self.check(int(text))


class CountOrAuto(Count):
    """An integer, or "auto": as many as suit the machine.

    Args:
        at_least, optional: see `Count`.
    """

    metavar = f"N|{AUTO}"
    names = (AUTO,)

    def __init__(self, *, at_least: int, optional: bool = False) -> None:
        super().__init__(at_least=at_least, optional=optional)
        self.annotation = Any
        words = f"{AUTO}, or none" if optional else f"or {AUTO}"
        self.allowed = f"an integer of at least {at_least}, {words}"

    def check(self, value: Any) -> Any:
        if isinstance(value, str):
            if value.strip().lower() == AUTO:
                return AUTO
            if self.optional and is_none(value):
                return None
        return super().check(value)

    def parse(self, text: str) -> Any:
        return AUTO if text.strip().lower() == AUTO else super().parse(text)


class Seconds(Kind):
    """A duration, as a number of seconds or as text such as 90s, 30m, 2h, 1d.

    Args:
        above: it must be longer than this, or:
        at_least: not shorter than this.
        optional: None, in text "none" or "null", is allowed.
    """

    metavar = "TIME"

    def __init__(
        self, *, above: float | None = None, at_least: float = 0, optional: bool = False
    ) -> None:
        self.above, self.at_least, self.optional = above, at_least, optional
        bound = f"of at least {at_least:g}" if above is None else f"above {above:g}"
        most = f"{MAX_DURATION:g}".replace("e+0", "e")
        none = ", or none" if optional else ""
        self.allowed = f"a number of seconds {bound} and at most {most} (or 90s, 30m, 2h, 1d){none}"

    def check(self, value: Any) -> float | None:
        if value is None and self.optional:
            return None
        if isinstance(value, str):
            return self.parse(value)
        if isinstance(value, bool) or not is_real(value):
            raise TypeError
        seconds = float(value)
        long_enough = seconds >= self.at_least if self.above is None else seconds > self.above
        if not (long_enough and seconds <= MAX_DURATION):  # so written, it refuses nan
            raise ValueError
        return seconds

    def parse(self, text: str) -> float | None:
        if self.optional and is_none(text):
            return None
        return self.check(parse_duration(text))


class Factor(Kind):
    """A number above 1, or none."""

    allowed = "a number above 1, or none"
    metavar = "FACTOR"
    annotation = float | None

    def check(self, value: Any) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not is_real(value):
            raise TypeError
        if not 1 < float(value) < float("inf"):
            raise ValueError
        return float(value)

    def parse(self, text: str) -> float | None:
        return None if is_none(text) else self.check(float(text))


class Size(Kind):
    """A size: bytes, or text such as 512MB, 4GB, 1.5GiB; or none. Held as bytes.

    Args:
        at_least: it must be this large.
    """

    metavar = "SIZE"

    def __init__(self, *, at_least: int = 1) -> None:
        self.at_least = at_least
        bound = "above 0" if at_least == 1 else f"of at least {at_least}"
        self.allowed = f"a number of bytes {bound}, or text such as 512MB, 4GB, 1.5GiB, or none"

    def check(self, value: Any) -> int | None:
        if value is None:
            return None
        if isinstance(value, str):
            return self.parse(value)
        if isinstance(value, bool) or not is_real(value):
            raise TypeError
        if not self.at_least <= value < float("inf"):
            raise ValueError
        return int(value)

    def parse(self, text: str) -> int | None:
        if is_none(text):
            return None
        return self.check(parse_size(text))

    def show(self, value: Any) -> str:
        return format_size(value)


class Words(Kind):
    """A command: a list of words, or one text that is split as a shell would; or none."""

    allowed = "a command, as a text or as a list of words, or none"
    metavar = "COMMAND"

    def check(self, value: Any) -> tuple[str, ...] | None:
        if value is None:
            return None
        if isinstance(value, str):
            return self.parse(value)
        words = _texts(value)
        if not words:
            raise ValueError
        return words

    def parse(self, text: str) -> tuple[str, ...] | None:
        if is_none(text):
            return None
        from hsm.core.command_line import split_command  # shlex is slow to import

        return split_command(text)

    def show(self, value: Any) -> str:
        from hsm.core.command_line import join_command

        return join_command(value)


class Subset(Kind):
    """Some of a few names: a list, or a text with commas. Held as a tuple."""

    metavar = "NAMES"
    annotation = tuple[str, ...]

    def __init__(self, *names: str) -> None:
        self.names = names
        self.allowed = f"any of {', '.join(names)}"

    def check(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            return self.parse(value)
        chosen = _texts(value)
        if not set(chosen) <= set(self.names):
            raise ValueError
        return chosen

    def parse(self, text: str) -> tuple[str, ...]:
        return self.check([name for part in text.split(",") if (name := part.strip().lower())])

    def show(self, value: Any) -> str:
        return ",".join(value)


class Switch(Kind):
    """True or false."""

    allowed = "true or false"
    metavar = None
    annotation = bool

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        return value

    def parse(self, text: str) -> bool:
        try:
            return _SPELLINGS[text.strip().lower()]
        except KeyError:
            raise ValueError from None

    def show(self, value: Any) -> str:
        return "true" if value else "false"


class Name(Kind):
    """A plain name, or none."""

    allowed = "a name, or none"
    metavar = "NAME"
    annotation = str | None

    def check(self, value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise TypeError
        return self.parse(value)

    def parse(self, text: str) -> str | None:
        if is_none(text):
            return None
        name = text.strip()
        if not name or not name.isprintable():
            raise ValueError
        return name
