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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hsm.core.engine.backend import CannotStart, Launch
from hsm.core.engine.obstacles import start_thread
from hsm.core.interpreter import interpreter
from hsm.core.local.processes.server_client import ForkServer
from hsm.core.local.warm_server import Imported
from hsm.core.printable import printable
from hsm.core.program.import_watch import is_of_one_job
from hsm.core.program.kept_script import KeptScript
from hsm.core.program.warm_script import WarmScript
from hsm.core.units import format_duration

#: Seconds that imports may take; jobs wait meanwhile.
_LIMIT = 60.0
#: Seconds that imports which have printed something get to say more.
_LAST_WORDS = 0.3
#: Seconds between checks whether a job that waits is still wanted.
_LOOK = 0.5
_MAX_WORDS = 1 << 16


class WarmStart:
    """The server of one script, from the moment that it is started. Thread-safe.

    Args:
        script: the script.
        cwd: the working directory of its jobs.
        insists: whether the user has asked for a warm start.
        limit: the most seconds that its imports may take; None for the usual.

    Attributes:
        note: one line for people on how the jobs start; "" if there is nothing to say.
    """

    def __init__(
        self, script: KeptScript, cwd: str, *, insists: bool, limit: float | None = None
    ) -> None:
        self._server: ForkServer | None = None
        self.note = ""
        self._script = WarmScript(script, trusts=insists)
        self._cwd = cwd
        self._insists = insists
        self._limit = min(limit or _LIMIT, _LIMIT)
        self._mutex = threading.Lock()  # guards the next two
        self._starting: ForkServer | None = None
        self._is_closed = False
        self._decided = threading.Event()

    def start(self, folder: Path, scratch: Path | None, soft_limit: int) -> None:
        """Start the script's interpreter; return at once.

        Args:
            folder: where to keep the script.
            scratch, soft_limit: see `ForkServer.start_warm`.
        """

        def run() -> None:
            # In this thread: while it imports, the server dies with the thread that started it.
            try:
                why_not = self._import(folder, scratch, soft_limit)
            except (CannotStart, OSError) as error:
                why_not = str(error)
            if why_not is not None:
                self._give_up(why_not)
            self._decided.set()

        try:
            start_thread(run, "warm")
        except CannotStart:
            self._decided.set()

    def wait(self, is_wanted: Callable[[], bool]) -> None:
        """Wait until it is known whether there is a server."""
        while not self._decided.wait(_LOOK) and is_wanted():
            continue

    def server_for(self, launch: Launch) -> ForkServer | None:
        """The server, if it has done what this job would do itself; else None."""
        words = (interpreter(), "-u", self._script.script.path)
        fits = (
            launch.command is not None
            and launch.command[:3] == words
            and launch.cwd == self._cwd
            and all(map(is_of_one_job, launch.env))
        )
        return self._server if fits else None

    def lose(self, server: ForkServer) -> None:
        """Use the server no more, if it is this one."""
        if self._server is server:
            self._server = None

    def retire(self) -> None:
        """Let the server end after its last job."""
        server, self._server = self._server, None
        if server is not None:
            server.retire()

    def close(self) -> None:
        """End the server and everything that it runs."""
        with self._mutex:
            self._is_closed = True
            starting = self._starting
        if starting is not None:
            if not self._decided.is_set():
                starting.kill()
                self._decided.wait()
            starting.close()

    def _import(self, folder: Path, scratch: Path | None, soft_limit: int) -> str | None:
        """Start the server and hear what becomes of the imports; return why it cannot be used."""
        python, pyc = interpreter(), self._script.keep(folder)
        imports = self._script.imports
        if python is None or pyc is None or imports is None:
            return ""  # The jobs show why.
        if not imports.statements and not self._insists:
            return imports.why
        read_end, write_end = os.pipe()
        try:
            command = (python, "-u", str(pyc))
            server = ForkServer.start_warm(command, self._cwd, write_end, scratch, soft_limit)
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
            self._server = server
        return why_not

    def _hear(self, server: ForkServer, output: int) -> str | None:
        """Wait for what the imports do; return why the server cannot be used."""
        deadline = time.monotonic() + self._limit
        poll = select.poll()
        poll.register(server, select.POLLIN)
        poll.register(output, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(self._limit * 1000)}
        if output in ready and (words := _last_line(output)):
            return f"its imports print: {words}"
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
            name = os.path.basename(self._script.script.path)
            self.note = f"no warm start of {name}: {why_not}"
        with self._mutex:
            server = self._starting
        if server is not None:
            server.kill()


def _last_line(output: int) -> str:
    """The last line of what comes from a pipe, once that pauses; "" if it just ends."""
    said = b""
    deadline = time.monotonic() + _LAST_WORDS
    poll = select.poll()
    poll.register(output, select.POLLIN)
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000) and len(said) < _MAX_WORDS:
        with suppress(OSError):
            more = os.read(output, _MAX_WORDS)
            if not more:
                break
            said += more
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return printable(lines[-1]) if lines else ""
