r"""Parameters -> arguments for a parser of options: ``--lr 0.1 --layers 64 128 --verbose``.

How an option wants a boolean or a list depends on the library that reads it, and on how the script
declares it; `Signature` says it. Nothing is quoted for a shell: every argument is one element of an
argv.

    {"lr": 0.1, "batch_size": 8}     --lr 0.1 --batch-size 8      if --batch-size is declared
    {"verbose": True}                --verbose
    {"verbose": False}               nothing, or --no-verbose if that is declared
    {"note": "-x"}                   --note=-x                    else it would read as an option
    {"seed": None}                   nothing
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hsm.core.errors import SettingsError, did_you_mean
from hsm.core.space.arguments import holdable, simplified, to_override, unwritable
from hsm.core.space.grammar import plain_key
from hsm.core.text_enum import TextEnum

#: How booleans are written where they are values.
TRUTHS = ("True", "False")
_MOST_NAMED = 12


class Lists(TextEnum):
    """How an option takes several values."""

    spread = "--layers 64 128"
    repeated = "--layers 64 --layers 128"
    joined = "--layers 64,128"
    spaced = "--layers '64 128'"
    literal = "--layers [64, 128]"


@dataclass(frozen=True)
class Option:
    """An option, or a positional argument, of a script.

    Attributes:
        word: its flag, such as ``--batch-size``; empty for a positional one.
        off: the flag that stands for False, if there is one.
        truths: how it takes True and False as values; None: True is the flag alone.
        takes_value: whether it takes values at all.
        lists: how it takes several values.
        counts: whether it takes an integer by being repeated, such as ``-v -v``.
        default: the number that it has by default, if the script's source shows one.
    """

    word: str
    off: str = ""
    truths: tuple[str, str] | None = TRUTHS
    takes_value: bool = True
    lists: Lists = Lists.joined
    counts: bool = False
    default: float | None = None


@dataclass(frozen=True)
class Dialect:
    """What holds for options whose declaration was not found.

    Attributes:
        dashes: whether the option of ``batch_size`` is ``--batch-size``.
        truths: how they take booleans; None: as flags.
        negation: what makes a flag that stands for False, such as ``no-``; empty: there is none.
        lists: how they take several values.
        is_python: whether values are read as Python literals, so that some texts need quotes.
    """

    dashes: bool = False
    truths: tuple[str, str] | None = None
    negation: str = ""
    lists: Lists = Lists.spread
    is_python: bool = False

    def option(self, key: str) -> Option:
        """The option for the parameter `key`."""
        name = key.replace("_", "-") if self.dashes else key
        group, dot, last = name.rpartition(".")
        off = f"--{group}{dot}{self.negation}{last}" if self.negation else ""
        return Option(f"--{name}", off, self.truths, lists=self.lists)


@dataclass(frozen=True)
class Signature:
    """The arguments that a script takes.

    Attributes:
        dialect: what holds for all options that are not listed.
        options: by the names that a parameter may have.
        positionals: names of the positional ones, in order; they are in `options`, too.
        is_complete: whether it surely takes no others.
        special: with these characters a value cannot begin in a word of its own.
        takes_overrides: whether it takes ``lr=0.1`` for what is not in `options`.
    """

    dialect: Dialect = field(default_factory=Dialect)
    options: Mapping[str, Option] = field(default_factory=dict)
    positionals: tuple[str, ...] = ()
    is_complete: bool = False
    special: str = "-"
    takes_overrides: bool = False

    def find(self, key: str) -> Option | None:
        """The option that is declared for the parameter `key`."""
        return self.options.get(key) or self.options.get(key.replace("-", "_"))

    def words(self, params: Mapping[str, Any], *, equals: bool) -> list[str]:
        """See `to_flags`."""
        return to_flags(params, self, equals=equals)

    def check(self, keys: Iterable[str], script: str) -> None:
        """Raise SettingsError for a parameter that the script surely does not take."""
        for key in keys:
            if key.startswith("~"):
                message = f"{key} would delete a key of a Hydra config, and {script} reads none"
                raise SettingsError(key, None, script, "a parameter's name", message=message)
            if self.is_complete and self.find(plain_key(key)) is None:
                self._check_beginning(plain_key(key), script)

    def _check_beginning(self, key: str, script: str) -> None:
        """Raise SettingsError unless some option's name begins so, which argparse takes for it."""
        names = [*dict.fromkeys(name.replace("-", "_") for name in self.options)]
        if any(name.startswith(key.replace("-", "_")) for name in names):
            return
        words = [*dict.fromkeys(each.word or name for name, each in self.options.items())]
        more = f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
        there = f"it has {', '.join(words[:_MOST_NAMED])}{more}" if words else "it has none"
        hint = did_you_mean(key, names) or there
        message = f"{script} has no option --{key}; {hint}"
        allowed = f"one of {', '.join(names)}"
        raise SettingsError("a parameter", key, script, allowed, hint, message=message)


