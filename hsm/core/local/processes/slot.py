"""The launcher's side of a keeper: starting a job, ending it, and learning how it ended.

The launcher waits for an unresponsive keeper with `Patience`. A keeper must respond when it was
told to start a job, when the grace of a job that must end is over, and when a job has ended by
itself. While a job runs, its keeper is only continued if it was stopped; otherwise the launcher
would never learn of the job's end.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hsm.core.engine.backend import Launch, PlaceGone, Started
from hsm.core.errors import HsmError
from hsm.core.local.processes.messages import Channel, End, NotStarted, Pause, Ready, Reaped
from hsm.core.local.processes.patience import LOOK_INTERVAL, Patience, continue_stopped, kill_tree
from hsm.core.local.processes.process_tree import is_over, is_zombie, send_signal
from hsm.core.process_stat import stat_fields

if TYPE_CHECKING:
    import psutil

#: Seconds between looks at the keeper of a running job.
_QUIET_INTERVAL = 2.0
#: Seconds beyond the grace until a keeper must have reported its job's end.
_SLACK = 1.0
#: Looks at a running but unresponsive keeper. Starting a job is slow if the file system is; at a
#: job's end, the job itself may be stuck in the kernel.
_LOOKS_AT_START, _LOOKS_AT_END = 120, 30
#: Seconds to wait for the connection of a killed keeper to end.
_EXIT_TIMEOUT = 3.0


class SlotLost(HsmError):
    """The keeper behind a slot is gone, and its job with it."""


class ServerLost(SlotLost):
    """The fork server is gone or does not respond, and hands out no more slots."""


class KeeperStuck(SlotLost):
    """The keeper did not respond, and was killed with all its descendants."""


class Slot:
    """The launcher's connection to one keeper. Runs one job at a time.

    Args:
        channel: the connection to the keeper. If the keeper dies, the connection ends after the
            fork server has cleaned up.
        continue_server: continues the server in case it was stopped.
    """

    def __init__(self, channel: Channel, continue_server: Callable[[], None]) -> None:
        self._channel = channel
        self._continue_server = continue_server
        self._keeper: psutil.Process | None = None
        self._new_job(0.0)

    def _new_job(self, grace: float) -> None:
        self._grace = grace
        self._job: int | None = None  # its pid
        self._has_ended = False  # by itself, as seen by a look before `end` was called
        self._was_asked = False
        #: When the keeper must have reported the job's end (monotonic).
        self._due = math.inf
        self._patience: Patience | None = None  # set while the keeper must respond
        self._look_at = time.monotonic() + LOOK_INTERVAL

    @property
    def keeper(self) -> int | None:
        """The pid of the keeper; None until it has been forked."""
        return None if self._keeper is None else self._keeper.pid

    def wait_for_keeper(self, look: Callable[[], bool]) -> None:
        """Wait until the server has forked the keeper.

        Args:
            look: called every second; returns whether to give up.

        Raises:
            ServerLost: the server has not forked it.
            CannotStart: the server could not fork it.
            SlotLost: the keeper is gone.
        """
        while not self._channel.wait(time.monotonic() + LOOK_INTERVAL):
            if look():
                raise ServerLost("the fork server does not respond")
        ready = self._receive()
        if isinstance(ready, NotStarted):
            raise ready.error
        assert isinstance(ready, Ready)
        import psutil

        try:
            self._keeper = psutil.Process(ready.pid)
        except psutil.Error as error:
            raise SlotLost("its keeper is gone") from error

    def start(self, launch: Launch) -> None:
        """Tell the keeper to start a job; `started` waits for its pid. Raises PlaceGone."""
        self._new_job(launch.grace)
        try:
            # No process asks which GPUs it was granted: their variables are in the environment.
            self._channel.send(launch if launch.grant is None else launch._replace(grant=None))
        except OSError as error:
            raise PlaceGone("its keeper is gone") from error

    def started(self) -> Started:
        """Wait until the job that `start` asked for is running.

        Raises:
            CannotStart: the job could not be started; the slot is free again.
            PlaceGone: its keeper is gone, and has not started it.
            SlotLost: its keeper is gone, and may have started it.
        """
        try:
            message = self._next(math.inf)
        except KeeperStuck:
            raise
        except SlotLost as error:
            if self._channel.has_unread:  # it never saw that it was told to
                raise PlaceGone(str(error)) from error
            raise
        if isinstance(message, NotStarted):
            raise message.error
        assert isinstance(message, Started)
        self._job, self._patience = message.pid, None
        self._look_at = time.monotonic() + _QUIET_INTERVAL
        return message

    def ended(self, deadline: float | None) -> Reaped | None:
        """Wait for the job's end; None if it is still running at `deadline` (monotonic).

        Raises:
            SlotLost: its keeper is gone.
        """
        message = self._next(math.inf if deadline is None else deadline)
        assert message is None or isinstance(message, Reaped)
        return message

    def end(self, grace: float) -> None:
        """End the job's process tree, see `End`. Any thread may call this at any time."""
        with suppress(OSError):  # the keeper is gone, which `ended` reports
            self._channel.send(End(grace))
        self._was_asked = self._was_asked or not self._has_ended
        self._due = min(self._due, time.monotonic() + grace + _SLACK)
        if self._keeper is not None:
            continue_stopped(self._keeper)

    def pause(self, *, is_on: bool) -> None:
        """Pause the job or let it go on, see `Pause`. Any thread may call this at any time."""
        with suppress(OSError):  # the keeper is gone, which `ended` reports
            self._channel.send(Pause(is_on))

    def end_at_once(self) -> None:
        """Kill the job and wait until nothing of it is left."""
        self.end(0.0)
        with suppress(SlotLost):  # the keeper is gone, and so is its job
            while not isinstance(self._next(math.inf), (Reaped, NotStarted)):
                pass

    def shut(self) -> None:
        """Dismiss the keeper, which kills its job if it has one.

        The thread that waits for that job gets SlotLost.
        """
        self._channel.shut()
        self._continue_keeper()

    def close(self) -> None:
        """Close the connection. Call this in the thread that uses the slot, or when none does."""
        self._channel.close()
        self._continue_keeper()

    def _continue_keeper(self) -> None:
        """Let a keeper that was stopped see that it has been dismissed."""
        if self._keeper is not None:
            send_signal([self._keeper], signal.SIGCONT)

    def _receive(self) -> Any:
        try:
            return self._channel.receive()
        except EOFError as error:
            raise SlotLost("its keeper is gone") from error

    def _next(self, deadline: float) -> Any:
        """Wait for the keeper's next message; None if none comes by `deadline`. Raises SlotLost."""
        while not self._channel.wait(min(deadline, self._look_at)):
            now = time.monotonic()
            if now >= self._look_at:
                if self._is_stuck(now):
                    return self._give_up()
                interval = _QUIET_INTERVAL if self._patience is None else LOOK_INTERVAL
                self._look_at = now + interval
            if now >= deadline:
                return None
        return self._receive()

    def _is_stuck(self, now: float) -> bool:
        """Look at the keeper; return whether it has been unresponsive for too long."""
        assert self._keeper is not None
        if self._job is not None:
            if not self._has_ended and not self._was_asked and is_over(self._job):
                self._has_ended = True
                # Processes that it left behind get the grace, too.
                self._due = now + self._grace + _SLACK
            if now < self._due and not is_zombie(self._keeper):
                continue_stopped(self._keeper)
                return False
        if self._patience is None:
            looks = _LOOKS_AT_START if self._job is None else _LOOKS_AT_END
            self._patience = Patience(self._keeper, looks)
        return self._patience.look()

    def _give_up(self) -> Reaped:
        """Kill the keeper with all its descendants, and find out how the job ended.

        Raises:
            KeeperStuck: it is unknown how the job ended.
            SlotLost: the keeper was already dead.
        """
        assert self._keeper is not None
        seen = None if self._job is None else _observed(self._job, asked=self._was_asked)
        was_killed = is_zombie(self._keeper)
        kill_tree(self._keeper)
        self._continue_server()
        last = self._last_message()
        self.shut()  # a stopped server would keep the connection open
        if isinstance(last, Reaped):  # the keeper responded at the last moment
            return last
        if was_killed:
            raise SlotLost("its keeper is gone")
        if seen is None:
            omission = "start it" if self._job is None else "report how it ended"
            raise KeeperStuck(f"its keeper did not {omission}, and was killed")
        return seen

    def _last_message(self) -> Any:
        """Return the killed keeper's last message; None if there is none."""
        deadline = time.monotonic() + _EXIT_TIMEOUT
        message = None
        with suppress(SlotLost):
            while self._channel.wait(deadline):
                message = self._receive()
        return message


def _observed(pid: int, *, asked: bool) -> Reaped | None:
    """Ask the kernel how a job ended whose keeper does not report it, and has not reaped it.

    Args:
        pid: the job's process; if it is still running, the caller kills it next.
        asked: whether the job was told to end.

    Returns:
        None if the process is still running and was not told to end.
    """
    import psutil

    status, cpu_seconds = None, 0.0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        cpu_seconds = sum(process.cpu_times()[:2])
        # For another user's process (set-uid) the kernel would report 0.
        if is_zombie(process) and set(process.uids()) == {os.geteuid()}:
            status = int(stat_fields(pid)[-1])
    if status is None:
        return Reaped(signal.SIGKILL, True, cpu_seconds, 0) if asked else None
    return Reaped(status, asked, cpu_seconds, 0)
