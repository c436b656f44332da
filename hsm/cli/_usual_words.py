"""Reads the words of a usual command line without typer.

typer takes as long to import, and to be told of all options, as a sweep of fifty short commands or
half of the time in which the record of 100,000 jobs is read. So what is certain to mean the same
without it is read here. Everything else is left to it, with all help and all errors: whatever is
misspelt, abbreviated, given twice, empty, or only looks or prints.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hsm.core.settings.resolve import SETTINGS

#: typer offers candidates to the shell if this is set.
_COMPLETION = "_HSM_COMPLETE"


class UsualWords:
    """The options that a command has, and what some words say.

    Args:
        texts: its own options that take a text, and what holds it.
        flags: its own options that take none, and what they set.
        settings: the names of the settings that it has options for.
        lists: its own options that take a text and may be given several times, and what holds it.

    Attributes:
        arguments: the words that belong to no option.
        own: what was given for its own options, by what holds it.
        settings: what was given for settings, by their names.
    """

    def __init__(
        self,
        texts: Mapping[str, str],
        flags: Mapping[str, str],
        settings: Collection[str],
        *,
        lists: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._texts = {**texts, **lists}
        self._lists = lists
        self._switches = {option: (name, True) for option, name in flags.items()}
        self._own_options = {*texts, *flags, *lists}
        for name in settings:
            options = SETTINGS[name].option.split("/")
            if len(options) == 1:
                self._texts[options[0]] = name
            else:
                pairs = zip(options, ((name, True), (name, False)), strict=True)
                self._switches.update(pairs)
        self.arguments: list[str] = []
        self.own: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}

    def read(self, words: Sequence[str]) -> bool:
        """Read words; False if that takes typer."""
        if _COMPLETION in os.environ:
            return False
        rest = list(reversed(words))
        while rest:
            word = rest.pop()
            if not word.isprintable() or not word:
                return False
            if not word.startswith("-"):
                self.arguments.append(word)
            elif not self._read_option(word, rest):
                return False
        return True

    def _read_option(self, word: str, rest: list[str]) -> bool:
        """Read an option, and its text from `rest` if it is there; False if that takes typer."""
        option, equals, text = word.partition("=")
        if option in self._switches and not equals:
            name, value = self._switches[option]
            return self._set(option, name, value)
        if option not in self._texts:
            return False
        if not equals:
            text = rest.pop() if rest else ""
        if not text or text.startswith("-") or not text.isprintable():
            return False
        return self._set(option, self._texts[option], text)

    def _set(self, option: str, name: str, value: str | bool) -> bool:
        is_own = option in self._own_options
        held = self.own if is_own else self.settings
        if option in self._lists or (not is_own and SETTINGS[name].kind.repeats):
            held.setdefault(name, []).append(value)
            return True
        if name in held:
            return False
        held[name] = value
        return True
