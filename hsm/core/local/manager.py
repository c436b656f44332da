"""LocalManager: whole sweeps on this machine, from parameters to results in one call.

    with LocalManager(max_parallel_jobs=2) as manager:
        results = manager.run([{"lr": 0.1}, {"lr": 0.01}], function=train)
    best = results.sorted_by("value")[0]

Each run has a source of its own, which is gone with everything that it held when `run` returns.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hsm.core.engine.compute_source import SweepObserver
from hsm.core.engine.display_hook import DisplayFactory, display_of
from hsm.core.engine.foreground import run_to_end
from hsm.core.engine.interrupts import Interruption, deliver
from hsm.core.errors import HsmError
from hsm.core.local.local_source import LocalComputeSource
from hsm.core.program.program import find_program
from hsm.core.record.journal import JournalLost
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep_id import OUTPUT_DIR, check_sweep_id, new_sweep_id
from hsm.core.results.collect import Results, collect_results
from hsm.core.settings.resolve import UNSET, HsmConfig, resolve_local


class LocalManager:
    """Runs sweeps to their end, showing how they go, and gives their results.

    An argument that is not given comes from hsm.yaml, then the environment (HSM_LOCAL_*), then the
    built-in default. Thread-safe: runs in several threads, and several managers, go on side by
    side, each run with `max_parallel_jobs` slots of its own.

    As a context manager it ends, on leaving the block, what still runs in other threads.

    Args:
        max_parallel_jobs: jobs that run at the same time.
        timeout: seconds that a job may take; None for no limit.
        show_output: show every line that jobs print, as they print it.
        cleanup_on_exit: remove each job's temporary directory when it has ended.
        observers: are told what happens.
        display: makes the display of a sweep; hsm's own by default.
        settings: any other field of `LocalConf`, such as ``kill_grace=1`` or ``progress="none"``.

    Attributes:
        conf: the settings that hold.
        results: of the run that ended last, also if it was interrupted; None before that.

    Raises:
        SettingsError: a setting is not what it may be.
    """

    def __init__(
        self,
        max_parallel_jobs: int = UNSET,
        timeout: float | None = UNSET,
        show_output: bool = UNSET,
        cleanup_on_exit: bool = UNSET,
        *,
        observers: Iterable[SweepObserver] = (),
        display: DisplayFactory | None = None,
        **settings: Any,
    ) -> None:
        settings["max_parallel_jobs"] = max_parallel_jobs
        settings["timeout"] = timeout
        settings["show_output"] = show_output
        settings["cleanup_on_exit"] = cleanup_on_exit
        resolved = resolve_local(settings)
        self.conf = resolved.conf
        self.results: Results | None = None
        self._hsm_config: HsmConfig = resolved.hsm_config
        self._observers = list(observers)
        self._display = display
        self._changed = threading.Condition()  # guards the next two
        self._sources: set[LocalComputeSource] = set()
        self._closed = False

    def run(
        self,
        param_combinations: Sequence[Mapping[str, Any]],
        *,
        function: Callable[[Any], Any] | None = None,
        command: str | Sequence[str] | None = None,
        script: str | os.PathLike[str] | None = None,
        sweep_id: str | None = None,
        sweep_dir: str | os.PathLike[str] | None = None,
        resume: bool | None = None,
    ) -> Results:
        """Run one job per parameter combination and wait for all of them.

        That some jobs fail raises nothing: the results tell. In the main thread, Ctrl-C, SIGTERM
        and SIGHUP end the jobs in good order, and a second one at once; what was achieved is then
        in `results`, and the signal goes its usual way: Ctrl-C leaves as KeyboardInterrupt. A
        sweep that `hsm cancel` has ended returns: the program goes on.

        Args:
            param_combinations: each job's parameters, by name; JSON must hold them.
            function: what jobs run: called with a job's parameters.
            command: or what to exec: a list of words, in which ``{name}`` is a parameter.
            script: or a script, which gets the parameters as arguments ``name=value``. If none of
                the three is given, hsm.yaml says what jobs run.
            sweep_id: the sweep's id; a new one by default.
            sweep_dir: its directory, by default named after its id, in hsm.yaml's output_dir or in
                ``outputs``. One that holds an earlier sweep is refused, unless that is resumed.
            resume: go on with the sweep in `sweep_dir`, if there is one: jobs are known by their
                parameters, and those that completed do not run again. By default, the setting.

        Raises:
            SettingsError: nothing says what jobs run, or something that was given is not possible.
            HsmError: the manager is closed, or another launcher works in `sweep_dir`.
            JournalLost: another launcher has taken the sweep over, or its record cannot be written.
            KeyboardInterrupt: there was a Ctrl-C.
            SystemExit: there was a SIGTERM or SIGHUP, and nobody else handles it.
        """
        program = find_program(
            function, command, script, caller="LocalManager.run", hsm_config=self._hsm_config
        )
        if sweep_id is not None:
            check_sweep_id(sweep_id, "LocalManager.run")
        else:
            sweep_id = new_sweep_id(program.name)
        if sweep_dir is None:
            sweep_dir = Path(self._hsm_config.output_dir or OUTPUT_DIR).expanduser() / sweep_id
        paths = SweepPaths(Path(sweep_dir))
        submission = {**program.arguments(), "resume": resume}
        source = self._new_source()
        try:
            interruption = self._run(source, param_combinations, sweep_id, paths, submission)
        finally:
            with self._changed:
                self._sources.discard(source)
                self._changed.notify_all()
        results = self.results = collect_results(paths.sweep_dir)
        if interruption is not None and interruption.lost:
            raise JournalLost(interruption.lost)
        if interruption is not None and interruption.signum is not None:
            deliver(interruption.signum)
        return results

    def close(self) -> None:
        """Take no more sweeps, end those that still run in other threads and wait. Idempotent."""
        with self._changed:
            self._closed = True
            sources = list(self._sources)
        reason = "the LocalManager was closed"
        for source in sources:
            source.stop(reason)
        try:
            self._wait_for_runs()
        except BaseException:
            # Ctrl-C: no patience any more, but still nothing left behind.
            for source in sources:
                source.stop(reason, grace=0)
            self._wait_for_runs()
            raise

    def _wait_for_runs(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._sources)

    def __enter__(self) -> LocalManager:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _new_source(self) -> LocalComputeSource:
        with self._changed:
            if self._closed:
                raise HsmError("this LocalManager is closed")
            source = LocalComputeSource.from_conf(self.conf, observers=self._observers)
            self._sources.add(source)
            return source

    def _run(
        self,
        source: LocalComputeSource,
        param_combinations: Sequence[Mapping[str, Any]],
        sweep_id: str,
        paths: SweepPaths,
        submission: Mapping[str, Any],
    ) -> Interruption | None:
        """Run a sweep to its end; returns what interrupted it, or None."""
        display = display_of(source, paths, sweep_id, make=self._display)
        _, interruption = run_to_end(
            source,
            lambda: source.submit_jobs(param_combinations, sweep_id, paths.sweep_dir, **submission),
            display,
        )
        if interruption is not None:
            display.message(f"{interruption.headline}: the jobs were ended")
        display.summary()
        return interruption
