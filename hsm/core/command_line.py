"""Command lines: splitting them into words, and joining words into a line that can be pasted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from hsm.core.errors import SettingsError
from hsm.core.printable import printable

#: Backslashes that fish, unlike other shells, interprets within single quotes.
_READ_TWO_WAYS = re.compile(r"\\(?:[\\']|$)")


def split_command(command: object) -> tuple[str, ...]:
    """Return a command's words: of a string, split as in a shell, or of a list of strings.

    Raises:
        ValueError: a quote is not closed, or the first word is empty or missing.
        TypeError: the command is neither a string nor a list of strings.
    """
    words = shlex.split(command) if isinstance(command, str) else command
    if not isinstance(words, Sequence) or isinstance(words, bytes):
        raise TypeError("neither a string nor a list")
    if not all(isinstance(word, str) for word in words):
        raise TypeError("a word is not a string")
    if not words or not words[0]:
        raise ValueError("it names no program")
    return tuple(words)


def command_words(command: object, origin: str) -> tuple[str, ...]:
    """As `split_command`, for a command that `origin` gave.

    Raises:
        SettingsError: it is no command.
    """
    try:
        return split_command(command)
    except (TypeError, ValueError) as error:
        allowed = "a command line, or a list of its words"
        raise SettingsError("command", command, origin, allowed, str(error)) from error


def join_command(words: Iterable[str]) -> str:
    """Join words into a readable line that can be pasted into any shell, whatever they contain."""
    return " ".join(map(_word, words))


def _word(word: str) -> str:
    if printable(word) == word and not _READ_TWO_WAYS.search(word):
        return shlex.quote(word)
    # Byte by byte, since a file name may be undecodable.
    data = word.encode("utf-8", "surrogateescape" if _is_file_name(word) else "surrogatepass")
    text = "".join(map(_printed_byte, data))
    if word.endswith("\n"):  # which $(…) would drop; dash and fish do not know $'…'
        return f"$'{text.replace('%%', '%')}'"
    text = text.replace("-", r"\055", 1) if word.startswith("-") else text
    return f"\"$(printf '{text}')\""


def _printed_byte(byte: int) -> str:
    char = chr(byte)
    if char == "%":
        return "%%"
    # An interactive shell replaces an exclamation mark within double quotes.
    return char if " " <= char <= "~" and char not in "\\'!" else f"\\{byte:03o}"


def _is_file_name(word: str) -> bool:
    """Whether all surrogates in `word` stand for undecodable bytes of a file name."""
    return all("\udc80" <= char <= "\udcff" for char in word if "\ud800" <= char <= "\udfff")
