"""The fork servers of one source: which one a job needs, and a new one for one that is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hsm.core.local.forkserver import ForkServer
from hsm.core.local.scratch import Scratch
from hsm.core.local.slot import ServerLost, Slot, SlotLost
from hsm.core.local.spawn import Payload
from hsm.core.local.start_method import choose_start_method
from hsm.core.logger import get_logger

log = get_logger(__name__)

#: A source replaces so many servers that were killed or are stuck; if more are, the machine is at
#: fault. The same for the keepers of one job.
_MOST_RESTARTS = 3


@dataclass(frozen=True, eq=False)
class Work:
    """What jobs do: call a function with their argument, or exec a command.

    Attributes:
        function: for a Python job.
        command: for the others; also what a function becomes under spawn.
        payload: the function, made ready for spawn.
    """

    function: Callable[[Any], Any] | None = None
    command: tuple[str, ...] | None = None
    payload: Payload | None = None

    @property
    def is_forked(self) -> bool:
        """Whether its jobs are forks that carry the function."""
        return self.function is not None and self.payload is None


class Servers:
    """Starts servers when they are needed. Thread-safe.

    Args:
        scratch: where they keep what is theirs.
        start_method: of Python jobs: "auto", "fork" or "spawn".
        exit_hooks: whether forked jobs run the exit hooks that the app has registered.
    """

    def __init__(self, scratch: Scratch, start_method: str, exit_hooks: bool) -> None:
        self._scratch = scratch
        self._start_method = start_method
        self._exit_hooks = exit_hooks
        self._mutex = threading.Lock()
        self._running: dict[Work | None, ForkServer] = {}
        self._retired: list[ForkServer] = []
        # By id of the function; its `Work` keeps it alive, so the id stays its own.
        self._functions: dict[int, Work] = {}
        self._restarts = 0
        self._closed = False

    def prepare(self, function: Callable[[Any], Any] | None) -> Work:
        """Start the server for a function (None: for commands), unless it runs already.

        Call it before there are threads: a function's server is forked from this process.

        Raises:
            CannotPickle: the function is to be spawned, and cannot be.
        """
        if function is None:
            work = Work()
        elif (known := self._functions.get(id(function))) is not None:
            return known
        else:
            work = self._functions[id(function)] = self._prepare_function(function)
        self._server(work)
        return work

    def slot(self, work: Work) -> tuple[ForkServer, Slot]:
        """A free slot for a job of `work`. Raises SlotLost if its server was lost too often."""
        lost_keepers = 0
        while True:
            server = self._server(work)
            try:
                return server, server.slot()
            except ServerLost:
                self._retire(work, server)
            except SlotLost:
                lost_keepers += 1
                if lost_keepers > _MOST_RESTARTS:
                    raise

    def close(self) -> None:
        """End every server and whatever runs there."""
        with self._mutex:
            self._closed = True
            servers, self._running = [*self._running.values(), *self._retired], {}
        for server in servers:
            server.close()

    def _prepare_function(self, function: Callable[[Any], Any]) -> Work:
        method, why = choose_start_method(self._start_method)
        if why:
            log.info("start_method: spawn, because %s", why)
        if method == "fork":
            return Work(function=function)
        payload = Payload(function, self._scratch.path / f"payload-{len(self._functions)}")
        return Work(function=function, payload=payload)

    def _server(self, work: Work) -> ForkServer:
        key = work if work.is_forked else None  # One clean interpreter serves all that exec.
        with self._mutex:
            if self._closed:
                raise SlotLost("the source is closed")
            server = self._running.get(key)
            if server is None:
                if self._restarts > _MOST_RESTARTS:
                    raise SlotLost(f"the fork server was lost {self._restarts} times")
                disposable = self._scratch.disposable
                if work.is_forked:
                    assert work.function is not None
                    server = ForkServer.start_carrying(
                        work.function, disposable, exit_hooks=self._exit_hooks
                    )
                else:
                    server = ForkServer.start_clean(disposable)
                self._running[key] = server
            return server

    def _retire(self, work: Work, server: ForkServer) -> None:
        """`server` is dead or stuck; the next call starts another."""
        key = work if work.is_forked else None
        with self._mutex:
            if self._running.get(key) is server:
                del self._running[key]
                self._retired.append(server)
                self._restarts += 1
        server.retire()
