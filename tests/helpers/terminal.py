"""A terminal, emulated: what a person sees of what a program has written."""

from __future__ import annotations

import codecs
import os
import pty
import select
import signal
from collections.abc import Iterator, Mapping, Sequence
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
        lines = [*map(_text_of, self._screen.history.top), *self._screen.display]
        return "\n".join(line.rstrip() for line in lines).rstrip()


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
    def has_cursor(self) -> bool:
        self._read()
        return self._screen.has_cursor

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, text: str) -> None:
        """Read on until `text` is shown."""

        def look() -> bool:
            is_open = self._read()
            assert is_open or text in self.shown, f"it ended without {text!r}:\n{self.shown}"
            return text in self.shown

        wait_for(look, f"{text!r} on the terminal")

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


def _text_of(line: Mapping[int, pyte.screens.Char]) -> str:
    """Of a line that has scrolled off: it holds only the columns that were written to."""
    blank = pyte.screens.Char(" ")
    return "".join(line.get(n, blank).data for n in range(max(line, default=-1) + 1))


class _Screen(pyte.HistoryScreen):
    def debug(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"unknown to the terminal: {args} {kwargs}")
