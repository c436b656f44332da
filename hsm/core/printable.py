r"""Making text from outside safe to print on a terminal.

Labels, values, ids, paths, error messages and lines that jobs print may contain characters that
move the cursor, set a title, hide a line or reverse the writing direction. Everything that hsm
prints goes through here, except for `hsm logs`, which prints a job's bytes as they are.

    "\x1b[31mred\x1b[0m"   red                   colours are removed
    "\x1b[2Ja\x07\u202eb"  \x1b[2Ja\x07\u202eb    other unprintable characters become Python escapes

Lines that jobs print were meant for a terminal, so all control sequences are removed from them: see
`without_sequences`.
"""

from __future__ import annotations

import re
import unicodedata

# Control sequences: CSI (colours, cursor), terminated strings (OSC, DCS, …; of an unterminated one,
# only the introducer is removed) and short escapes. No part of one can begin another, so that a
# text made of introducers only is scanned once, not quadratically.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
_COLOURS = re.compile(r"(?:\x1b\[|\x9b)[0-9:;]*m")
#: Combining marks on one letter; more would be drawn over the lines above and below.
_MAX_MARKS = 8
#: A run of characters that may be combining marks, which `re` does not count as word characters.
_MARKS = re.compile(rf"[^\w\s\x00-\x7f]{{{_MAX_MARKS + 1},}}")


def printable(text: str) -> str:
    """Turn `text` into one line of printable characters (`str.isprintable`); see the module."""
    if not text.isprintable():
        text = "".join(map(_visible, _COLOURS.sub("", text)))
    return text if text.isascii() else _MARKS.sub(_few_marks, text)


def printable_lines(text: str) -> str:
    r"""Make each line of `text` printable; every ``\n`` stays."""
    return "\n".join(map(printable, text.split("\n")))


def without_sequences(text: str) -> str:
    """Remove terminal control sequences from `text`; single control characters stay."""
    return _SEQUENCES.sub("", text)


def printable_json(text: str) -> str:
    """Escape unprintable characters in a JSON document, which changes none of its values."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(map(_in_json, text))


def shorten(text: str, length: int) -> str:
    """Cut `text` to at most `length` characters; a cut ends with an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _in_json(char: str) -> str:
    # A newline is the document's own: within strings, JSON escapes them.
    if char == "\n" or char.isprintable():
        return char
    import json  # the fork server of commands needs none of it

    return json.dumps(char)[1:-1]


def _visible(char: str) -> str:
    if char.isprintable():
        return char
    if unicodedata.category(char) == "Zs":
        return " "  # a non-breaking space, or one of a special width
    return char.encode("unicode_escape").decode()


def _few_marks(run: re.Match[str]) -> str:
    kept, marks = [], 0
    for char in run[0]:
        marks = marks + 1 if unicodedata.category(char)[0] == "M" else 0
        if marks <= _MAX_MARKS:
            kept.append(char)
    return "".join(kept)
