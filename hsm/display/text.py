"""Text for the screen: lines that jobs print as a terminal leaves them; times and sizes, short."""

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
