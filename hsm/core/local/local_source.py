"""LocalComputeSource: runs the jobs of sweeps on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hsm.core.engine.compute_source import SweepObserver
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.gpu.need import gpu_need
from hsm.core.local.local_backend import LocalBackend
from hsm.core.local.places import with_places
from hsm.core.settings.origins import naming_origins
from hsm.core.settings.resolve import UNSET, LocalConf, resolve_local

_UNKNOWN: Mapping[str, str] = MappingProxyType({})


class LocalComputeSource(SweepSource):
    """Runs jobs as processes of this machine.

    Settings that are not given come from hsm.yaml, then the environment (HSM_LOCAL_*), then the
    built-in defaults.

    Args:
        max_parallel_jobs: jobs that run at the same time; "auto" for as many as there is room for.
        timeout: seconds that a job may take; None for no limit.
        show_output: pass every line that jobs print to observers; without observers, print it.
        function: what jobs run, unless `submit_jobs` is given something else; see there.
        command: the same, as a command.
        script: the same, as a script.
        args_style: how it gets its arguments.
        observers: notified of what happens to jobs.
        settings: any other field of `LocalConf`, such as ``kill_grace=1`` or ``max_retries=2``.

    Raises:
        SettingsError: a setting has an invalid value.
    """

    def __init__(
        self,
        max_parallel_jobs: int | str = UNSET,
        timeout: float | None = UNSET,
        show_output: bool = UNSET,
        *,
        function: Callable[[Any], Any] | None = None,
        command: str | Sequence[str] | None = None,
        script: str | os.PathLike[str] | None = None,
        args_style: str | None = None,
        observers: Iterable[SweepObserver] = (),
        **settings: Any,
    ) -> None:
        settings["max_parallel_jobs"] = max_parallel_jobs
        settings["timeout"] = timeout
        settings["show_output"] = show_output
        resolved = resolve_local(settings)
        asked = resolved.conf
        with naming_origins(resolved.origins):
            backend, conf = _open(asked)
        super().__init__(
            backend,
            conf,
            asked=asked,
            observers=observers,
            function=function,
            command=command,
            script=script,
            args_style=args_style,
        )
        self.named = [name for name, value in settings.items() if value is not UNSET]

    @classmethod
    def from_conf(
        cls,
        conf: LocalConf,
        *,
        observers: Iterable[SweepObserver] = (),
        origins: Mapping[str, str] = _UNKNOWN,
    ) -> LocalComputeSource:
        """Make a source with settings that were already resolved and checked.

        Args:
            conf: the settings.
            observers: notified of what happens to jobs.
            origins: where each setting came from, as far as that is known.

        Raises:
            SettingsError: this machine can never meet one of them.
        """
        source, asked = cls.__new__(cls), conf
        with naming_origins(origins):
            backend, conf = _open(asked)
        SweepSource.__init__(source, backend, conf, asked=asked, observers=observers)
        return source


def _open(asked: LocalConf) -> tuple[LocalBackend, LocalConf]:
    """Open this machine, and say with which settings: it makes numbers of what it decides."""
    if gpu_need(asked.gpus, asked.gpu_memory) is None:
        conf = with_places(asked)
        return LocalBackend(conf), conf
    from hsm.core.local.gpus import open_pool  # much of which other sweeps need nothing

    gpus = open_pool(asked)
    try:
        conf = with_places(asked, gpus.allowed)
        return LocalBackend(conf, gpus), conf
    except BaseException:
        gpus.close()
        raise
