"""The launcher's side of a fork server: starting it, and getting slots to run jobs in.

ForkServer.start_carrying(function)   forked from this process; jobs call the function
ForkServer.start_clean()              a new interpreter, if there is one to start; jobs exec
ForkServer.start_warm(command)        the interpreter of a script; jobs go on with that script
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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hsm.core.engine.obstacles import may_pass
from hsm.core.errors import HsmError
from hsm.core.interpreter import interpreter
from hsm.core.local.processes.connection import new_connection
from hsm.core.local.processes.messages import Channel, send_descriptors
from hsm.core.local.processes.patience import LOOK_INTERVAL, Patience, kill_tree
from hsm.core.local.processes.process_tree import is_over
from hsm.core.local.processes.slot import ServerLost, Slot

if TYPE_CHECKING:
    from hsm.core.local.processes.job_process import CallFunction
    from hsm.core.program.isolation import LaunchState

#: Looks at a server that must fork a keeper; it may first have to load hsm from a slow disk.
_LOOKS_AT_FORK = 120
#: Looks at a server that must end. It needs milliseconds, or up to eleven seconds if processes
#: below it are stuck in the kernel.
_LOOKS_AT_END = 15
#: Seconds to wait for its process to be gone after that, and seconds between looks.
_EXIT_TIMEOUT, _EXIT_INTERVAL = 5.0, 0.001
_NONE: Mapping[str, str] = MappingProxyType({})
#: The directory that this process imported hsm from.
_HSM_FOUND_IN = str(Path(__file__).parents[__name__.count(".")])


class ForkServer:
    """A running fork server, which ends with `close` or with this process. Thread-safe.

    Attributes:
        carries_function: whether its jobs call a function.
        carries_script: whether they go on with a script that it has begun; otherwise they exec.
    """

    def __init__(
        self,
        pid: int,
        control: socket.socket,
        process: subprocess.Popen[bytes] | None,
        *,
        carries_function: bool = False,
        carries_script: bool = False,
    ) -> None:
        self.carries_function = carries_function
        self.carries_script = carries_script
        self._pid = pid
        self._control = control
        self._process = process
        self._mutex = threading.Lock()  # guards what follows
        self._idle: list[Slot] = []
        self._slots: set[Slot] = set()
        self._reaped = False
        self._is_retired = False
        self._closing = threading.Lock()

    @classmethod
    def start_carrying(
        cls,
        function: Callable[[Any], Any],
        scratch: Path | None,
        soft_limit: int,
        *,
        exit_hooks: bool = False,
        threads: Mapping[str, str] = _NONE,
    ) -> ForkServer:
        """Fork a server from this process. Its jobs call `function`, with everything loaded so far.

        Args:
            function: what jobs call with their argument.
            scratch: a directory that the server removes when it ends.
            soft_limit: how many files jobs may open.
            exit_hooks: whether jobs run the exit hooks that this process has registered.
            threads: see `serve`.

        Raises:
            CannotStart: it cannot be forked.
        """
        # Commands need none of it.
        from hsm.core.local.processes.fork_isolation import take_for_forks
        from hsm.core.program.call import call_function

        call = partial(call_function, function)
        return cls._fork(take_for_forks(exit_hooks), call, scratch, soft_limit, threads)

    @classmethod
    def _fork(
        cls,
        state: LaunchState,
        call: CallFunction | None,
        scratch: Path | None,
        soft_limit: int,
        threads: Mapping[str, str] = _NONE,
    ) -> ForkServer:
        # Not after the fork, in which another thread may have been halfway through an import.
        import psutil  # noqa: F401

        from hsm.core.local.processes.server_process import serve

        launcher = os.getpid()
        # The launcher's handlers must not run in the child before it has dropped them.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            with (
                new_connection("start the fork server") as (ours, theirs),
                warnings.catch_warnings(),
            ):
                # Python 3.12 warns about forking with threads; the caller has decided to fork.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
                if pid == 0:
                    folder = str(scratch) if scratch else None
                    serve(theirs, launcher, state, call, folder, soft_limit, threads)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return cls(pid, ours, None, carries_function=call is not None)

    @classmethod
    def start_clean(cls, scratch: Path | None, soft_limit: int) -> ForkServer:
        """Start a server in a small new interpreter. Its jobs are commands.

        A frozen app has no interpreter to start: the server is then a fork of this process.

        Raises:
            CannotStart: it cannot be started.
        """
        python = interpreter()
        if python is None:
            from hsm.core.program.isolation import LaunchState

            state = LaunchState.take()._replace(is_forked=True)
            return cls._fork(state, None, scratch, soft_limit)
        # Isolated (-I), so that nothing in the working directory or PYTHONPATH can shadow the
        # standard library. This process's path is appended, so that the server finds the same hsm.
        where = [_HSM_FOUND_IN, *sys.path]
        program = (
            f"import gc, sys; gc.disable(); sys.path += {where!r}; "
            "from hsm.core.local.processes.server_process import main; main()"
        )
        folder = [] if scratch is None else [str(scratch)]
        # With -I, Python ignores PYTHONDONTWRITEBYTECODE.
        no_byte_code = ["-B"] if sys.dont_write_bytecode else []
        with new_connection("start the fork server") as (ours, theirs):
            arguments = [str(theirs.fileno()), str(os.getpid()), str(soft_limit), *folder]
            process = subprocess.Popen(
                [python, *no_byte_code, "-I", "-c", program, *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            import psutil  # noqa: F401  # which takes a while: meanwhile the server starts
        return cls(process.pid, ours, process)

    @classmethod
    def start_warm(
        cls,
        command: Sequence[str],
        cwd: str,
        output: int,
        scratch: Path | None,
        soft_limit: int,
        threads: Mapping[str, str],
    ) -> ForkServer:
        """Start the interpreter of a script, which becomes a server: see `local.warm_server`.

        It is none before `hear` has said so, and `want` was called.

        Args:
            command: the interpreter, its options and the script.
            cwd: the jobs' working directory.
            output: a descriptor for what it prints before.
            scratch: a directory that the server removes when it ends.
            soft_limit: how many files jobs may open.
            threads: the variables that bound the threads of the libraries that it loads.

        Raises:
            CannotStart: it cannot be started.
        """
        folder = [] if scratch is None else [str(scratch)]
        with new_connection("start the fork server") as (ours, theirs):
            process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(os.getpid()), str(soft_limit), *folder],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env={**os.environ, **threads},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            import psutil  # noqa: F401  # which takes a while: meanwhile the server starts
        return cls(process.pid, ours, process, carries_script=True)

    def fileno(self) -> int:
        """The connection's descriptor, to wait for what a warm server says."""
        return self._control.fileno()

    def hear(self, deadline: float) -> Any:
        """What a warm server says of its imports.

        Raises:
            EOFError: it has ended.
            TimeoutError: it has said nothing at `deadline` (`time.monotonic()`).
        """
        channel = Channel(self._control)
        if not channel.wait(deadline):
            raise TimeoutError
        return channel.receive()

    def want(self) -> None:
        """Have a warm server serve. Raises OSError if it has ended."""
        send_descriptors(self._control, b"w", [2])

    def kill(self) -> None:
        """Kill the server's process and all below it; `close` frees what is left."""
        import psutil

        with suppress(psutil.NoSuchProcess):
            kill_tree(psutil.Process(self._pid))

    def slot(self) -> Slot:
        """Get a free slot: one that was given back, or a new one.

        Raises:
            ServerLost: the server is gone or does not respond.
            CannotStart: there can be no other keeper.
            SlotLost: the new slot's keeper is gone.
        """
        with self._mutex:
            if self._idle:
                return self._idle.pop()  # if the server has died, its keeper says so
        if not self.is_alive():
            raise ServerLost("the fork server is gone")
        import psutil

        try:
            patience = Patience(psutil.Process(self._pid), _LOOKS_AT_FORK)
        except psutil.Error as error:
            raise ServerLost("the fork server is gone") from error
        slot = self._new_slot(patience)
        try:
            slot.wait_for_keeper(patience.look)
        except HsmError:
            self.drop(slot)
            raise
        return slot

    def _new_slot(self, patience: Patience) -> Slot:
        """Make a slot by asking the server for a keeper."""
        with new_connection("start a keeper") as (ours, theirs):
            while not self._ask_for_keeper(theirs):
                time.sleep(LOOK_INTERVAL)
                if patience.look():
                    raise ServerLost("the fork server does not respond")
        slot = Slot(Channel(ours), self._continue)
        with self._mutex:
            self._slots.add(slot)
        return slot

    def _ask_for_keeper(self, connection: socket.socket) -> bool:
        """Send the server the keeper's end of a connection; False if its queue is full.

        Raises:
            ServerLost: the server is gone.
            OSError: too many descriptors are on their way already.
        """
        try:
            with self._mutex:
                send_descriptors(self._control, b"k", [connection.fileno()])
        except BlockingIOError:
            return False
        except OSError as error:
            if may_pass(error):
                raise
            raise ServerLost("the fork server is gone") from error
        return True

    def give_back(self, slot: Slot) -> None:
        """Return a free slot, so that it can be used again."""
        with self._mutex:
            if not self._is_retired:
                self._idle.append(slot)
                return
        self.drop(slot)

    def drop(self, slot: Slot) -> None:
        """Close a slot that is lost or no longer needed."""
        self._continue()  # the server must run to kill what a dead keeper has left behind
        with self._mutex:
            self._slots.discard(slot)
            was_last = self._is_retired and not self._slots
        slot.close()
        if was_last:
            self.close()

    def retire(self) -> None:
        """Give up a dead or stuck server: hand out no more slots, and end it after its last job."""
        with self._mutex:
            self._is_retired = True
            idle, self._idle = self._idle, []
            self._slots.difference_update(idle)
            is_unused = not self._slots
        for slot in idle:
            slot.close()
        if is_unused or not self.is_alive():
            self.close()

    def is_alive(self) -> bool:
        """Whether the server's process is still running."""
        return not self._reap()

    def close(self) -> None:
        """End the server, its keepers and their jobs. Idempotent.

        Returns when the server's process is gone. A server that does not end is killed.
        """
        with self._closing:
            with self._mutex:
                slots, self._slots = self._slots, set()
                idle, self._idle = self._idle, []
            for slot in slots:
                slot.shut()
            for slot in idle:
                slot.close()
            if self._control.fileno() >= 0:
                self._end()

    def _end(self) -> None:
        with suppress(OSError):
            # The server sees the connection end, and ends; then its end closes, too.
            self._control.shutdown(socket.SHUT_WR)
        self._continue()
        channel = Channel(self._control)
        patience: Patience | None = None
        while not channel.wait(time.monotonic() + LOOK_INTERVAL):
            import psutil

            with suppress(psutil.NoSuchProcess):
                patience = patience or Patience(psutil.Process(self._pid), _LOOKS_AT_END)
                if patience.look():
                    kill_tree(psutil.Process(self._pid))
                    break
        self._control.close()
        self._wait_for_exit()

    def _wait_for_exit(self) -> None:
        deadline = time.monotonic() + _EXIT_TIMEOUT
        is_dead = False
        while not self._reap():
            if is_dead or time.monotonic() > deadline:
                if self._process is not None:
                    # A tracer still holds it. Keep Popen from warning about a running process.
                    self._process.returncode = -signal.SIGKILL
                return
            is_dead = is_over(self._pid)
            time.sleep(_EXIT_INTERVAL)

    def _continue(self) -> None:
        """Continue the server, in case it was stopped."""
        with self._mutex, suppress(ProcessLookupError, PermissionError):
            if not self._reaped:
                os.kill(self._pid, signal.SIGCONT)

    def _reap(self) -> bool:
        """Reap the server's process if it has ended; return whether it has."""
        with self._mutex:
            if not self._reaped:
                if self._process is not None:
                    self._reaped = self._process.poll() is not None
                else:
                    try:
                        self._reaped = os.waitpid(self._pid, os.WNOHANG)[0] != 0
                    except ChildProcessError:
                        self._reaped = True  # reaped by an os.wait() of the app
            return self._reaped
