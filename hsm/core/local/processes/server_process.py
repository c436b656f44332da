"""The fork server's process: forks keepers, and ends with its launcher without leaving anything.

    launcher <--control--> fork server --fork--> keeper (one per slot in use) --fork--> job

It is either forked from the launching process, and so carries the loaded app for jobs that are
Python functions; or it is a small clean interpreter (`main`), whose jobs exec. Both run `serve`.

It is a subreaper: if a keeper is killed, the processes of its job become the server's children,
which no other processes ever do, and the server kills them. It has one thread, so that its children
can rely on parent-death signals.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from hsm.core.engine.backend import Launch
from hsm.core.engine.obstacles import obstacle
from hsm.core.local.processes.fork_isolation import become_server
from hsm.core.local.processes.job_logs import JobLogs
from hsm.core.local.processes.job_process import CallFunction, EndsProcess, become_job
from hsm.core.local.processes.keeper_process import Keeper
from hsm.core.local.processes.loaded_pools import LoadedPools
from hsm.core.local.processes.messages import Channel, NotStarted
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
from hsm.core.removal import remove_tree

#: The kernel sends this when the launcher dies, or the thread of it that forked this process. At
#: other times it is harmless, and it wakes a server that was stopped.
_LAUNCHER_DIED = signal.SIGCONT
#: Seconds between checks that the launcher lives, since another process may hold its socket open.
_LOOK_INTERVAL = 0.5
#: Seconds that keepers have to kill their jobs once the launcher has died; then the server does.
_KEEPERS_GRACE = 1.0
#: Seconds that the server waits after SIGKILL for processes stuck in the kernel, which die later.
_UNKILLABLE = 10.0


class _Kept(NamedTuple):
    """What the server keeps for each keeper in case the keeper is killed.

    Attributes:
        connection: a copy of the keeper's end of its connection to the launcher, so that the
            launcher sees the connection end only after the server has cleaned up.
        logs: the logs of the keeper's jobs.
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
        call: CallFunction | None,
        scratch: str | None,
        soft_limit: int,
        threads: Mapping[str, str],
    ) -> None:
        self._control = control
        self._launcher = launcher
        self._state = state
        self._call = call
        self._scratch = scratch
        self._threads = threads
        self._pools = LoadedPools()
        self._keepers: dict[int, _Kept] = {}
        # The server needs a few descriptors per keeper, so it raises its limit; keepers and jobs
        # get the original limit back.
        hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self._descriptors = (soft_limit, hard_limit)

    def run(self) -> None:
        with suppress(OSError, ValueError):  # macOS says "unlimited", but refuses it
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._descriptors[1],) * 2)
        self._wake, self._write_end = wake_pipe()
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for signum in (signal.SIGCHLD, _LAUNCHER_DIED):
            signal.signal(signum, lambda *_: None)
        die_with_parent(_LAUNCHER_DIED, self._launcher)
        if self._threads:
            self._pools = LoadedPools.find()
            self._pools.bound(self._threads)
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
        """Receive a new keeper's connection and fork the keeper; False if the launcher is done."""
        try:
            message, fds, _, _ = socket.recv_fds(self._control, 1, 1)
        except ConnectionError:
            return False
        if not message:
            return False
        if not fds:  # This process may have no more descriptors: the launcher's end will tell.
            return True
        connection = fds[0]
        server = os.getpid()
        try:
            kept = _Kept(connection, JobLogs())
            try:
                pid = os.fork()
            except OSError:
                kept.logs.close()
                raise
        except OSError as error:
            _tell_why_not(connection, error)
            return True
        if pid == 0:
            self._in_keeper(server, kept)
        kept.logs.leave_to_keeper()
        self._keepers[pid] = kept
        return True

    def _in_keeper(self, server: int, own: _Kept) -> NoReturn:
        with EndsProcess():
            signal.set_wakeup_fd(-1)
            self._control.close()
            os.close(self._wake)
            os.close(self._write_end)
            for other in self._keepers.values():
                other.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, self._descriptors)
            pid = os.getpid()

            def start_job(launch: Launch, note: Note) -> NoReturn:
                become_job(launch, pid, self._state, self._call, note, self._pools)

            with socket.socket(fileno=own.connection) as connection:
                channel = Channel(connection)
                try:
                    keeper = Keeper(channel, server, self._launcher, own.logs, start_job)
                    keeper.get_ready()
                except OSError as error:
                    channel.send(NotStarted(obstacle(error, "start a keeper")))
                else:
                    keeper.run()
            os._exit(0)

    def _reap(self) -> bool:
        """Reap children that have ended, and kill those that have lost their keeper.

        Returns whether any children are left.
        """
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                kept = self._keepers.pop(ended[0], None)
                if kept is None or ended[1] != 0:
                    self._kill_orphans()
                if kept is not None:
                    if ended[1] != 0:
                        with suppress(OSError):  # the log no longer exists
                            kept.logs.rescue()
                    kept.close()
        except ChildProcessError:
            return False
        return True

    def _kill_orphans(self) -> None:
        orphans = [process for process in descendants() if not self._is_kept(process)]
        send_signal(orphans, signal.SIGKILL)

    def _is_kept(self, process: Any) -> bool:
        """Whether `process` is a living keeper or below one."""
        import psutil

        with suppress(psutil.Error):
            return process.pid in self._keepers or any(
                parent.pid in self._keepers for parent in process.parents()
            )
        return True

    def _end(self) -> None:
        """Wait for the keepers, which kill their jobs once the launcher is done or dead.

        Kills keepers and jobs that take too long.
        """
        for keeper in self._keepers:
            os.kill(keeper, signal.SIGCONT)  # somebody may have stopped it
        deadline = time.monotonic() + _KEEPERS_GRACE
        while self._reap():
            left = deadline - time.monotonic()
            if left < -_UNKILLABLE:
                break
            if left <= 0:
                remaining = descendants()
                send_signal(remaining, signal.SIGKILL)
                if not remaining:  # only zombies that a tracer still holds
                    break
            if select.select([self._wake], [], [], max(0.02, left))[0]:
                os.read(self._wake, 512)
        if self._scratch is not None:
            remove_tree(self._scratch)


