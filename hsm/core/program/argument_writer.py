"""How the jobs of a sweep get their parameters as arguments: as was asked for, or was found.

hydra           lr=0.1                  Hydra's syntax; Hydra apps get their directory, too
flags           --lr 0.1                argparse, click, typer
flags-equals    --lr=0.1                absl, Fire
none                                    nothing: the script reads $HSM_PARAMS
auto            what the script's source shows that it reads, else hydra
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsm.core.settings.args_style import ArgsStyle
from hsm.core.space.arguments import to_argv, to_override

if TYPE_CHECKING:
    from hsm.core.program.script_parser import ScriptParser
    from hsm.core.space.flags import Signature

_RUN_DIR = "hydra.run.dir"
_FORMS = {
    ArgsStyle.hydra: "lr=0.1",
    ArgsStyle.flags: "--lr 0.1",
    ArgsStyle.flags_equals: "--lr=0.1",
}


@dataclass(frozen=True)
class ArgumentWriter:
    """Writes the arguments of a job.

    Attributes:
        asked: the style that was asked for.
        style: the one that is used, which is never `auto`.
        found: the one that the script's source shows; None if it shows none.
        script: the script that reads them, for messages.
        uses_hydra: whether that is a Hydra app.
        signature: what is known about its arguments; None if that is nothing.
        note: what people should know about this; empty if there is nothing to say.
    """

    asked: ArgsStyle = ArgsStyle.auto
    style: ArgsStyle = ArgsStyle.hydra
    found: ArgsStyle | None = field(default=None, compare=False)
    script: str = field(default="", compare=False)
    uses_hydra: bool = False
    signature: Signature | None = field(default=None, repr=False, compare=False)
    note: str = field(default="", compare=False)

    def words(self, params: Mapping[str, Any], job_dir: str | os.PathLike[str]) -> list[str]:
        """The arguments for a job.

        Raises:
            SettingsError: a parameter cannot be written, or the script surely does not take it.
        """
        if self.style is ArgsStyle.none:
            return []
        if self.style is not ArgsStyle.hydra:
            self.check(params)
            equals = self.style is ArgsStyle.flags_equals
            signature = self.signature or _unknown(self.style)
            return signature.words(params, equals=equals)
        words = to_argv(params)
        if self.uses_hydra and _RUN_DIR not in params:
            words.append(to_override(_RUN_DIR, os.fspath(job_dir)))
        return words

    def check(self, keys: Iterable[str]) -> None:
        """Raise SettingsError if the script surely does not take one of these parameters."""
        if self.style in (ArgsStyle.flags, ArgsStyle.flags_equals):
            signature = self.signature or _unknown(self.style)
            signature.check(keys, self.script or "the script")


#: For what is no Python script.
PLAIN = ArgumentWriter()


def writer_for(path: str | None, asked: ArgsStyle) -> ArgumentWriter:
    """The writer for a script, or for what has none (None).

    Args:
        path: the script.
        asked: the style.
    """
    source = None if path is None else _python_source(path)
    if path is None or source is None:
        plain = ArgsStyle.hydra if asked is ArgsStyle.auto else asked
        return ArgumentWriter(asked, plain, signature=_signature(plain))
    from hsm.core.program.script_parser import parser_of  # A sweep of functions needs none of it.

    parser = parser_of(source, path)
    style = parser.style if asked is ArgsStyle.auto else asked
    is_hydra = parser.library == "Hydra" and style is ArgsStyle.hydra
    signature = parser.signature if parser.style is not ArgsStyle.hydra else _signature(style)
    note = _note(path, parser) if asked is ArgsStyle.auto else ""
    found = parser.style if parser.library else None
    name = os.path.basename(path)
    return ArgumentWriter(asked, style, found, name, is_hydra, signature, note)


def first_script(words: Sequence[str]) -> str | None:
    """The Python script that a command runs, or the module after ``-m``, as far as words tell."""
    for before, word in zip(("", *words), words, strict=False):
        places = [word] if word.endswith(".py") else []
        if before == "-m":
            module = word.replace(".", os.sep)
            places = [f"{module}.py", os.path.join(module, "__main__.py")]
        for place in places:
            if os.path.isfile(place):
                return place
    return None


def _signature(style: ArgsStyle) -> Signature | None:
    """That of what is unknown, for a style that needs one."""
    return None if style in (ArgsStyle.hydra, ArgsStyle.none) else _unknown(style)


def _unknown(style: ArgsStyle) -> Signature:
    from hsm.core.space.flags import TRUTHS, Dialect, Lists, Signature  # Hydra's syntax needs none

    if style is ArgsStyle.flags_equals:  # as gflags and Go read them
        return Signature(Dialect(truths=TRUTHS, lists=Lists.joined))
    return Signature()


def _python_source(path: str) -> bytes | None:
    """The text of a Python script; None for any other file."""
    try:
        with Path(path).open("rb") as file:
            first = file.readline(255)
            is_python = path.endswith(".py") or (first.startswith(b"#!") and b"python" in first)
            return first + file.read() if is_python else None
    except OSError:
        return None


def _note(path: str, parser: ScriptParser) -> str:
    name, form = os.path.basename(path), _FORMS[parser.style]
    change = "(--args-style changes that)"
    if parser.style is not ArgsStyle.hydra:
        return f"{name} reads its arguments with {parser.library}: they are sent as {form} {change}"
    if parser.reads:
        return ""
    return f"nothing in {name} shows how it reads arguments: they are sent as {form} {change}"
