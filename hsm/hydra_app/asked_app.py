"""Asking a Hydra app for its config, in a process that runs it as far as its `main` function."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from tempfile import TemporaryFile
from typing import IO, Any

from hsm.core.errors import HsmError
from hsm.hydra_app import app_config

#: Seconds that an app may take until it shows its config.
TIMEOUT = 60.0
#: Seconds of waiting at once: a Ctrl-C just before such a wait is heard only after it.
_LOOK_INTERVAL = 0.2
#: Bytes of an answer, of the last that the app has printed, and of one reading.
_MAX_ANSWER, _MAX_OUTPUT, _CHUNK = 64 << 20, 1 << 16, 1 << 16


class CannotAsk(HsmError):
    """An app does not show its config; says why, in words that follow the name of the script."""


def ask(
    words: Sequence[str], points: Sequence[app_config.Point], *, tries_groups: bool = False
) -> dict[str, Any]:
    """Ask an app what its config has, as `app_config.look` returns it.

    The app's process has no terminal, sees no signal of this one's, and leaves nothing behind.

    Args:
        words: what runs the app: an interpreter with its options, and the script.
        points: some points of a sweep.
        tries_groups: see `app_config.look`.

    Raises:
        CannotAsk: the app fails before its main function, never calls it, or takes too long.
    """
    if len(words) < 2:
        raise CannotAsk("is run by its own first line")
    question = json.dumps({"points": points, "tries_groups": tries_groups}).encode()
    with TemporaryFile() as stdin, TemporaryFile() as output:
        stdin.write(question)
        stdin.seek(0)
        answer = _run(words, stdin, output)
        if answer:
            with suppress(ValueError):
                found: dict[str, Any] = json.loads(answer)
                return found
        output.seek(max(0, output.seek(0, os.SEEK_END) - _MAX_OUTPUT))
        lines = output.read().decode(errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "it does not call it")
    raise CannotAsk(f"fails before its main function: {last.strip()}")


def _run(words: Sequence[str], stdin: IO[bytes], output: IO[bytes]) -> bytes:
    """Run the app until it has answered; return its answer, empty if it gave none.

    Raises:
        CannotAsk: it cannot be run, or takes too long.
    """
    ours, theirs = os.pipe()
    command = [*words[:-1], app_config.__file__, str(theirs), words[-1]]
    with open(ours, "rb", buffering=0) as pipe:
        try:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=output,
                stderr=output,
                pass_fds=(theirs,),
                start_new_session=True,  # a group, to end it with all that it has started
            )
        except OSError as error:
            raise CannotAsk(f"cannot be run: {error.strerror}") from error
        finally:
            os.close(theirs)
        try:
            return _read(pipe)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # It is not reaped yet: the number is its own.
            process.wait()


def _read(pipe: IO[bytes]) -> bytes:
    """Read all of an answer. Raises CannotAsk if that takes too long."""
    answer, deadline = bytearray(), time.monotonic() + TIMEOUT
    while True:
        left = max(0.0, deadline - time.monotonic())
        if not select.select([pipe], [], [], min(left, _LOOK_INTERVAL))[0]:
            if left:
                continue
            raise CannotAsk(f"has not come to its main function in {TIMEOUT:.0f} s")
        chunk = pipe.read(_CHUNK)
        if not chunk or len(answer) > _MAX_ANSWER:
            return bytes(answer)
        answer += chunk