def _tell_why_not(connection: int, error: OSError) -> None:
    """Tell the launcher that there is no keeper at the other end of `connection`."""
    with socket.socket(fileno=connection) as end, suppress(OSError):
        Channel(end).send(NotStarted(obstacle(error, "start a keeper")))


def serve(
    control: socket.socket,
    launcher: int,
    state: LaunchState,
    call: CallFunction | None,
    scratch: str | None,
    soft_limit: int,
    threads: Mapping[str, str],
) -> NoReturn:
    """Be the fork server until `launcher` (a pid) dies or closes its end of `control`.

    Args:
        control: this process's end of the connection to the launcher.
        launcher: the launcher's pid.
        state: the state of the launching process, whose signal handlers and seeds jobs get back.
        call: calls the function that jobs without a command run; None if they go on with the
            script that this process runs.
        scratch: a directory to remove at the end.
        soft_limit: how many files jobs may open, see `DescriptorLimit`.
        threads: the variables that bound the threads of most jobs, for libraries that this process
            has loaded; empty if its jobs load them, or have as many as they like.

    Raises:
        ScriptBegins: in a job that goes on with the script.
    """
    with EndsProcess():
        try:
            if os.getsid(0) != os.getpid():
                os.setsid()  # signals to the launcher's process group are not meant for the server
            become_server(state)
            become_subreaper()
            set_process_name(b"hsm-server")
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            _Server(control, launcher, state, call, scratch, soft_limit, threads).run()
        except OSError as error:  # the machine lacks something: no fault of this code
            print(f"hsm: the fork server ended: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)


def main() -> NoReturn:
    """Be the fork server in a clean interpreter, which has not collected garbage so far.

    Arguments in `sys.argv`: the control socket's descriptor, the launcher's pid, how many files
    jobs may open, and optionally a directory to remove at the end.
    """
    gc.freeze()  # what imports have made stays
    gc.enable()
    fd, launcher, soft_limit, *scratch = sys.argv[1:]
    control = socket.socket(fileno=int(fd))
    folder = scratch[0] if scratch else None
    serve(control, int(launcher), LaunchState.take(), None, folder, int(soft_limit), {})
