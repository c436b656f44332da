"""The warm scripts of one source: which of them have a server."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hsm.core.engine.backend import Launch
from hsm.core.errors import SettingsError
from hsm.core.local.descriptor_limit import soft_limit_of_jobs
from hsm.core.local.processes.server_client import ForkServer
from hsm.core.local.scratch import Scratch
from hsm.core.own_process import LINUX
from hsm.core.program.kept_script import KeptScript
from hsm.core.settings.resolve import LocalConf, StartMethod, Warm

if TYPE_CHECKING:
    from hsm.core.local.warm_start import WarmStart

#: Servers that a source keeps: each holds what its script has imported.
_MAX_KEPT = 4


class WarmStarts:
    """Starts servers of scripts. Thread-safe.

    Args:
        scratch: where the scripts are kept.
        conf: the settings.
        threads: tells the variables that bound the threads of jobs that start now.

    Raises:
        SettingsError: these ask for a warm start, and for spawned jobs.
    """

    def __init__(
        self, scratch: Scratch, conf: LocalConf, threads: Callable[[], Mapping[str, str]]
    ) -> None:
        spawns = conf.start_method is StartMethod.spawn
        if conf.warm is Warm.true and spawns:
            message = "warm=true forks jobs, and start_method=spawn forbids it: give one of the two"
            allowed = "auto or false beside start_method=spawn"
            raise SettingsError("warm", "true", "settings", allowed, message=message)
        self._scratch = scratch
        self._is_on = conf.warm is not Warm.false and LINUX and not spawns
        self._insists = conf.warm is Warm.true
        self._limit = conf.timeout
        self._threads = threads
        self._mutex = threading.Lock()  # guards the next attribute
        # By id() of the script, which the value keeps alive. The newest is last.
        self._starts: dict[int, WarmStart] = {}

    def start(self, script: KeptScript) -> bool:
        """Start the server of a script, unless it was started; return whether there may be one."""
        if not self._is_on:
            return False
        from hsm.core.local.warm_start import WarmStart  # Commands and functions need none of it.

        with self._mutex:
            if id(script) in self._starts:
                return True
            start = WarmStart(script, os.getcwd(), insists=self._insists, limit=self._limit)
            self._starts[id(script)] = start
            old = list(self._starts.values())[:-_MAX_KEPT]
        for each in old:
            each.retire()
        start.start(self._scratch, soft_limit_of_jobs(), self._threads())
        return True

    def wait(self, is_wanted: Callable[[], bool], notice: Callable[[str], None]) -> None:
        """Wait until it is known which scripts have a server; tell people once if one has none."""
        for start in list(self._starts.values()):
            start.wait(is_wanted, notice)

    def server(self, launch: Launch) -> ForkServer | None:
        """The server of which a job can be a fork; None if there is none."""
        start = None if launch.script is None else self._starts.get(id(launch.script))
        return None if start is None else start.server_for(launch)

    def news(self, launch: Launch) -> Mapping[str, Any] | None:
        """How jobs of a script start from now on, see `WarmStart.news`."""
        start = None if launch.script is None else self._starts.get(id(launch.script))
        return None if start is None else start.news()

    def lose(self, server: ForkServer) -> bool:
        """Use a server no more; return whether it was one of these."""
        if not server.carries_script:
            return False
        for start in list(self._starts.values()):
            start.lose(server)
        return True

    def close(self) -> None:
        """End all servers and everything that they run."""
        for start in list(self._starts.values()):
            start.close()
