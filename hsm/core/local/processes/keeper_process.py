"""A keeper: the process that starts the jobs of one slot, and ends them with all their processes.

    launcher's slot <--channel--> keeper --fork--> job's process --> its children, daemons …
                                    ^
    fork server --fork--------------'

The keeper is the subreaper of its descendants: a grandchild that daemonizes becomes the keeper's
child. So a job's tree is exactly what is below its keeper, and a job has ended when the keeper has
no child left. The keeper runs no user code and has one thread. It exits when its launcher closes
the channel or the fork server dies, and kills everything below it first. If the keeper itself is
killed, the kernel kills a job that is a forked function (parent-death signal), and the fork server
kills the rest.

The keeper leads a session, and the job only a process group in it. So a job that opens a terminal
does not get it as its controlling terminal, and may make a process group of its own.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from hsm.core.engine.backend import CannotStart, Launch, PlaceGone, Started
from hsm.core.engine.obstacles import Obstacles
from hsm.core.local.processes.command_process import CommandStarter
from hsm.core.local.processes.job_logs import JobLogs
from hsm.core.local.processes.messages import Channel, End, NotStarted, Pause, Ready, Reaped
from hsm.core.local.processes.note import Note
from hsm.core.local.processes.process_tree import (
    KEEPER_NAME,
    KILL_INTERVAL,
    become_subreaper,
    descendants,
    die_with_parent,
    is_stopped,
    send_signal,
    wake_pipe,
)
from hsm.core.own_process import LINUX, set_process_name
from hsm.core.process_stat import is_exiting, stat_fields

if TYPE_CHECKING:
    import psutil

#: The kernel sends this to a keeper when the fork server dies. At other times it is harmless, and
#: it wakes a keeper that was stopped.
_SERVER_DIED = signal.SIGCONT
#: Seconds that a stopped server has to end after its launcher has died.
_SERVERS_GRACE = 3.0
#: Seconds until a process that does not stop, as it is in the kernel, is left to stop later.
_LONGEST_STOP = 1.0
#: Bytes of a job's report that goes through its keeper.
_MAX_REPORT = 1 << 16
#: getrusage(2): kilobytes on Linux, bytes on macOS.
_MAXRSS_UNIT = 1024 if LINUX else 1


class Keeper:
    """See the module's docstring.

    Args:
        channel: the connection to the launcher's slot.
        server: the fork server's pid.
        launcher: the launcher's pid.
        logs: the logs of this keeper's jobs.
        become_job: called in a forked child with the `Launch` and the note for the job's report;
            never returns.
    """

    def __init__(
        self,
        channel: Channel,
        server: int,
        launcher: int,
        logs: JobLogs,
        become_job: Callable[[Launch, Note], NoReturn],
    ) -> None:
        self._channel = channel
        self._server = server
        self._launcher = launcher
        self._logs = logs
        self._become_job = become_job
        self._commands = CommandStarter(*logs.write_ends)
        self._report = Note(_MAX_REPORT)
        self._doomed = False

    def get_ready(self) -> None:
        """Prepare this process, and tell the launcher. Raises OSError."""
        os.setsid()
        set_process_name(KEEPER_NAME.encode())
        become_subreaper()
        self._listen_for_signals()
        die_with_parent(_SERVER_DIED, self._server)
        self._send(Ready(os.getpid()))

    def run(self) -> None:
        """Serve until the launcher closes the channel or the fork server dies."""
        while not self._doomed:
            message = self._next_message(None)
            if isinstance(message, Launch):
                self._take_job(message)
        self._make_server_end()

    def _make_server_end(self) -> None:
        """If the launcher has died, make sure that the fork server ends, too.

        The job may have stopped the server, so it is continued. A server that remains stopped,
        because it is being traced, say, is killed.
        """
        deadline = time.monotonic() + _SERVERS_GRACE
        while os.getppid() == self._server:
            os.kill(self._server, signal.SIGCONT)
            state, parent, *_ = stat_fields(self._server) or ("", self._launcher)
            if state not in ("T", "t"):
                return
            if int(parent) == self._launcher and not is_exiting(self._launcher):
                return
            if time.monotonic() > deadline:
                os.kill(self._server, signal.SIGKILL)
                return
            time.sleep(KILL_INTERVAL)

    def _listen_for_signals(self) -> None:
        """Make SIGCHLD and the fork server's death interrupt the wait for messages."""
        self._wake, write_end = wake_pipe()
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for signum in (signal.SIGCHLD, _SERVER_DIED):
            signal.signal(signum, lambda *_: None)
        self._private = (self._wake, write_end)
        self._poll, self._poll_all = select.poll(), select.poll()
        for poll in (self._poll, self._poll_all):
            poll.register(self._channel, select.POLLIN)
            poll.register(self._wake, select.POLLIN)
        for fd in self._logs.read_ends:
            self._poll_all.register(fd, select.POLLIN)

    def _next_message(self, deadline: float | None) -> object:
        """Wait for a message; None if a signal, output or the deadline (monotonic) comes first.

        Ignores output, however much there is, until the logs' next look is due.
        """
        if self._channel.has_message:
            return self._channel.receive()
        look, now = self._logs.next_look, time.monotonic()
        poll = self._poll if look is None or now < look else self._poll_all
        if look is not None and now < look:
            deadline = look if deadline is None else min(deadline, look)
        left = None if deadline is None else max(0.0, deadline - now) * 1000
        ready = dict(poll.poll(left))
        if self._wake in ready:
            os.read(self._wake, 512)
            if os.getppid() != self._server:
                self._doomed = True
        if poll is self._poll_all and not ready.keys().isdisjoint(self._logs.read_ends):
            self._logs.look(ready)
        if self._channel.fileno() in ready:
            try:
                return self._channel.receive()
            except EOFError:
                self._doomed = True
        return None

    def _take_job(self, launch: Launch) -> None:
        """Run the job, unless the fork server has died: its keepers start nothing any more."""
        if os.getppid() == self._server:
            self._run_job(launch)
        else:
            self._doomed = True
            self._send(NotStarted(PlaceGone("the fork server is gone")))

    def _run_job(self, launch: Launch) -> None:
        logs, folder = os.path.dirname(launch.stdout), launch.folder
        try:
            if folder is not None:
                with Obstacles(f"make {folder.path}", folder.root):
                    folder.make()
            with Obstacles(f"write logs in {logs}", logs):
                log_sizes = self._logs.begin(launch)
            pid, inherited = self._start_job(launch)
        except CannotStart as error:
            self._logs.close_files()
            self._send(NotStarted(error))
            return
        self._send(Started(pid, log_sizes))
        tree = _JobTree(pid, launch.grace, inherited)
        tree.watch(self)
        lost = self._logs.finish(patiently=not self._doomed)
        has_links = folder is not None and folder.names is not None
        if folder is not None:
            folder.link_logs()
        if not self._doomed:  # a doomed keeper killed the job, and its launcher is gone
            self._send(tree.ended(lost, self._report.read(), has_links=has_links))

    def _start_job(self, launch: Launch) -> tuple[int, int]:
        """Start the job's process; return its pid, and the peak of memory that it begins with.

        Raises:
            CannotStart: it cannot be started.
        """
        self._report.clear()
        with Obstacles(f"enter {launch.cwd}"):
            os.chdir(launch.cwd)
        if launch.cpus:
            # This process's own: whatever it starts inherits them.
            with suppress(OSError):  # All of them were taken from this process meanwhile.
                os.sched_setaffinity(0, launch.cpus)
        with Obstacles("start a process"):
            if launch.command is not None:
                # If the keeper is killed, the fork server kills such a job.
                pid = self._commands.start(launch.command, launch.env, launch.cwd)
                if pid is not None:
                    return pid, 0
            # A command that cannot be executed: the child says so in the job's log.
            inherited = _peak_memory(resource.getrusage(resource.RUSAGE_SELF))
            pid = os.fork()
            if pid == 0:
                self._in_child(launch)
            # A program has memory of its own, however little of it.
            return pid, inherited if launch.command is None else 0

    def _in_child(self, launch: Launch) -> NoReturn:
        signal.set_wakeup_fd(-1)
        self._channel.forget()
        for fd in self._private:
            os.close(fd)
        self._logs.give_to_job()
        self._become_job(launch, self._report)

    def _send(self, message: object) -> None:
        try:
            self._channel.send(message)
        except OSError:
            self._doomed = True

    def poll_request(self, deadline: float | None) -> End | Pause | None:
        """Wait for news of the job; return what is to be done to it.

        It must end at once if this keeper is doomed.
        """
        if not self._doomed:
            message = self._next_message(deadline)
            if isinstance(message, End | Pause):
                return message
        elif deadline is not None:
            self._poll_signals(deadline)
        return End(0.0) if self._doomed else None

    def _poll_signals(self, deadline: float) -> None:
        """Wait for a signal only; for when the channel has ended and would always be ready."""
        left = max(0.0, deadline - time.monotonic())
        if select.select([self._wake], [], [], left)[0]:
            os.read(self._wake, 512)


