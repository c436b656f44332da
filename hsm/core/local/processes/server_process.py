"""The fork server's own process: it forks keepers, and ends with its launcher, leaving nothing.

    launcher <--control--> fork server --fork--> keeper (one per slot in use) --fork--> job

It comes to life in one of two ways: forked from the launching process, and so carrying the loaded
app for jobs that are Python functions; or as a small clean interpreter (`main`), whose jobs exec.
From then on both run `serve`.

It is a subreaper: if a keeper is killed, what the keeper's job left behind becomes the server's
child, which nothing else ever does, and is killed here. It has one thread, so that parent-death
signals can be relied on below it.
"""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from hsm.core.engine.backend import Launch
from hsm.core.local.processes.fork_isolation import become_server
from hsm.core.local.processes.job_logs import JobLogs
from hsm.core.local.processes.job_process import become_job
from hsm.core.local.processes.keeper_process import Keeper
from hsm.core.local.processes.messages import Channel
from hsm.core.local.processes.note import Note
from hsm.core.local.processes.process_tree import (
    become_subreaper,
    descendants,
    die_with_parent,
    send_signal,
    wake_pipe,
)
from hsm.core.own_process import set_process_name
from hsm.core.program.isolation import LaunchState

#: Sent by the kernel when the launcher dies, or the thread of it that has forked this process. It
#: does no harm at other times, and goes on with a server that somebody has stopped.
_LAUNCHER_DIED = signal.SIGCONT
#: Seconds between looks at whether the launcher lives: somebody else may hold its socket open.
_LOOK_INTERVAL = 0.5
#: Seconds that keepers get to kill their jobs when the launcher has died; then the server does.
_KEEPERS_GRACE = 1.0
#: Seconds after SIGKILL that the server waits for what is stuck in the kernel, and dies later.
_UNKILLABLE = 10.0


@dataclass(frozen=True)
class _Kept:
    """What the server holds of a keeper, for the case that it is killed.

    Attributes:
        connection: the keeper's end of its connection to the launcher, which so learns of its end
            when the server has dealt with it.
        logs: of the keeper's jobs.
    """

    connection: int
    logs: JobLogs

    def close(self) -> None:
        os.close(self.connection)
        self.logs.close()


class _Server:
    def __init__(
        self,
        control: socket.socket,
        launcher: int,
        state: LaunchState,
        function: Callable[[Any], Any] | None,
        scratch: str | None,
    ) -> None:
        self._control = control
        self._launcher = launcher
        self._state = state
        self._function = function
        self._scratch = scratch
        self._keepers: dict[int, _Kept] = {}
        # A few descriptors for each keeper are held here; keepers and jobs have the limit back.
        self._descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)

    def run(self) -> None:
        self._wake, self._write_end = wake_pipe()
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for signum in (signal.SIGCHLD, _LAUNCHER_DIED):
            signal.signal(signum, lambda *_: None)
        die_with_parent(_LAUNCHER_DIED, self._launcher)
        with suppress(OSError, ValueError):  # macOS has "unlimited", and does not mean it.
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._descriptors[1],) * 2)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while os.getppid() == self._launcher:
            ready = {fd for fd, _ in poll.poll(_LOOK_INTERVAL * 1000)}
            if self._wake in ready:
                os.read(self._wake, 512)
                self._reap()
            if self._control.fileno() in ready and not self._fork_keeper():
                break
        self._end()

    def _fork_keeper(self) -> bool:
        """Take a new keeper's connection and fork the keeper; False if the launcher is done."""
        try:
            message, fds, _, _ = socket.recv_fds(self._control, 1, 1)
        except ConnectionError:
            return False
        if not message:
            return False
        server = os.getpid()
        kept = _Kept(fds[0], JobLogs())
        pid = os.fork()
        if pid == 0:
            self._in_keeper(server, kept)
        kept.logs.leave_to_keeper()
        self._keepers[pid] = kept
        return True

    def _in_keeper(self, server: int, own: _Kept) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            self._control.close()
            os.close(self._wake)
            os.close(self._write_end)
            for other in self._keepers.values():
                other.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, self._descriptors)
            keeper = os.getpid()

            def start_job(launch: Launch, note: Note) -> NoReturn:
                become_job(launch, keeper, self._state, self._function, note)

            with socket.socket(fileno=own.connection) as connection:
                Keeper(Channel(connection), server, self._launcher, own.logs, start_job).run()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def _reap(self) -> bool:
        """Collect whoever has ended; any other child has lost its keeper and is killed.

        Returns whether anybody is left.
        """
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                kept = self._keepers.pop(ended[0], None)
                if kept is None or ended[1] != 0:
                    self._kill_orphans()
                if kept is not None:
                    if ended[1] != 0:
                        with suppress(OSError):  # Its log is not there any more.
                            kept.logs.rescue()
                    kept.close()
        except ChildProcessError:
            return False
        return True

    def _kill_orphans(self) -> None:
        orphans = [process for process in descendants() if not self._is_kept(process)]
        send_signal(orphans, signal.SIGKILL)

    def _is_kept(self, process: Any) -> bool:
        """Whether `process` is a keeper or below one that lives."""
        import psutil

        with suppress(psutil.Error):
            return process.pid in self._keepers or any(
                parent.pid in self._keepers for parent in process.parents()
            )
        return True

    def _end(self) -> None:
        """The launcher is done or dead: wait for the keepers, which see it and kill what is theirs.

        What takes too long is killed here.
        """
        deadline = time.monotonic() + _KEEPERS_GRACE
        while self._reap():
            left = deadline - time.monotonic()
            if left < -_UNKILLABLE:
                break
            if left <= 0:
                remaining = descendants()
                send_signal(remaining, signal.SIGKILL)
                if not remaining:  # Zombies that a tracer has not let go.
                    break
            if select.select([self._wake], [], [], max(0.02, left))[0]:
                os.read(self._wake, 512)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def serve(
    control: socket.socket,
    launcher: int,
    state: LaunchState,
    function: Callable[[Any], Any] | None,
    scratch: str | None,
) -> NoReturn:
    """Be the fork server until `launcher` (a pid) dies or closes its end of `control`.

    Args:
        state: what the launching process looked like; jobs get its signal handlers and seeds back.
        function: what jobs without a command call with their argument.
        scratch: a directory to remove at the end.
    """
    status = 1
    try:
        if os.getsid(0) != os.getpid():
            os.setsid()  # Signals to the launcher's process group and terminal are not for us.
        become_server(state)
        become_subreaper()
        set_process_name(b"hsm-server")
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _Server(control, launcher, state, function, scratch).run()
        status = 0
    except BaseException:
        traceback.print_exc()  # To the launcher's stderr: there is nobody else to tell.
    finally:
        os._exit(status)


def main() -> NoReturn:
    """Be the clean interpreter's fork server.

    Its arguments in `sys.argv`: control socket's descriptor, launcher's pid, directory to remove.
    """
    fd, launcher, *scratch = sys.argv[1:]
    state = LaunchState.take()
    serve(
        socket.socket(fileno=int(fd)), int(launcher), state, None, scratch[0] if scratch else None
    )
