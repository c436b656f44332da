"""The fork servers of one source: picks the one that a job needs, and replaces lost ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from hsm.core.engine.backend import CannotStart, Launch, NoRoom, NothingStarts, Work
from hsm.core.engine.obstacles import Obstacles
from hsm.core.errors import HsmError
from hsm.core.local.descriptor_limit import soft_limit_of_jobs
from hsm.core.local.processes.server_client import ForkServer
from hsm.core.local.processes.slot import ServerLost, Slot, SlotLost
from hsm.core.local.scratch import Scratch
from hsm.core.local.warm_starts import WarmStarts
from hsm.core.logger import get_logger
from hsm.core.program.kept_script import KeptScript
from hsm.core.settings.resolve import LocalConf

if TYPE_CHECKING:
    from hsm.core.local.fork_safety.start_method import ServerStart
    from hsm.core.program.payload import Payload

log = get_logger(__name__)

#: How many killed or stuck servers a source replaces; if more are lost, the machine is at fault.
_MAX_RESTARTS = 3


class FunctionWork(Work):
    """A function, called in forks of a server that carries it, or in spawned interpreters.

    Attributes:
        payload: the pickled function; set as soon as its jobs are spawned, which they then remain.
    """

    __slots__ = ("payload",)

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__(function)
        self.payload: Payload | None = None


class Servers:
    """Starts servers when they are needed. Thread-safe.

    Args:
        scratch: where payloads are written.
        conf: the settings, of which those on how jobs start count.
        threads: tells the variables that bound the threads of jobs that start now.
    """

    def __init__(
        self, scratch: Scratch, conf: LocalConf, threads: Callable[[], Mapping[str, str]]
    ) -> None:
        self._scratch = scratch
        self._start_method = conf.start_method.value
        self._exit_hooks = conf.exit_hooks
        self._threads = threads
        self._warm = WarmStarts(scratch, conf, threads)
        self._mutex = threading.Lock()
        # Servers that carry a function, by their work. At None is the clean server, for all jobs
        # that exec.
        self._running: dict[FunctionWork | None, ForkServer] = {}
        self._retired: list[ForkServer] = []
        # By id() of the function. The work keeps the function alive, so the id is not reused.
        self._functions: dict[int, FunctionWork] = {}
        self._restarts = 0
        self._closed = False

    def prepare(self, function: Callable[[Any], Any] | None, script: KeptScript | None) -> Work:
        """See `LocalBackend.prepare`."""
        if id(function) in self._functions:
            return self._functions[id(function)]
        work = Work() if function is None else FunctionWork(function)
        if script is not None and self._warm.start(script):
            return work  # Only if it comes to nothing there is need for another server.
        with suppress(NoRoom):  # The jobs wait for it, in their threads.
            self._server(work)
        if isinstance(work, FunctionWork):
            self._functions[id(function)] = work
        return work

    def wait_for_imports(
        self, is_wanted: Callable[[], bool], notice: Callable[[str], None]
    ) -> None:
        """Wait until scripts that are to start warm have done their imports, or failed to.

        Args:
            is_wanted, notice: see `Backend.get_ready`.
        """
        self._warm.wait(is_wanted, notice)

    def slot(self, work: Work, launch: Launch) -> tuple[ForkServer, Slot]:
        """Get a free slot for a job of `work`. Raises CannotStart."""
        while True:
            try:
                server = self._warm.server(launch) or self._server(work)
            except CannotStart:
                raise
            except HsmError as error:  # CannotSpawn, of a function
                raise NothingStarts(f"the fork server cannot be replaced: {error}") from None
            try:
                slot = server.slot()
            except ServerLost:
                self._retire(server)
            except SlotLost as error:  # as it was being started: it has had no job
                raise NoRoom("cannot start a keeper: it ended at once") from error
            else:
                work.how = self._warm.news(launch) or work.how
                return server, slot

    def close(self) -> None:
        """End all servers and everything that they run."""
        with self._mutex:
            self._closed = True
            servers, self._running = [*self._running.values(), *self._retired], {}
        self._warm.close()
        for server in servers:
            server.close()
        for work in self._functions.values():
            if work.payload is not None:
                work.payload.close()

    def _server(self, work: Work) -> ForkServer:
        with self._mutex:
            if self._closed:
                raise NothingStarts("the source is closed")
            carrying: FunctionWork | None = None
            if isinstance(work, FunctionWork) and work.payload is None:
                carrying = work
            server = self._running.get(carrying)
            if server is not None:
                return server
            if self._restarts > _MAX_RESTARTS:
                raise NothingStarts(f"the fork server was lost {self._restarts} times")
            with Obstacles("start the fork server"):
                if carrying is not None:
                    carrying.how = asdict(self._choose(carrying))
                    if carrying.payload is not None:
                        carrying = None
                if carrying not in self._running:
                    self._running[carrying] = self._start(carrying)
            return self._running[carrying]

    def _start(self, carrying: FunctionWork | None) -> ForkServer:
        disposable, soft_limit = self._scratch.disposable, soft_limit_of_jobs()
        if carrying is None:
            return ForkServer.start_clean(disposable, soft_limit)
        assert carrying.function is not None
        return ForkServer.start_carrying(
            carrying.function,
            disposable,
            soft_limit,
            exit_hooks=self._exit_hooks,
            threads=self._threads(),
        )

    def _choose(self, work: FunctionWork) -> ServerStart:
        """Choose the start method for a function; for spawn, pickle it.

        Raises:
            CannotSpawn: start_method is spawn, which is impossible.
            NothingStarts: a fork is known to be harmful, and spawn is impossible.
        """
        # Commands need none of it.
        from hsm.core.local.fork_safety.start_method import choose
        from hsm.core.program.payload import CannotSpawn, Payload

        assert work.function is not None
        start, findings = choose(self._start_method)
        if start.start_method == "fork":
            return start
        path = self._scratch.path / f"payload-{len(self._functions)}"
        try:
            work.payload = Payload(work.function, path)
        except CannotSpawn as error:
            if self._start_method == "spawn":
                raise
            harm = next((finding.text for finding in findings if finding.is_harmful), None)
            if harm is not None:
                which = "one of the two" if error.can_help else "the former"
                raise NothingStarts(
                    f"neither start method can run these jobs: fork is not safe, as {harm}; "
                    f"spawn cannot send the function, as {error.why}. Create {which} inside "
                    "the function, or use start_method=fork if no job uses the former."
                ) from error
            reason = f"{start.reason}, but spawn cannot: {error.why}"
            log.warning("start_method: fork, although %s", reason)
            return replace(start, start_method="fork", reason=f"although {reason}")
        if start.reason is not None:
            log.info("start_method: spawn, because %s", start.reason)
        return start

    def _retire(self, server: ForkServer) -> None:
        """Give up a dead or stuck server; the next call starts another."""
        if self._warm.lose(server):
            server.retire()
            return
        with self._mutex:
            for work, running in list(self._running.items()):
                if running is server:
                    del self._running[work]
                    self._retired.append(server)
                    self._restarts += 1
        server.retire()
