"""LocalComputeSource: runs the jobs of sweeps on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hsm.core.engine.compute_source import SweepObserver
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.local.local_backend import LocalBackend
from hsm.core.local.places import with_places
from hsm.core.settings.resolve import UNSET, LocalConf, resolve_local


class LocalComputeSource(SweepSource):
    """Runs jobs as processes of this machine.

    Settings that are not given come from hsm.yaml, then the environment (HSM_LOCAL_*), then the
    built-in defaults.

    Args:
        max_parallel_jobs: jobs that run at the same time; "auto" for as many as there are CPUs for.
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
        asked = resolve_local(settings).conf
        conf = with_places(asked)
        super().__init__(
            LocalBackend(conf),
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
        cls, conf: LocalConf, *, observers: Iterable[SweepObserver] = ()
    ) -> LocalComputeSource:
        """Make a source with settings that were already resolved and checked."""
        source, asked = cls.__new__(cls), conf
        conf = with_places(asked)
        SweepSource.__init__(source, LocalBackend(conf), conf, asked=asked, observers=observers)
        return source
