"""Command lines: from what a person wrote to words, and from words to what a person can paste."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from hsm.core.printable import printable


def split_command(command: object) -> tuple[str, ...]:
    """The words of a command: of a text, split as a shell would, or of a list of texts.

    Raises:
        ValueError: a quote is not closed, the first word is empty, or there is none.
        TypeError: it is something else.
    """
    words = shlex.split(command) if isinstance(command, str) else command
    if not isinstance(words, Sequence) or isinstance(words, bytes):
        raise TypeError("neither a text nor a list")
    if not all(isinstance(word, str) for word in words):
        raise TypeError("a word is not a text")
    if not words or not words[0]:
        raise ValueError("it names no program")
    return tuple(words)


def join_command(words: Iterable[str]) -> str:
    """A command line that can be read, and pasted into a shell, whatever its words hold."""
    return " ".join(map(_word, words))


def _word(word: str) -> str:
    if printable(word) == word:
        return shlex.quote(word)
    # bash, zsh and ksh know such quotes. By bytes: a file's name need not be text.
    data = word.encode("utf-8", "surrogateescape" if _is_name(word) else "surrogatepass")
    return f"$'{''.join(map(_quoted_byte, data))}'"


def _quoted_byte(byte: int) -> str:
    char = chr(byte)
    if char in "\\'":
        return f"\\{char}"
    return char if " " <= char <= "~" else f"\\x{byte:02x}"


def _is_name(word: str) -> bool:
    """Whether its surrogates stand for bytes of a file's name."""
    return all("\udc80" <= char <= "\udcff" for char in word if "\ud800" <= char <= "\udfff")
