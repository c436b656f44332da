"""Text for the screen: what others wrote made harmless, times and sizes made short."""

from __future__ import annotations

import re

# What a program writes to steer a terminal: CSI sequences (colours, cursor), strings (OSC, DCS, …)
# and short escapes.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]"
)
# Besides controls: line separators, marks that turn the direction of writing, and lone surrogates.
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def clean(line: str) -> str:
    """`line` as a terminal would have left it, in characters that cannot steer one.

    Escape sequences go; of what a carriage return redrew, the last state stays; a tab becomes
    spaces, and any other control character its picture (a bell: ``␇``).
    """
    if line.isprintable():
        return line
    line = last_redraw(_ESCAPES.sub("", line)).expandtabs(8)
    return _UNPRINTABLE.sub(_picture, line)


def last_redraw(line: str) -> str:
    r"""What stands last on a line that carriage returns redrew: ``10%\r20%\r`` -> ``20%``."""
    if "\r" not in line:
        return line
    return line.rstrip("\r").rpartition("\r")[2]


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else "\ufffd"


def shorten(text: str, length: int) -> str:
    """`text` in at most `length` characters, with an ellipsis where some are left out."""
    return text if len(text) <= length else text[: length - 1] + "…"


def clock(seconds: float) -> str:
    """A running time as a clock shows it: ``0:07``, ``12:34``, ``1:02:03``, ``3d 04:05:06``."""
    minutes, second = divmod(max(0, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d {hours % 24:02}:{minute:02}:{second:02}"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def span(seconds: float) -> str:
    """A time that is over: ``0.42 s``, ``7.3 s``, ``42 s``, then as `clock` shows it."""
    if seconds < 0.995:
        return f"{max(0.0, seconds):.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 59.5 else clock(seconds + 0.5)


def memory(size: int) -> str:
    """A number of bytes: ``512 B``, ``34 MiB``, ``1.2 GiB``."""
    if size < 1024:
        return f"{size} B"
    amount = size / 1024
    units = iter(("KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while amount >= 1023.5 and (larger := next(units, "")):
        amount, unit = amount / 1024, larger
    return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
