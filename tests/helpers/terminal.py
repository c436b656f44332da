"""A terminal, emulated: what a person sees of what a program has written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyte


class Screen:
    """What a terminal shows, and what has scrolled off at its top.

    It fails at a control sequence that it does not know.

    Args:
        written: onto it, so far.
        columns: its width. One wider than the program believes shows what does not fit.
        lines: its height.
    """

    def __init__(self, written: str = "", *, columns: int = 400, lines: int = 24) -> None:
        self._screen = _Screen(columns, lines, history=1_000_000)
        self._screen.set_mode(pyte.modes.LNM)  # A line feed begins a line, as a terminal has it.
        self._stream = pyte.Stream(self._screen)
        self.write(written)

    def write(self, text: str) -> None:
        """Show more."""
        self._stream.feed(text)

    @property
    def has_cursor(self) -> bool:
        """Whether the cursor can be seen."""
        return not self._screen.cursor.hidden

    @property
    def text(self) -> str:
        """All lines, less the blanks at their ends."""
        lines = [*map(_text_of, self._screen.history.top), *self._screen.display]
        return "\n".join(line.rstrip() for line in lines).rstrip()


def _text_of(line: Mapping[int, pyte.screens.Char]) -> str:
    """Of a line that has scrolled off: it holds only the columns that were written to."""
    blank = pyte.screens.Char(" ")
    return "".join(line.get(n, blank).data for n in range(max(line, default=-1) + 1))


class _Screen(pyte.HistoryScreen):
    def debug(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"unknown to the terminal: {args} {kwargs}")
