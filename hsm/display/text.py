"""Text for the screen: lines that jobs print as a terminal leaves them."""

from __future__ import annotations

from hsm.core.printable import printable, without_sequences


def clean(line: str) -> str:
    """A line that a job printed as a terminal would have left it, which it cannot steer.

    Escape sequences go, colours too; of what carriage returns redrew, the last state stays; a tab
    becomes spaces; for the rest see `printable`.
    """
    if not line.isprintable():
        line = last_redraw(without_sequences(line)).expandtabs(8)
    return printable(line)


def last_redraw(line: str) -> str:
    r"""What stands last on a line that carriage returns redrew: ``10%\r20%\r`` -> ``20%``."""
    if "\r" not in line:
        return line
    return line.rstrip("\r").rpartition("\r")[2]


def shorten(text: str, length: int) -> str:
    """`text` in at most `length` characters, with an ellipsis where some are left out."""
    return text if len(text) <= length else text[: length - 1] + "…"
