"""Starting the server of a warm script: its interpreter does the script's imports.

    a thread starts it --> it says that it can be forked: jobs are forks of it
                       `-> anything else: it is killed, `note` says why

What the imports of a script print, and how they fail, each job must show. So a server whose imports
do anything but import is killed, and every job runs the whole script.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from hsm.core.engine.backend import CannotStart, Launch
from hsm.core.engine.obstacles import start_thread
from hsm.core.interpreter import interpreter
from hsm.core.local.fork_safety.start_method import ServerStart
from hsm.core.local.processes.messages import Imported
from hsm.core.local.processes.server_client import ForkServer
from hsm.core.local.scratch import Scratch
from hsm.core.printable import printable
from hsm.core.program.import_watch import is_of_one_job
from hsm.core.program.kept_script import KeptScript
from hsm.core.program.warm_script import WarmScript
from hsm.core.units import format_duration

#: Seconds that imports may take; jobs wait meanwhile.
_LIMIT = 60.0
#: Seconds that imports which have printed something get to say more.
_LAST_WORDS = 1.5
#: Seconds after which people are told that jobs wait for imports.
_LONG = 5.0
#: Seconds between checks whether a job that waits is still wanted.
_LOOK = 0.5
_MAX_WORDS = 1 << 16
#: Seconds to wait for a killed server; one that is stuck in the kernel dies later.
_UNKILLABLE = 10.0


class WarmStart:
    """The server of one script, from the moment that it is started. Thread-safe.

    Args:
        script: the script.
        cwd: the working directory of its jobs.
        insists: whether the user has asked for a warm start.
        limit: the most seconds that its imports may take; None for the usual.

    Attributes:
        server: the server, once jobs can be forks of it.
        note: one line for people on how the jobs start; "" if there is nothing to say.
    """

    def __init__(
        self, script: KeptScript, cwd: str, *, insists: bool, limit: float | None = None
    ) -> None:
        self.server: ForkServer | None = None
        self.note = ""
        self._script = WarmScript(script, trusts=insists)
        self._cwd = cwd
        self._insists = insists
        self._limit = min(limit or _LIMIT, _LIMIT)
        self._name = os.path.basename(script.path)
        self._began = time.monotonic()
        self._mutex = threading.Lock()  # guards the next four
        self._told: set[str] = set()
        self._how: ServerStart | None = None
        self._starting: ForkServer | None = None
        self._is_closed = False
        self._decided = threading.Event()

    def start(
        self, scratch: Scratch, soft_limit: int, threads: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Start the script's interpreter; return at once.

        Args:
            scratch: where to keep the script.
            soft_limit: how many files jobs may open.
            threads: the variables that bound the threads of the libraries that it loads.
        """

        def run() -> None:
            # In this thread: while it imports, the server dies with the thread that started it.
            try:
                why_not = self._import(scratch, soft_limit, threads)
            except (CannotStart, OSError) as error:
                why_not = str(error)
            if why_not is not None:
                self._give_up(why_not)
            self._decided.set()

        try:
            start_thread(run, "warm")
        except CannotStart:
            self._decided.set()

    def wait(self, is_wanted: Callable[[], bool], notice: Callable[[str], None]) -> None:
        """Wait until it is known whether there is a server.

        Args:
            is_wanted, notice: see `Backend.get_ready`.
        """
        while not self._decided.wait(_LOOK) and is_wanted():
            if time.monotonic() > self._began + _LONG:
                self._tell_once(f"jobs wait: {self._name} does its imports, once for all", notice)
        if self.note:
            self._tell_once(self.note, notice)

    def _tell_once(self, text: str, notice: Callable[[str], None]) -> None:
        with self._mutex:
            is_news = text not in self._told
            self._told.add(text)
        if is_news:
            notice(text)

    def server_for(self, launch: Launch) -> ForkServer | None:
        """The server, if it has done what this job would do itself; else None."""
        words = (interpreter(), "-u", self._script.script.path)
        fits = (
            launch.command is not None
            and launch.command[:3] == words
            and launch.cwd == self._cwd
            and all(map(is_of_one_job, launch.env))
        )
        return self.server if fits else None

    def news(self) -> Mapping[str, Any] | None:
        """How jobs start from now on, for the journal; None if that is as it was, or as ever."""
        with self._mutex:
            how, self._how = self._how, None
        return None if how is None else asdict(how)

    def lose(self, server: ForkServer) -> None:
        """Use the server no more, if it is this one."""
        if self.server is server:
            self.server = None
            self._how = ServerStart("cold", "the server with their imports is gone")

    def retire(self) -> None:
        """Let the server end after its last job."""
        server, self.server = self.server, None
        if server is not None:
            server.retire()

    def close(self) -> None:
        """End the server and everything that it runs."""
        with self._mutex:
            self._is_closed = True
            starting = self._starting
        if starting is not None and not self._decided.is_set():
            starting.kill()
        self._decided.wait(_UNKILLABLE)
        if self.server is not None:
            self.server.close()

    def _import(self, scratch: Scratch, soft_limit: int, threads: Mapping[str, str]) -> str | None:
        """Start the server and hear what becomes of the imports; return why it cannot be used."""
        python, pyc = interpreter(), self._script.keep(scratch.path)
        imports = self._script.imports
        if python is None or pyc is None or imports is None:
            return ""  # The jobs show why.
        if not imports.statements and not self._insists:
            return imports.why
        read_end, write_end = os.pipe()
        try:
            command = (python, "-u", str(pyc))
            server = ForkServer.start_warm(
                command, self._cwd, write_end, scratch.disposable, soft_limit, threads
            )
        finally:
            os.close(write_end)
        try:
            with self._mutex:
                self._starting = server
                if self._is_closed:
                    return ""
            why_not = self._hear(server, read_end)
        finally:
            os.close(read_end)
        if why_not is None:
            server.want()
            self.server = server
            self._how = ServerStart("warm", f"the first imports of {self._name} are done once")
        return why_not

    def _hear(self, server: ForkServer, output: int) -> str | None:
        """Wait for what the imports do; return why the server cannot be used."""
        deadline = time.monotonic() + self._limit
        poll = select.poll()
        poll.register(server, select.POLLIN)
        poll.register(output, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(self._limit * 1000)}
        words, has_ended = _last_line(output) if output in ready else ("", False)
        if words:
            return "" if has_ended else f"its imports print: {words}"  # Or jobs show what failed.
        try:
            imported = server.hear(deadline)
        except TimeoutError:
            return f"its imports take more than {format_duration(self._limit)}"
        except EOFError:
            return "its imports end the process"
        assert isinstance(imported, Imported)
        if imported.why_not is None and imported.doubts and not self._insists:
            return imported.doubts[0]
        return imported.why_not

    def _give_up(self, why_not: str) -> None:
        if why_not:
            self.note = f"no warm start of {self._name}: {why_not}"
            self._how = ServerStart("cold", why_not)
        with self._mutex:
            server = self._starting
        if server is not None:
            server.kill()
            server.close()


def _last_line(output: int) -> tuple[str, bool]:
    """The last line of what comes from a pipe, once that pauses, and whether the pipe has ended."""
    said, has_ended = b"", False
    deadline = time.monotonic() + _LAST_WORDS
    poll = select.poll()
    poll.register(output, select.POLLIN)
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000) and len(said) < _MAX_WORDS:
        with suppress(OSError):
            more = os.read(output, _MAX_WORDS)
            if not more:
                has_ended = True
                break
            said += more
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return printable(lines[-1]) if lines else "", has_ended
