"""The kinds of settings that are mappings: names to numbers, and variables to texts.

    resources: {licence: 2, tokens: 5}      licence=2,tokens=5
    _needs_: {gpus: 0.5, licence: 1}        gpus=0.5,licence=1
    env: {KEY: value, OTHER: two words}     KEY=value OTHER='two words'

Both are held as plain dicts. None, in text "none" or "null", is the empty one.
"""

from __future__ import annotations

import operator
import os
import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hsm.core.masked import MASK, masked_text
from hsm.core.needs import GPU_NAMES
from hsm.core.settings.gpu_kinds import GpuCount
from hsm.core.settings.kinds import INTEGER, Kind, Refused, Size, is_none

#: The largest count: what a journal accepts as a number.
MAX_COUNT = (1 << 31) - 1

_OWN_PREFIX, _OWN_NAMES = "HSM_", ("TMPDIR",)


class _Mapping(Kind):
    """A mapping; a flag may be given several times, and each adds to it."""

    repeats = True

    def check(self, value: Any) -> dict[str, Any]:
        if value is None:
            return {}
        if isinstance(value, str):
            return self.parse(value)
        if not isinstance(value, Mapping):
            raise TypeError
        return {self._name(name): self._value(name, item) for name, item in value.items()}

    def parse(self, text: str) -> dict[str, Any]:
        return {} if is_none(text) else self._of_words(self._split(text))

    def gather(self, texts: Sequence[str]) -> dict[str, Any]:
        if len(texts) == 1 and is_none(texts[0]):
            return {}
        return self._of_words(word for text in texts for word in self._words_of_flag(text))

    def _of_words(self, words: Iterable[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for word in words:
            name, equals, text = word.partition("=")
            if not equals:
                raise ValueError
            name = self._name(name.strip())
            if name in found:
                raise Refused(f"{name} is given twice")
            found[name] = self._parsed(name, text)
        if not found:
            raise ValueError
        return found

    def _words_of_flag(self, text: str) -> Sequence[str]:
        return self._split(text)

    @abstractmethod
    def _split(self, text: str) -> Sequence[str]:
        """The words of `text`, each of the form NAME=VALUE."""

    @abstractmethod
    def _name(self, name: Any) -> str:
        """`name`, if it may be a name."""

    @abstractmethod
    def _value(self, name: str, value: Any) -> Any:
        """The value that `value`, which is data, stands for."""

    @abstractmethod
    def _parsed(self, name: str, text: str) -> Any:
        """The value that `text` spells."""


class Counts(_Mapping):
    """Names of things, and how many of each. Held as a dict.

    Args:
        at_least: the smallest number that is allowed.
    """

    metavar = "NAME=N,…"

    def __init__(self, *, at_least: int) -> None:
        self.at_least = at_least
        self.allowed = (
            f"names with integers of at least {at_least}, such as {{licence: 2}}, in text "
            "licence=2,tokens=5, or none"
        )

    def show(self, value: Any) -> str:
        return ",".join(f"{name}={number}" for name, number in value.items()) or "none"

    def _split(self, text: str) -> Sequence[str]:
        return text.split(",")

    def _name(self, name: Any) -> str:
        if not isinstance(name, str) or not re.fullmatch(r"[^\s,=]+", name):
            raise Refused("a name has no spaces, commas and equals signs")
        if not name.isprintable():
            raise ValueError
        self._check_reserved(name)
        return str(name)

    def _check_reserved(self, name: str) -> None:
        if name in GPU_NAMES:
            raise Refused(f"{name} is a setting of its own: set {name}, not a resource")

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
        if not self.at_least <= number <= MAX_COUNT:
            raise ValueError
        return number

    def _parsed(self, name: str, text: str) -> Any:
        if not re.fullmatch(INTEGER, text.strip()):
            raise ValueError
        return self._value(name, int(text))


class PointNeeds(Counts):
    """What a point needs: counts by name, and of GPUs `gpus` and `gpu_memory`. Held as a dict."""

    def __init__(self) -> None:
        super().__init__(at_least=0)
        self._gpu_kinds: Mapping[str, Kind] = {
            "gpus": GpuCount(optional=False),
            "gpu_memory": Size(),
        }
        self.allowed = (
            "names with integers of at least 0, such as {licence: 2, gpus: 0.5}, in text "
            "licence=2,gpus=0.5,gpu_memory=10GiB, or none"
        )

    def _check_reserved(self, name: str) -> None:
        """Of a point, all names may be."""

    def _value(self, name: str, value: Any) -> Any:
        if name not in self._gpu_kinds:
            return super()._value(name, value)
        return self._gpu_value(name, value)

    def _parsed(self, name: str, text: str) -> Any:
        return (
            self._gpu_value(name, text) if name in self._gpu_kinds else super()._parsed(name, text)
        )

    def _gpu_value(self, name: str, value: Any) -> Any:
        kind = self._gpu_kinds[name]
        try:
            found = kind.check(value)
        except Refused:
            raise
        except (ValueError, TypeError, OverflowError):
            found = None
        if found is None:
            raise Refused(f"{name} must be {kind.allowed.removesuffix(', or none')}")
        return found


class Variables(_Mapping):
    """Variables for the environment of jobs, whose values are never shown. Held as a dict.

    A text is split into words as a shell would, but a flag's is one variable, taken as it is.
    """

    allowed = (
        "variables with texts or numbers, such as {KEY: value}, in text KEY=value OTHER='two "
        "words', or none"
    )
    metavar = "KEY=VALUE"
    is_secret = True

    def show(self, value: Any) -> str:
        return ",".join(f"{name}={MASK}" for name in value) or "none"

    def quotable(self, value: Any) -> Any:
        if isinstance(value, str):
            return masked_text(value)
        if isinstance(value, Mapping):
            return dict.fromkeys(value, MASK)
        is_list = isinstance(value, (list, tuple))
        return [masked_text(str(item)) for item in value] if is_list else MASK

    def shareable(self, value: Any) -> Any:
        return dict.fromkeys(value, MASK)

    def _split(self, text: str) -> Sequence[str]:
        from hsm.core.command_line import split_command  # shlex is slow to import

        return split_command(text)

    def _words_of_flag(self, text: str) -> Sequence[str]:
        return [text]

    def _name(self, name: Any) -> str:
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise Refused("a variable's name is a text without = and NUL, and not empty")
        if name.startswith(_OWN_PREFIX) or name in _OWN_NAMES:
            raise Refused(f"{name} is hsm's own: it sets TMPDIR and HSM_* for each job")
        os.fsencode(name)
        return str(name)

    def _value(self, name: str, value: Any) -> str:
        if isinstance(value, bool) or value is None:
            word = "null" if value is None else str(value).lower()
            raise Refused(f"{name} is {word}, which may be spelt in several ways: put it in quotes")
        if not isinstance(value, (str, int, float)):
            raise Refused(f"{name} is neither a text nor a number")
        return self._parsed(name, str(value))

    def _parsed(self, name: str, text: str) -> str:
        if text == MASK:
            raise Refused(f"{MASK} stands for a value that is not on record: give the value itself")
        if "\0" in text:
            raise Refused("a value has no NUL")
        os.fsencode(text)
        return text