def _peak_memory(usage: resource.struct_rusage) -> int:
    """Return the peak resident size in bytes."""
    return usage.ru_maxrss * _MAXRSS_UNIT


class _JobTree:
    """The processes of one job; `watch` returns when all are gone.

    Args:
        pid: the job's process.
        grace: seconds between SIGTERM and SIGKILL for what it leaves behind.
        inherited: bytes of the keeper's memory that it, and what it forks, began with.
    """

    def __init__(self, pid: int, grace: float, inherited: int) -> None:
        self._pid = pid
        self._grace = grace
        self._inherited = inherited
        self._status: int | None = None
        self._asked = False
        self._kill_at: float | None = None  # monotonic; set once SIGTERM was sent
        self._paused: list[psutil.Process] = []
        self._cpu_seconds = 0.0
        self._max_memory = 0

    def watch(self, keeper: Keeper) -> None:
        while self._reap():
            if self._status is not None and self._kill_at is None:
                self._terminate(self._grace)  # the job has ended, and left these processes behind
            request = keeper.poll_request(self._next_step())
            if isinstance(request, End):
                self._asked = self._asked or not self._has_exited()
                self._terminate(request.grace)
            elif isinstance(request, Pause):
                self._pause() if request.is_on else self._unpause()
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                send_signal(descendants(), signal.SIGKILL)

    def ended(self, lost: str | None, report: bytes | None, *, has_links: bool) -> Reaped:
        """Describe how the job ended; call after `watch`."""
        assert self._status is not None
        usage = self._cpu_seconds, self._max_memory
        return Reaped(self._status, self._asked, *usage, lost, report, has_links)

    def _reap(self) -> bool:
        """Reap children that have ended; return whether any are left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self._cpu_seconds += usage.ru_utime + usage.ru_stime
            self._max_memory = max(self._max_memory, _peak_memory(usage) - self._inherited)
            if pid == self._pid:
                self._status = status

    def _has_exited(self) -> bool:
        """Whether the job's own process has ended by now."""
        self._reap()
        return self._status is not None

    def _pause(self) -> None:
        """Stop all that is not stopped, until nothing is that was just being forked."""
        deadline = time.monotonic() + _LONGEST_STOP
        while self._kill_at is None and time.monotonic() < deadline:
            moving = [process for process in descendants() if not is_stopped(process)]
            if not moving:
                return
            self._paused += moving
            send_signal(moving, signal.SIGSTOP)
            time.sleep(KILL_INTERVAL)

    def _unpause(self) -> None:
        """Continue what `_pause` has stopped; what the job itself had stopped remains so."""
        send_signal(self._paused, signal.SIGCONT)
        self._paused.clear()

    def _terminate(self, grace: float) -> None:
        """Send SIGTERM to all, once. Further calls can only bring SIGKILL forward."""
        now = time.monotonic()
        if self._kill_at is None:
            if grace > 0:
                below = descendants()
                send_signal(below, signal.SIGTERM)
                send_signal(below, signal.SIGCONT)  # stopped processes need to handle SIGTERM, too
            self._kill_at = now + grace
        else:
            self._kill_at = min(self._kill_at, now + grace)

    def _next_step(self) -> float | None:
        if self._kill_at is None:
            return None
        return max(self._kill_at, time.monotonic() + KILL_INTERVAL)
