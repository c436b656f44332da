"""The end of what a job's latest attempt wrote to one of its logs."""

from __future__ import annotations

from pathlib import Path

from hsm.core.files import open_log, read_end
from hsm.core.record.cut_logs import ATTEMPT_START


def end_of_log(log: Path, most: int) -> str:
    """At most the last `most` bytes of the latest attempt's part of a log; empty if there is none.

    Bytes that are no text are replaced, and a log that cannot be read counts as empty.
    """
    try:
        with open(open_log(log), "rb") as file:
            data, _ = read_end(file, most)
    except OSError:
        return ""
    _, header, words = (b"\n" + data).rpartition(b"\n" + ATTEMPT_START)
    if header:
        _, _, words = words.partition(b"\n")
    return (words if header else data).decode("utf-8", "replace")
