"""A terminal, emulated: what a person sees of what a program has written."""

from __future__ import annotations

import codecs
import os
import pty
import select
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyte

from helpers.processes import child_environment, wait_for


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
        lines = ["".join(cell.data for cell in line).rstrip() for line in self.lines]
        return "\n".join(lines).rstrip()

    @property
    def lines(self) -> list[list[pyte.screens.Char]]:
        """The cells of each line, with their colours; a dim one is said to blink."""
        buffer = self._screen.buffer
        return [
            *map(_cells, self._screen.history.top),
            *(
                [buffer[y][x] for x in range(self._screen.columns)]
                for y in range(self._screen.lines)
            ),
        ]


class Terminal:
    """A process that leads a session on a terminal of its own.

    Attributes:
        pid: the process's.
    """

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self._fd = fd
        self._screen = Screen(lines=30)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def shown(self) -> str:
        """What is to be seen, and what has scrolled off."""
        return self._screen.text

    @property
    def lines(self) -> list[list[pyte.screens.Char]]:
        """The same as cells, with their colours."""
        return self._screen.lines

    @property
    def has_cursor(self) -> bool:
        self._read()
        return self._screen.has_cursor

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, text: str) -> None:
        """Read on until `text` is shown."""
        self.wait_until(lambda shown: text in shown, repr(text))

    def wait_until(self, is_there: Callable[[str], bool], what: str) -> None:
        """Read on until what is shown has what `is_there` looks for."""

        def look() -> bool:
            is_open = self._read()
            found = is_there(self.shown)
            assert is_open or found, f"it ended without {what}:\n{self.shown}"
            return found

        wait_for(look, f"{what} on the terminal")

    def wait(self) -> int:
        """Read to its end; returns its exit code."""
        wait_for(lambda: not self._read(), "the end of the process on the terminal")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> bool:
        """Show what is there; False once the process has closed its terminal."""
        while select.select([self._fd], [], [], 0)[0]:
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # EIO: nobody has it open any more
                return False
            if not data:
                return False
            self._screen.write(self._decoder.decode(data))
        return True


@contextmanager
def on_terminal(command: Sequence[str], folder: Path, columns: int = 100) -> Iterator[Terminal]:
    """Run a command in `folder` on a terminal of its own; it is killed after the `with`."""
    size = {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "30"}
    env = child_environment(**size)
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(command[0], list(command), env)
    terminal = Terminal(pid, fd)
    try:
        yield terminal
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        os.close(fd)


def _cells(line: Mapping[int, pyte.screens.Char]) -> list[pyte.screens.Char]:
    """Of a line that has scrolled off: it holds only the columns that were written to."""
    blank = pyte.screens.Char(" ")
    return [line.get(n, blank) for n in range(max(line, default=-1) + 1)]


class _Screen(pyte.HistoryScreen):
    def debug(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"unknown to the terminal: {args} {kwargs}")

    def select_graphic_rendition(self, *attrs: int, **kwargs: Any) -> None:
        # pyte knows no dim text; nothing here blinks. (A 2 is always "dim": only terminals of more
        # than 16 colours have it in other places.)
        super().select_graphic_rendition(*(5 if n == 2 else n for n in attrs), **kwargs)
