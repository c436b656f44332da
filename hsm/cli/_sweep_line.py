"""A command line of `hsm sweep`, and how the usual ones are read without typer.

    hsm sweep 'seed=range(5)' --parallel-jobs 2 -- ./fit {seed}

typer takes as long to import, and to be told of all options, as a sweep of fifty short commands. So
what is certain to mean the same without it is read here. Everything else is left to it, with all
help and all errors: whatever is misspelt, abbreviated, given twice, empty, or only looks or prints.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class SweepLine:
    """What a command line says; what it leaves out is as here.

    Attributes:
        overrides: the sweep in Hydra's syntax.
        command: the words after ``--``; None without it.
        settings: by their names; None for those left out.
    """

    overrides: Sequence[str] = ()
    command: Sequence[str] | None = None
    script: str = ""
    args_style: str = ""
    config: str = ""
    mode: str = "local"
    sweep_id: str = ""
    sweep_dir: str = ""
    resume: str = ""
    max_runs: int | None = None
    dry_run: bool = False
    count_only: bool = False
    detach: bool = False
    as_json: bool = False
    hsm_config: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


#: Options of the command itself that take a text, and the attributes that hold it.
_TEXTS = {
    "--script": "script",
    "--args-style": "args_style",
    "--config": "config",
    "--sweep-id": "sweep_id",
    "--sweep-dir": "sweep_dir",
    "--hsm-config": "hsm_config",
}
#: typer offers candidates to the shell if this is set.
_COMPLETION = "_HSM_COMPLETE"


def read_usual_line(arguments: Sequence[str]) -> SweepLine | None:
    """Read the arguments of `hsm`; None if that takes typer."""
    if list(arguments[:1]) != ["sweep"] or _COMPLETION in os.environ:
        return None
    from hsm.core.settings.resolve import SETTINGS

    texts = dict(_TEXTS)
    switches: dict[str, tuple[str, bool]] = {}
    for setting in SETTINGS.values():
        if not setting.is_option:
            continue
        names = setting.option.split("/")
        if len(names) == 1:
            texts[setting.option] = setting.name
        else:
            switches.update(zip(names, ((setting.name, True), (setting.name, False)), strict=True))
    return _Reader(texts, switches).read(list(arguments[1:]))


class _Reader:
    """Reads words.

    Args:
        texts: options that take a text, and what holds it.
        switches: options that take none, what they set, and to what.
    """

    def __init__(self, texts: Mapping[str, str], switches: Mapping[str, tuple[str, bool]]) -> None:
        self._texts = texts
        self._switches = switches
        self._own: dict[str, Any] = {}
        self._settings: dict[str, Any] = {}

    def read(self, words: list[str]) -> SweepLine | None:
        command = None
        if "--" in words:
            at = words.index("--")
            words, command = words[:at], words[at + 1 :]
        overrides = []
        words.reverse()
        while words:
            word = words.pop()
            if not word.isprintable() or not word:
                return None
            if not word.startswith("-"):
                overrides.append(word)
            elif not self._read_option(word, words):
                return None
        return SweepLine(overrides, command, **self._own, settings=self._settings)

    def _read_option(self, word: str, rest: list[str]) -> bool:
        """Read an option, and its text from `rest` if it is there; False if that takes typer."""
        option, equals, text = word.partition("=")
        if option in self._switches and not equals:
            name, value = self._switches[option]
            return self._set(self._settings, name, value)
        if option not in self._texts:
            return False
        if not equals:
            text = rest.pop() if rest else ""
        if not text or text.startswith("-") or not text.isprintable():
            return False
        held = self._own if option in _TEXTS else self._settings
        return self._set(held, self._texts[option], text)

    @staticmethod
    def _set(held: dict[str, Any], name: str, value: str | bool) -> bool:
        if name in held:
            return False
        held[name] = value
        return True
