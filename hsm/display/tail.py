"""The last lines of a job's log, which may be of any size and hold anything."""

from __future__ import annotations

from pathlib import Path

from hsm.core.files import open_log, read_end
from hsm.display.text import clean, shorten

_MAX_LINE = 500
"""Characters of a line that are shown: a message fits, and a dump does not fill the screen."""


def last_lines(path: Path, count: int = 10, max_bytes: int = 65536) -> list[str]:
    """The last `count` lines of the log at `path`, fit to be printed (see `clean`).

    At most the last `max_bytes` bytes are read. Empty lines at the end do not count. A file that
    cannot be read has no lines.
    """
    try:
        with open(open_log(path), "rb") as file:
            # One byte more than is shown tells whether the first line is whole.
            data, _ = read_end(file, max_bytes + 1)
    except OSError:
        return []
    if len(data) > max_bytes:
        first, newline, rest = data.partition(b"\n")
        # A single line that fills all of it, such as a progress bar's, is better shown in part than
        # not at all.
        data = rest if newline and rest.strip() else first[1:]
    text = data.decode("utf-8", "replace").rstrip()
    lines = text.split("\n")[-count:] if text else []
    return [shorten(clean(line).rstrip(), _MAX_LINE) for line in lines]
