"""The last lines of a job's log, which may have any size and content."""

from __future__ import annotations

import re
from pathlib import Path

from hsm.core.files import open_log, read_end
from hsm.core.printable import shorten
from hsm.core.record.cut_logs import ATTEMPT_START
from hsm.display.text import clean

#: Characters of a line; enough for a message, while a dump does not fill the screen.
_MAX_LINE = 500

#: The line at the start of an attempt other than the first.
_HEADER = re.compile(rb"^" + re.escape(ATTEMPT_START) + rb"\d+, [^\n]* ----(?:\n|$)", re.MULTILINE)


def last_lines(path: Path, count: int = 10, max_bytes: int = 65536) -> list[str]:
    """Return the last `count` lines of the log at `path`, safe to print (see `clean`).

    Reads at most the last `max_bytes` bytes, and only what the job's last attempt wrote. Ignores
    empty lines at the end. Returns nothing if the file cannot be read.
    """
    try:
        with open(open_log(path), "rb") as file:
            # One byte more, to know whether the first line is whole.
            data, _ = read_end(file, max_bytes + 1)
    except OSError:
        return []
    if len(data) > max_bytes:
        first, newline, rest = data.partition(b"\n")
        # If a single line fills all of it, such as a progress bar's, show the end of that line.
        data = rest if newline and rest.strip() else first[1:]
    data = _HEADER.split(data)[-1]
    text = data.decode("utf-8", "replace").rstrip()
    lines = text.split("\n")[-count:] if text else []
    return [shorten(clean(line).rstrip(), _MAX_LINE) for line in lines]
