"""This machine as a place for jobs: fork servers, with a keeper process for each slot."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hsm.core.engine.backend import Backend, CannotStart, Launch, Work
from hsm.core.local.local_attempt import LocalAttempt
from hsm.core.local.memory import Memory, check_machine
from hsm.core.local.processes.server_client import ForkServer
from hsm.core.local.processes.slot import SlotLost
from hsm.core.local.scratch import Scratch
from hsm.core.local.servers import FunctionWork, Servers
from hsm.core.settings.resolve import LocalConf


class LocalBackend(Backend):
    """See `Backend`.

    Args:
        conf: the settings; the backend uses those on start methods, memory and the like.

    Raises:
        SettingsError: this machine can never meet one of them.
    """

    def __init__(self, conf: LocalConf) -> None:
        check_machine(conf)
        self._memory = Memory(conf)
        self._scratch = Scratch(keep=not conf.cleanup_on_exit)
        self._servers = Servers(self._scratch, conf.start_method.value, conf.exit_hooks)

    def prepare(self, function: Callable[[Any], Any] | None) -> Work:
        """Start the server for a function (None: for commands), unless it is already running.

        Call this before starting threads: a function's server is forked from this process.

        Raises:
            CannotSpawn: start_method is spawn, and the function cannot be spawned.
            CannotStart: neither fork nor spawn would work.
        """
        return self._servers.prepare(function)

    def wait_for_room(self, is_wanted: Callable[[], bool], notice: Callable[[str], None]) -> None:
        self._memory.wait_for_room(is_wanted, notice)

    def attempt(self, work: Work, launch: Launch) -> LocalAttempt:
        temporary = self._scratch.make(launch.num)
        clean = partial(self._scratch.clean, launch.num)
        try:
            server, slot = self._servers.slot(work)
        except SlotLost as error:
            clean()
            raise CannotStart(str(error)) from error
        try:
            launch = replace(launch, env={**launch.env, "TMPDIR": str(temporary)})
            launch = self._with_payload(work, launch, server)
        except BaseException:
            server.give_back(slot)
            clean()
            raise
        return LocalAttempt(launch, server, slot, self._memory, clean)

    def _with_payload(self, work: Work, launch: Launch, server: ForkServer) -> Launch:
        """Give a function's job a command to exec, if the server does not carry the function.

        Ask the server, since the replacement of a lost one may be of the other kind.
        """
        if not isinstance(work, FunctionWork) or server.carries_function:
            return launch
        assert work.payload is not None
        assert launch.argument is not None
        folder = self._scratch.path
        path = folder / f"argument-{launch.num}"
        path.write_bytes(launch.argument)
        work.payload.restore(folder)
        command = work.payload.command(path, Path(launch.result))
        return replace(launch, command=command, argument=None)

    def close(self) -> None:
        with ExitStack() as stack:  # closes all three, last one first, even if one raises
            stack.callback(self._scratch.close)
            stack.callback(self._servers.close)
            stack.callback(self._memory.close)
