"""The launcher's side of a fork server: starting it, and the slots through which jobs are run.

There are two ways to start one:

    ForkServer.start_carrying(function)   forked from this process; jobs call the function
    ForkServer.start_clean()              a fresh interpreter; jobs exec
         |
         `-- slot() --> Slot: one keeper, one job at a time
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import hsm
from hsm.core.errors import HsmError
from hsm.core.local.isolation import LaunchState
from hsm.core.local.server import serve
from hsm.core.local.wire import Channel, End, Ended, NotStarted, Start, Started, private_pair

#: Seconds that the server gets to end once its control socket is closed; it needs milliseconds.
_EXIT_PATIENCE = 15.0


class SlotLost(HsmError):
    """The keeper behind a slot is gone, and its job with it."""


class CannotStart(HsmError):
    """A job got no process."""


class Slot:
    """The launcher's connection to one keeper. Runs one job at a time."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def start(self, start: Start) -> None:
        """Have a job started; `started` then tells its pid. Raises SlotLost."""
        try:
            self._channel.send(start)
        except OSError as error:
            raise SlotLost("its keeper is gone") from error

    def started(self) -> Started:
        """What became of the job that `start` asked for.

        Raises:
            CannotStart: the job got no process; the slot is free again.
            SlotLost: its keeper is gone.
        """
        message = self.message()
        if isinstance(message, NotStarted):
            raise CannotStart(message.reason)
        assert isinstance(message, Started)
        return message

    def ended(self, deadline: float | None) -> Ended | None:
        """How the job ended; None if it still runs at `deadline` (monotonic). Raises SlotLost."""
        if not self._channel.wait(deadline):
            return None
        message = self.message()
        assert isinstance(message, Ended)
        return message

    def end(self, grace: float) -> None:
        """Have the job's process tree ended, see `End`. Any thread may call this, at any time."""
        with suppress(OSError):  # Gone already: `ended` tells.
            self._channel.send(End(grace))

    def shut(self) -> None:
        """Let the keeper go; it kills its job if it has one.

        The thread that waits for that job gets SlotLost.
        """
        self._channel.shut()

    def close(self) -> None:
        """Free what the slot holds; for the thread that uses it, or when none does."""
        self._channel.close()

    def message(self) -> Any:
        """The keeper's next message, whichever it is. Raises SlotLost."""
        try:
            return self._channel.receive()
        except EOFError as error:
            raise SlotLost("its keeper is gone") from error


class ForkServer:
    """A running fork server. Thread-safe. `close` it, or it ends with this process."""

    def __init__(
        self, pid: int, control: socket.socket, process: subprocess.Popen[bytes] | None
    ) -> None:
        self._pid = pid
        self._control = control
        self._process = process
        self._mutex = threading.Lock()
        self._idle: list[Slot] = []
        self._slots: set[Slot] = set()
        self._reaped = False

    @classmethod
    def start_carrying(
        cls, function: Callable[[Any], Any], scratch: Path | None, *, exit_hooks: bool = False
    ) -> ForkServer:
        """Fork a server from this process: its jobs call `function`, with all loaded as it is now.

        Args:
            scratch: a directory that the server removes at its end.
            exit_hooks: whether each job runs the exit hooks that this process has registered.
        """
        ours, theirs = private_pair()
        launcher = os.getpid()
        state = LaunchState.take_for_forks(exit_hooks)
        # The launcher's handlers must not run in the child, until it has dropped them.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            with warnings.catch_warnings():
                # Python 3.12 warns of a fork beside threads; the caller has decided to fork.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                serve(theirs, launcher, state, function, str(scratch) if scratch else None)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        return cls(pid, ours, None)

    @classmethod
    def start_clean(cls, scratch: Path | None) -> ForkServer:
        """Start a server that is a small interpreter of its own: its jobs are commands."""
        ours, theirs = private_pair()
        # Isolated (-I): nothing in the working directory or PYTHONPATH may shadow the standard
        # library. What this process can import is appended, so that the server finds the same hsm.
        where = [str(Path(hsm.__file__).parent.parent), *sys.path]
        program = (
            f"import sys; sys.path += {where!r}; from hsm.core.local.server import main; main()"
        )
        arguments = [str(theirs.fileno()), str(os.getpid()), *([str(scratch)] if scratch else [])]
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", program, *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        return cls(process.pid, ours, process)

    def slot(self) -> Slot:
        """A slot with no job: one that was given back, or a new one.

        Raises:
            SlotLost: the server is gone.
        """
        if not self.is_alive():
            raise SlotLost("the fork server is gone")
        with self._mutex:
            if self._idle:
                return self._idle.pop()
            ours, theirs = private_pair()
            try:
                socket.send_fds(self._control, [b"k"], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise SlotLost("the fork server is gone") from error
            finally:
                theirs.close()
            slot = Slot(Channel(ours))
            self._slots.add(slot)
            return slot

    def give_back(self, slot: Slot) -> None:
        """`slot` has no job any more and may be used again."""
        with self._mutex:
            self._idle.append(slot)

    def drop(self, slot: Slot) -> None:
        """`slot` is lost."""
        with self._mutex:
            self._slots.discard(slot)
        slot.close()

    def is_alive(self) -> bool:
        """Whether the server's process still runs."""
        return not self._wait(os.WNOHANG)

    def close(self) -> None:
        """End the server, its keepers and whatever jobs they have. Idempotent.

        Returns when the server's process is gone.
        """
        with self._mutex:
            slots, self._slots = self._slots, set()
            idle, self._idle = self._idle, []
        for slot in slots:
            slot.shut()
        for slot in idle:
            slot.close()
        if self._control.fileno() < 0:
            return
        with suppress(OSError):
            # The server sees the end of the connection, and then we see that of the server.
            self._control.shutdown(socket.SHUT_WR)
        ended = Channel(self._control).wait(time.monotonic() + _EXIT_PATIENCE)
        self._control.close()
        if ended:
            self._wait(0)

    def _wait(self, options: int) -> bool:
        """Reap the server's process if it has ended; whether it has."""
        with self._mutex:
            if not self._reaped:
                if self._process is not None:
                    timeout = 0 if options else None
                    with suppress(subprocess.TimeoutExpired):
                        self._reaped = self._process.wait(timeout) is not None
                else:
                    try:
                        self._reaped = os.waitpid(self._pid, options)[0] != 0
                    except ChildProcessError:
                        self._reaped = True  # Somebody's os.wait() was first.
            return self._reaped
