"""Lines for a person; and stdout, which may lead to a full disk or to a reader that has gone.

What cannot be written is no bug of hsm's, and says nothing about a sweep that has run.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from hsm.core.printable import printable


class Stdout(io.TextIOWrapper):
    """The usual stdout, which besides remembers its failure, and which characters do not stop.

    Attributes:
        failure: why something could not be written the last time; None if nothing failed.
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
    """Have `sys.stdout` be one. A process that was started without a stdout writes to nowhere."""
    old = sys.stdout
    if old is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    elif isinstance(old, io.TextIOWrapper):
        sys.stdout = sys.__stdout__ = Stdout(  # type: ignore[misc]
            old.detach(),
            encoding=old.encoding,
            errors="replace",  # a character that the encoding lacks must not end a sweep's report
            line_buffering=old.line_buffering,
            write_through=old.write_through,
        )


def say(text: str = "", *, error: bool = False) -> None:
    """Print a line for a person, on stdout or stderr, in characters that cannot steer a terminal.

    All that commands print goes through here, or through `print_table` and `print_json`.
    """
    print(printable(text), file=sys.stderr if error else sys.stdout)


def write_bytes(data: bytes) -> None:
    """Write them as they are, at once. Raises OSError."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        if isinstance(sys.stdout, Stdout):
            sys.stdout.failure = error
        raise


def failure() -> OSError | None:
    """Why stdout could not be written, now or before; None if nothing failed."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return error
    return _last_failure()


def _last_failure() -> OSError | None:
    return getattr(sys.stdout, "failure", None)


def give_up(error: OSError) -> None:
    """Say that stdout cannot be written, unless its reader has gone, and have it lead nowhere.

    Otherwise the interpreter, at its end, would try again to write what is still buffered, complain
    and exit with 120.
    """
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
    if isinstance(sys.stdout, Stdout):
        sys.stdout.failure = None
    if error.errno != errno.EPIPE:
        with suppress(OSError):
            say(f"hsm: cannot write the output: {error.strerror or error}", error=True)


@contextmanager
def best_effort() -> Iterator[None]:
    """Print what is to change nothing by failing: the exit code of a sweep that has run, say."""
    try:
        yield
    except OSError as error:
        if error is not _last_failure():  # A flush would fail anew, with another error.
            raise
    unwritten = failure()
    if unwritten is not None:
        give_up(unwritten)