def to_flags(
    params: Mapping[str, Any], signature: Signature, *, equals: bool, origin: str = "parameters"
) -> list[str]:
    """Write the arguments for these parameters: first the positional ones, then options.

    Args:
        params: the parameters.
        signature: what the script takes.
        equals: write ``--lr=0.1`` and not ``--lr 0.1``.
        origin: where the parameters come from, for messages.

    Raises:
        SettingsError: an argument cannot hold a value, or the script takes it in no form.
    """
    writer = _Writer(signature, equals)
    options: list[str] = []
    overrides: list[str] = []
    positional: dict[str, list[str]] = {}
    for key, value in params.items():
        name = plain_key(key)
        option = signature.find(name)
        if option is None and signature.takes_overrides:
            overrides.append(to_override(key, value, origin))
            continue
        option = option or signature.dialect.option(name)
        _check(key, value, option, origin)
        try:
            words = [holdable(word) for word in writer.words(option, simplified(value))]
        except (TypeError, ValueError, RecursionError) as error:
            raise unwritable(key, value, origin, error) from error
        if option.word or option.off:
            options += words
        elif words:
            positional[name.replace("-", "_")] = words
    words = [*_ordered(positional, signature, origin), *overrides]
    if any(word.startswith("-") for word in words):
        return [*options, "--", *words]
    return [*words, *options]


def _check(key: str, value: Any, option: Option, origin: str) -> None:
    if not (option.takes_value or option.counts or value in (None, 0, 1)):
        hint = f"{option.word or option.off} takes no value"
        raise SettingsError(key, value, origin, "true or false", hint)


def _ordered(positional: Mapping[str, list[str]], signature: Signature, origin: str) -> list[str]:
    present = [name in positional for name in signature.positionals]
    if False in present and True in present[present.index(False) :]:
        missing = signature.positionals[present.index(False)]
        later = signature.positionals[len(present) - 1 - present[::-1].index(True)]
        message = f"{origin}: {later} comes after {missing} on the command line: give that, too"
        raise SettingsError(missing, None, origin, "given", message=message)
    return [word for name in signature.positionals for word in positional.get(name, ())]


@dataclass(frozen=True)
class _Writer:
    signature: Signature
    equals: bool

    def words(self, option: Option, value: Any) -> list[str]:
        if value is None:
            return []
        if option.counts and isinstance(value, int):
            return [option.word] * int(value)
        if option.truths is None and (isinstance(value, bool) or not option.takes_value):
            word = option.word if value else option.off
            return [word] if word else []
        if isinstance(value, (list, tuple)):
            return self._several(option, [simplified(item) for item in value])
        if isinstance(value, bool) and option.truths is not None:
            return self._one(option, option.truths[not value])
        return self._one(option, self._text(value))

    def _several(self, option: Option, values: list[Any]) -> list[str]:
        if option.lists is Lists.literal:
            return self._one(option, self._nested(values))
        if option.lists is Lists.spread:
            items = [self._item(value) for value in values]
            return [option.word, *items] if option.word else items
        texts = [self._text(value) for value in values]
        if option.lists is Lists.repeated:
            return [word for text in texts for word in self._one(option, text)]
        if option.lists is Lists.spaced:
            return self._one(option, " ".join(texts))
        return self._one(option, _joined(texts))

    def _one(self, option: Option, text: str) -> list[str]:
        is_special = text[:1] != "" and text[0] in self.signature.special
        if not option.word:
            if is_special and text[0] != "-":
                raise ValueError(f"{text!r} would be read as a file of arguments")
            return [text]
        if option.word.startswith("--") and (self.equals or is_special):
            return [f"{option.word}={text}"]
        return [option.word, text]

    def _item(self, value: Any) -> str:
        """A value in a word of its own, which must not look like an option."""
        text = self._text(value)
        if text[:1] == "" or text[0] not in self.signature.special:
            return text
        if isinstance(value, float) and math.isfinite(value):
            from decimal import Decimal

            # Parsers take -0.001 for a number, and most of them -1e-3 for an option.
            return format(Decimal(text), "f")
        if isinstance(value, int):
            return text
        raise ValueError(f"in a list, {text!r} would be taken for an option")

    def _text(self, value: Any) -> str:
        if isinstance(value, str):
            return _python_text(value) if self.signature.dialect.is_python else str(value)
        if isinstance(value, bool):
            return str(value)
        # The base classes' methods: a subclass may print itself as np.float64(0.1).
        if isinstance(value, int):
            return int.__repr__(value)
        if isinstance(value, float):
            return float.__repr__(value)
        return self._nested(value)

    def _nested(self, value: Any) -> str:
        plain = json.dumps(_plain(value), ensure_ascii=False)
        return repr(json.loads(plain)) if self.signature.dialect.is_python else plain


def _joined(texts: Iterable[str]) -> str:
    """A line of comma-separated values, as absl reads them back."""
    import csv
    import io

    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(texts)
    return line.getvalue()


def _plain(value: Any) -> Any:
    value = simplified(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _python_text(text: str) -> str:
    """A text such that Fire, which reads values as Python literals, reads it back.

    It takes what is no expression, and a bare word, as a text.
    """
    try:
        body = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text
    return text if isinstance(body, ast.Name) and text == body.id else repr(text)
