"""Cuts the output of a job into lines, however it arrives and whatever it redraws."""

from __future__ import annotations

import codecs

MAX_LINE = 64 * 1024
"""Longest line kept in memory, in bytes; longer lines are split into pieces of this size."""


class LineSplitter:
    r"""Turns the bytes of one stream, in chunks of any size, into lines of text.

    A line ends at ``\n``; a ``\r`` just before that is dropped. Any other ``\r`` restarts the line,
    as progress bars do: only the last non-empty state of such a line counts. Invalid UTF-8 becomes
    U+FFFD; terminal control sequences stay. A line of more than `longest` bytes is split into
    pieces of at most that size, so at most a piece and a chunk are held in memory. The lines do not
    depend on where the stream was cut into chunks.

    Args:
        longest: bytes; at least 4.
    """

    def __init__(self, longest: int = MAX_LINE) -> None:
        self._longest = longest
        self._rest = b""  # the unfinished line, including a trailing \r
        self._is_redrawn = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        *ended, rest = (self._rest + data).split(b"\n")
        lines: list[str] = []
        for line in ended:
            pieces, last = self._split_redraws(line)
            lines += pieces
            lines.append(_decode(last.removesuffix(b"\r")))
        pieces, self._rest = self._split_redraws(rest)
        lines += pieces
        self._is_redrawn = b"\r" in rest or (self._is_redrawn and not ended)
        return lines

    @property
    def is_redrawn(self) -> bool:
        r"""Whether a ``\r`` has come since the last newline."""
        return self._is_redrawn

    def redraw(self) -> str:
        """The current state of the unfinished line."""
        return codecs.utf_8_decode(self._rest.removesuffix(b"\r"), "replace", False)[0]

    def close(self) -> list[str]:
        """End the stream; returns the last line if it had no newline."""
        rest, self._rest, self._is_redrawn = self._rest.removesuffix(b"\r"), b"", False
        return [_decode(rest)] if rest else []

    def _split_redraws(self, line: bytes) -> tuple[list[str], bytes]:
        """The full pieces of `line`, and the line's state after them."""
        if len(line) <= self._longest and b"\r" not in line:
            return [], line
        pieces: list[str] = []
        last = b""
        for redraw in line.split(b"\r"):
            start = 0
            while len(redraw) - start > self._longest:
                end = _character_boundary(redraw, start + self._longest)
                pieces.append(_decode(redraw[start:end]))
                start = end
            last = redraw[start:] or last
        return pieces, last + b"\r" if line.endswith(b"\r") else last


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _character_boundary(data: bytes, end: int) -> int:
    """Where to cut `data` without splitting a character: at `end` or up to three bytes before."""
    return next((at for at in range(end, end - 4, -1) if data[at] & 0xC0 != 0x80), end)
