"""Printing lines, on a stdout that may be a full disk or a pipe whose reader has gone.

A failed write is not a bug in hsm, and must not change the exit code of a sweep that has run.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from hsm.core.own_process import open_closed_streams
from hsm.core.printable import printable


class Stdout(io.TextIOWrapper):
    """The usual stdout, which also remembers why a write failed.

    Attributes:
        failure: the last failed write's error; None if none failed.
    """

    failure: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self.failure = error
            raise


def install() -> None:
    """Make `sys.stdout` a `Stdout`, and a stream that this process was started without /dev/null.

    Without a `sys.stderr`, `print` would print errors on stdout.
    """
    open_closed_streams()
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    old = sys.stdout
    if old is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    elif isinstance(old, io.TextIOWrapper):
        sys.stdout = sys.__stdout__ = Stdout(  # type: ignore[misc]
            old.detach(),
            encoding=old.encoding,
            errors="replace",  # a character that the encoding lacks must not abort a report
            line_buffering=old.line_buffering,
            write_through=old.write_through,
        )


def say(text: str = "", *, error: bool = False) -> None:
    """Print a line on stdout or stderr, without characters that could control the terminal.

    Commands print through this, `print_table` and `print_json` only.
    """
    print(printable(text), file=sys.stderr if error else sys.stdout)


def write_bytes(data: bytes) -> None:
    """Write raw bytes to stdout and flush. Raises OSError."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        if isinstance(sys.stdout, Stdout):
            sys.stdout.failure = error
        raise


def failure() -> OSError | None:
    """Flush stdout and return the error of this or an earlier write; None if none failed."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return error
    return _last_failure()


def _last_failure() -> OSError | None:
    return getattr(sys.stdout, "failure", None)


def give_up(error: OSError) -> None:
    """Report that stdout cannot be written, unless its reader has gone, and redirect it to nowhere.

    Without the redirect the interpreter would try to write the buffered rest at exit, complain, and
    exit with 120.
    """
    with suppress(OSError, ValueError):
        _redirect_to_nowhere(sys.stdout.fileno())
    if isinstance(sys.stdout, Stdout):
        sys.stdout.failure = None
    if error.errno != errno.EPIPE:
        with suppress(OSError):
            say(f"hsm: cannot write the output: {error.strerror or error}", error=True)


def give_up_all() -> None:
    """Redirect stdout and stderr to nowhere: the reader of one of them has gone."""
    with suppress(OSError):
        _redirect_to_nowhere(1, 2)


def _redirect_to_nowhere(*fds: int) -> None:
    null_fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    for fd in fds:
        os.dup2(null_fd, fd)
    os.close(null_fd)


@contextmanager
def best_effort() -> Iterator[None]:
    """Ignore failures to print in this block; they must not change, say, a sweep's exit code."""
    try:
        yield
    except OSError as error:
        if error is not _last_failure():  # Do not flush here: that would fail with a new error.
            raise
    unwritten = failure()
    if unwritten is not None:
        give_up(unwritten)
