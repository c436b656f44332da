"""The launcher's side of a keeper: starting a job there, ending it, and hearing of its end.

A keeper that must act and does not is waited for with `Patience`. It must act when it was told to
start a job, when a job that is to end has had its grace, and when a job has ended by itself. While
a job runs its keeper is only continued, should somebody have stopped it: else the end of the job
would never be told.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

from hsm.core.engine.backend import CannotStart, Launch, Started
from hsm.core.errors import HsmError
from hsm.core.local.processes.messages import Channel, End, NotStarted, Ready, Reaped
from hsm.core.local.processes.patience import LOOK_INTERVAL, Patience, continue_stopped, kill_tree
from hsm.core.local.processes.process_tree import is_over, is_zombie, stat_fields

#: Seconds between looks at the keeper of a job that runs.
_QUIET_INTERVAL = 2.0
#: Seconds beyond a grace in which a keeper tells of the end of its job.
_SLACK = 1.0
#: Looks at a keeper that runs and does nothing. Starting a job takes long where a file system does;
#: at a job's end, the job itself may be stuck in the kernel.
_LOOKS_AT_START, _LOOKS_AT_END = 120, 30
#: Seconds for the connection to end of a keeper that was killed.
_EXIT_TIMEOUT = 3.0


class SlotLost(HsmError):
    """The keeper behind a slot is gone, and its job with it."""


class ServerLost(SlotLost):
    """The fork server is gone, or does not act: it gives no slots any more."""


class KeeperStuck(SlotLost):
    """It did not act, and was killed with all that was below it."""


class Slot:
    """The launcher's connection to one keeper. Runs one job at a time.

    Args:
        channel: to the keeper. It ends when the fork server has dealt with the keeper's end.
        continue_server: should the server stand still.
    """

    def __init__(self, channel: Channel, continue_server: Callable[[], None]) -> None:
        self._channel = channel
        self._continue_server = continue_server
        self._keeper: psutil.Process | None = None
        self._new_job(0.0)

    def _new_job(self, grace: float) -> None:
        self._grace = grace
        self._job: int | None = None  # its pid
        self._has_ended = False  # by itself: seen before hsm wanted it to
        self._was_asked = False
        #: When the keeper should have told of the job's end; monotonic.
        self._due = math.inf
        self._patience: Patience | None = None  # from when it must act
        self._look_at = time.monotonic() + LOOK_INTERVAL

    def wait_for_keeper(self, look: Callable[[], bool]) -> None:
        """Wait until the server has forked the keeper.

        Args:
            look: called every second; whether to give up.

        Raises:
            ServerLost: it has not.
            SlotLost: the keeper is gone.
        """
        while not self._channel.wait(time.monotonic() + LOOK_INTERVAL):
            if look():
                raise ServerLost("the fork server does not act")
        ready = self._receive()
        assert isinstance(ready, Ready)
        try:
            self._keeper = psutil.Process(ready.pid)
        except psutil.Error as error:
            raise SlotLost("its keeper is gone") from error

    def start(self, launch: Launch) -> None:
        """Have a job started; `started` then tells its pid. Raises SlotLost."""
        self._new_job(launch.grace)
        try:
            self._channel.send(launch)
        except OSError as error:
            raise SlotLost("its keeper is gone") from error

    def started(self) -> Started:
        """What became of the job that `start` asked for.

        Raises:
            CannotStart: the job got no process; the slot is free again.
            SlotLost: its keeper is gone.
        """
        message = self._next(math.inf)
        if isinstance(message, NotStarted):
            raise CannotStart(message.reason)
        assert isinstance(message, Started)
        self._job, self._patience = message.pid, None
        self._look_at = time.monotonic() + _QUIET_INTERVAL
        return message

    def ended(self, deadline: float | None) -> Reaped | None:
        """How the job ended; None if it still runs at `deadline` (monotonic). Raises SlotLost."""
        message = self._next(math.inf if deadline is None else deadline)
        assert message is None or isinstance(message, Reaped)
        return message

    def end(self, grace: float) -> None:
        """Have the job's process tree ended, see `End`. Any thread may call this, at any time."""
        with suppress(OSError):  # Gone already: `ended` tells.
            self._channel.send(End(grace))
        self._was_asked = self._was_asked or not self._has_ended
        self._due = min(self._due, time.monotonic() + grace + _SLACK)
        if self._keeper is not None:
            continue_stopped(self._keeper)

    def end_at_once(self) -> None:
        """Kill the job, and wait until nothing of it is left."""
        self.end(0.0)
        with suppress(SlotLost):  # Its keeper is gone, and kills it on its way.
            while not isinstance(self._next(math.inf), (Reaped, NotStarted)):
                pass

    def shut(self) -> None:
        """Let the keeper go; it kills its job if it has one.

        The thread that waits for that job gets SlotLost.
        """
        self._channel.shut()

    def close(self) -> None:
        """Free what the slot holds; for the thread that uses it, or when none does."""
        self._channel.close()

    def _receive(self) -> Any:
        try:
            return self._channel.receive()
        except EOFError as error:
            raise SlotLost("its keeper is gone") from error

    def _next(self, deadline: float) -> Any:
        """The keeper's next message; None if there is none by `deadline`. Raises SlotLost."""
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
        """Take a look at the keeper: whether it must act, and has not for too long."""
        assert self._keeper is not None
        if self._job is not None:
            if not self._has_ended and not self._was_asked and is_over(self._job):
                self._has_ended = True
                # What it has left behind gets its grace, too.
                self._due = now + self._grace + _SLACK
            if now < self._due and not is_zombie(self._keeper):
                continue_stopped(self._keeper)
                return False
        if self._patience is None:
            looks = _LOOKS_AT_START if self._job is None else _LOOKS_AT_END
            self._patience = Patience(self._keeper, looks)
        return self._patience.look()

    def _give_up(self) -> Reaped:
        """Kill the keeper with all that is below it, and find out how the job has ended.

        Raises:
            KeeperStuck: nobody knows.
            SlotLost: the keeper was dead already.
        """
        assert self._keeper is not None
        seen = None if self._job is None else _seen(self._job, asked=self._was_asked)
        was_killed = is_zombie(self._keeper)
        kill_tree(self._keeper)
        self._continue_server()
        last = self._last_message()
        self.shut()  # A server that stands still holds it open.
        if isinstance(last, Reaped):  # It has acted at the last moment.
            return last
        if was_killed:
            raise SlotLost("its keeper is gone")
        if seen is None:
            did_not = "start it" if self._job is None else "tell how it ended"
            raise KeeperStuck(f"its keeper did not {did_not}, and was killed")
        return seen

    def _last_message(self) -> Any:
        """What the keeper, which was killed, told last; None if it told nothing more."""
        deadline = time.monotonic() + _EXIT_TIMEOUT
        message = None
        with suppress(SlotLost):
            while self._channel.wait(deadline):
                message = self._receive()
        return message


def _seen(pid: int, *, asked: bool) -> Reaped | None:
    """What can be said of a job whose keeper does not: the kernel tells of who is not reaped yet.

    Args:
        pid: of its process; if that still runs, it is killed next.
        asked: whether it was to end.
    """
    status, cpu_seconds = None, 0.0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        cpu_seconds = sum(process.cpu_times()[:2])
        # Of another user's (set-uid) it would tell 0.
        if is_zombie(process) and set(process.uids()) == {os.geteuid()}:
            status = int(stat_fields(pid)[-1])
    if status is None:
        return Reaped(signal.SIGKILL, True, cpu_seconds, 0) if asked else None
    return Reaped(status, asked, cpu_seconds, 0)
