"""This machine as a place for jobs: fork servers, with a keeper process for each slot."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsm.core.engine.backend import Backend, Launch, Work
from hsm.core.engine.obstacles import Obstacles
from hsm.core.gpu.need import gpu_need
from hsm.core.gpu.presence import may_see_gpus
from hsm.core.local.cpu_shares import CpuShares, Share
from hsm.core.local.descriptor_limit import DescriptorLimit
from hsm.core.local.local_attempt import LocalAttempt
from hsm.core.local.machine import check_machine
from hsm.core.local.memory import Memory
from hsm.core.local.places import with_places
from hsm.core.local.processes.server_client import ForkServer
from hsm.core.local.scratch import Scratch, ShortNames
from hsm.core.local.servers import FunctionWork, Servers
from hsm.core.program.kept_script import KeptScript
from hsm.core.settings.resolve import LocalConf
from hsm.core.settings.spelling import Spelling

if TYPE_CHECKING:
    from hsm.core.gpu.pool import GpuPool
    from hsm.core.gpu.visible import FoundGpus


class LocalBackend(Backend):
    """See `Backend`.

    Args:
        conf: the settings; the backend uses those on start methods, memory and the like.
        gpus: the GPUs for jobs, which this closes; None if it gives them none.

    Raises:
        SettingsError: this machine can never meet one of them.
        HsmError: this machine can run no jobs.
    """

    makes_folders = True

    def __init__(self, conf: LocalConf, gpus: GpuPool | None = None) -> None:
        check_machine(conf)
        self._conf = conf
        self.gpus = gpus
        self._descriptors = DescriptorLimit(conf)
        self._memory = Memory(conf)
        self._scratch = Scratch(keep=not conf.cleanup_on_exit)
        self._names = ShortNames()
        self._shares = CpuShares(conf)
        self._servers = Servers(self._scratch, conf, self._shares.variables)

    def expect(self, jobs: int) -> str | None:
        return self._shares.expect(jobs)

    def about_gpus(self, jobs: int, params: Collection[str], spelled: Spelling) -> str:
        conf, need = self._conf, gpu_need(self._conf.gpus, self._conf.gpu_memory)
        if self.gpus is not None and need is not None:
            from hsm.core.gpu.gpu_texts import describe_gpus  # as few sweeps need it

            return describe_gpus(self.gpus.allowed, need, jobs)
        if jobs < 2 or conf.gpus == 0 or not may_see_gpus(os.environ):
            return ""
        from hsm.core.gpu.gpu_texts import unshared_hint
        from hsm.core.gpu.visible import count_visible

        return unshared_hint(count_visible(os.environ), conf.env, params, spelled)

    def prepare(
        self, function: Callable[[Any], Any] | None, script: KeptScript | None = None
    ) -> Work:
        """Start the server for a function (None: for commands), unless it is already running.

        Call this before starting threads: a function's server is forked from this process.

        Raises:
            CannotSpawn: start_method is spawn, and the function cannot be spawned.
            CannotStart: neither fork nor spawn would work.
        """
        self._descriptors.keep_up()
        return self._servers.prepare(function, script)

    def lack(self) -> str:
        return self._memory.lack()

    def found_gpus(self) -> FoundGpus | None:
        if self.gpus is not None:
            return self.gpus.found
        if self._conf.gpus != 0:
            return None
        from hsm.core.gpu.visible import NO_GPUS  # as few sweeps need it

        return NO_GPUS

    def facts(self) -> dict[str, Any]:
        if self.gpus is None:
            return {}
        from hsm.core.gpu.gpu_texts import launch_facts  # as few sweeps need it

        return launch_facts(self.gpus.allowed)

    def get_ready(self, is_wanted: Callable[[], bool], notice: Callable[[str], None]) -> None:
        self._servers.wait_for_imports(is_wanted, notice)

    def allow(self, jobs: int | str) -> int:
        conf = replace(self._conf, max_parallel_jobs=jobs)
        gpus = () if self.gpus is None else self.gpus.allowed
        places: int = with_places(conf, gpus).max_parallel_jobs
        self._descriptors.allow(places)
        self._shares.allow(places)
        return places

    def attempt(self, work: Work, launch: Launch) -> LocalAttempt:
        self._memory.get_ready()
        server, slot = self._servers.slot(work, launch)
        share = self._shares.take(launch.env)
        name = self._names.of(launch.root, launch.num)
        clean = partial(self._clean, name, share)
        try:
            with Obstacles("write its temporary files"):
                temporary = self._scratch.make(name)
                env = {**launch.env, **share.variables, "TMPDIR": temporary}
                launch = launch._replace(env=env, cpus=share.cpus)
                launch, facts = self._with_payload(work, launch, server, name)
                launch = self._with_script(launch, server)
        except BaseException:
            server.give_back(slot)
            clean()
            raise
        return LocalAttempt(launch, server, slot, self._memory, clean, facts)

    def _clean(self, name: str, share: Share) -> None:
        self._shares.give_back(share)
        self._scratch.clean(name)

    def _with_payload(
        self, work: Work, launch: Launch, server: ForkServer, name: str
    ) -> tuple[Launch, Path | None]:
        """Give a function's job a command to exec, if the server does not carry the function.

        Ask the server, since the replacement of a lost one may be of the other kind.

        Returns:
            What to start, and where such a job leaves the facts of its report.
        """
        if not isinstance(work, FunctionWork) or server.carries_function:
            return launch, None
        assert work.payload is not None
        assert launch.argument is not None
        folder = self._scratch.path
        path = folder / f"argument-{name}"
        path.write_bytes(launch.argument)
        work.payload.restore(folder)
        command = work.payload.command(path, Path(launch.result))
        return launch._replace(command=command, argument=None), work.payload.facts_beside(path)

    def _with_script(self, launch: Launch, server: ForkServer) -> Launch:
        """Make a job run its Python script as the sweep has read it, not the file."""
        if launch.script is None:
            return launch
        assert launch.command is not None
        command = launch.script.command(launch.command, self._scratch.path)
        if server.carries_script:
            argument = pickle.dumps((launch.command, command[2]))
            return launch._replace(command=None, script=None, argument=argument)
        return launch._replace(command=command, script=None)

    def close(self) -> None:
        with ExitStack() as stack:  # closes all of them, last one first, even if one raises
            if self.gpus is not None:
                stack.callback(self.gpus.close)
            stack.callback(self._descriptors.close)
            stack.callback(self._scratch.close)
            stack.callback(self._servers.close)
            stack.callback(self._memory.close)
