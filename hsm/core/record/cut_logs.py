r"""Logs whose middle was cut out because of `log_limit`, for those who write and who read them.

    <first half> \n---- 123456 bytes were left out here (log_limit=1048576) ----\n <last half>

A log is cut by putting a new file in its place. Who follows a log has the old file open, and gets
to its end; `continue_in` then says where the same place is in the new one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

#: Bytes of the line that takes the place of what is left out, including a newline before it.
MARK_LENGTH = 96
_MARK = re.compile(rb"\n---- (\d+) bytes were left out here \(log_limit=(\d+)\) -+\n")
_MARK_START = b"\n---- "
#: How a line begins that hsm writes at the start of an attempt other than the first.
ATTEMPT_START = b"---- attempt "
_CHUNK = 1 << 20


def mark(left_out: int, limit: int) -> bytes:
    """The line for `left_out` bytes, which always has the same length."""
    text = f"\n---- {left_out} bytes were left out here (log_limit={limit}) "
    return text.ljust(MARK_LENGTH - 1, "-").encode() + b"\n"


def first_part(limit: int) -> int:
    """How many bytes of an attempt's output are kept before those that are left out."""
    return limit - limit // 2


class _Cut(NamedTuple):
    at: int  # where the mark begins
    left_out: int

    @property
    def end(self) -> int:
        return self.at + MARK_LENGTH

    @property
    def shift(self) -> int:
        """By how much what comes behind has moved to the front."""
        return self.left_out - MARK_LENGTH


def continue_in(new: int, old: int, offset: int) -> tuple[int, bytes]:
    """Where to go on reading in a log that was cut.

    Args:
        new: the log's descriptor.
        old: the descriptor of the file that it has replaced.
        offset: the place in `old`.

    Returns:
        The same place in `new` and nothing; or, if that was left out, what comes next, and a line
        that says so. If `new` is another log, its start.
    """
    cuts = list(_cuts(new))
    if not cuts:
        return 0, b""
    place, missing = offset + sum(cut.shift for cut in _cuts(old) if cut.end <= offset), b""
    for cut in cuts:
        if place > cut.at:
            place -= cut.shift
            if place < cut.end:
                missing = b"\n---- %d bytes are not shown here ----\n" % (cut.end - place)
                place = cut.end
    return place, missing


def _cuts(fd: int) -> Iterator[_Cut]:
    """The cuts in a log, as far as they stand where hsm makes them: jobs print what they like."""
    start = 0
    while len(chunk := os.pread(fd, _CHUNK + MARK_LENGTH, start)) >= MARK_LENGTH:
        at = chunk.find(_MARK_START)
        while 0 <= at < _CHUNK:
            found = _MARK.fullmatch(chunk, at, at + MARK_LENGTH)
            if found is not None and _is_genuine(fd, start + at, int(found[2])):
                yield _Cut(start + at, int(found[1]))
            at = chunk.find(_MARK_START, at + 1)
        start += _CHUNK


def _is_genuine(fd: int, at: int, limit: int) -> bool:
    begin = at - first_part(limit)
    return begin == 0 or (begin > 0 and os.pread(fd, len(ATTEMPT_START), begin) == ATTEMPT_START)
