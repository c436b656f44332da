r"""Text that others wrote, made harmless for a terminal.

Labels, values, ids, paths, messages of errors, lines that jobs print: whoever wrote them may have
put into them what moves a cursor, sets a title, hides a line or turns the direction of writing. All
that hsm prints goes through here, but for `hsm logs`, which gives a job's bytes as they are.

    "\x1b[31mred\x1b[0m"   red                   what only gives a colour goes
    "\x1b[2Ja\x07\u202eb"  \x1b[2Ja\x07\u202eb    what else does not print becomes Python's escape

Of a line that a job printed all goes that steers a terminal, as it was meant for one: see
`without_sequences`.
"""

from __future__ import annotations

import json
import re
import unicodedata

# What a program writes to steer a terminal: CSI sequences (colours, cursor), strings that are ended
# (OSC, DCS, …; of one that is not, the beginning alone goes) and short escapes. No part of them can
# begin another, so that what is made of beginnings alone is looked through once.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
_COLOURS = re.compile(r"(?:\x1b\[|\x9b)[0-9:;]*m")
#: Marks upon one letter; more of them would be drawn over the lines above and below.
_MAX_MARKS = 8
#: A run that may be one of marks. They are no part of words for `re`, as few other things are.
_MARKS = re.compile(rf"[^\w\s\x00-\x7f]{{{_MAX_MARKS + 1},}}")


def printable(text: str) -> str:
    """`text` in one line of characters that print (`str.isprintable`); see the module."""
    if not text.isprintable():
        text = "".join(map(_visible, _COLOURS.sub("", text)))
    return text if text.isascii() else _MARKS.sub(_few_marks, text)


def printable_lines(text: str) -> str:
    r"""The same, of a text that may have lines: each ``\n`` stays."""
    return "\n".join(map(printable, text.split("\n")))


def without_sequences(text: str) -> str:
    """`text` without the sequences that steer a terminal; single controls are left in it."""
    return _SEQUENCES.sub("", text)


def printable_json(text: str) -> str:
    """The same JSON, in which what does not print is escaped as JSON has it: no value changes."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(map(_in_json, text))


def _in_json(char: str) -> str:
    # Lines of the document; in a string JSON has escaped them.
    return char if char == "\n" or char.isprintable() else json.dumps(char)[1:-1]


def _visible(char: str) -> str:
    if char.isprintable():
        return char
    if unicodedata.category(char) == "Zs":
        return " "  # a space that keeps words together, or has a width of its own
    return char.encode("unicode_escape").decode()


def _few_marks(run: re.Match[str]) -> str:
    kept, marks = [], 0
    for char in run[0]:
        marks = marks + 1 if unicodedata.category(char)[0] == "M" else 0
        if marks <= _MAX_MARKS:
            kept.append(char)
    return "".join(kept)
