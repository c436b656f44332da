"""Command lines: splitting them into words, and joining words into a line that can be pasted."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from hsm.core.errors import SettingsError
from hsm.core.printable import printable


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
    """Join words into a readable line that can be pasted into a shell, whatever they contain."""
    return " ".join(map(_word, words))


def _word(word: str) -> str:
    if printable(word) == word:
        return shlex.quote(word)
    # $'…' works in bash, zsh and ksh. Quote byte by byte, since a file name may be undecodable.
    data = word.encode("utf-8", "surrogateescape" if _is_file_name(word) else "surrogatepass")
    return f"$'{''.join(map(_quoted_byte, data))}'"


def _quoted_byte(byte: int) -> str:
    char = chr(byte)
    if char in "\\'":
        return f"\\{char}"
    return char if " " <= char <= "~" else f"\\x{byte:02x}"


def _is_file_name(word: str) -> bool:
    """Whether all surrogates in `word` stand for undecodable bytes of a file name."""
    return all("\udc80" <= char <= "\udcff" for char in word if "\ud800" <= char <= "\udfff")
