"""LocalManager: a whole sweep on this machine, from parameters to results in one call.

    with LocalManager(max_parallel_jobs=2) as manager:
        results = manager.run([{"lr": 0.1}, {"lr": 0.01}], function=train)
    best = results.sorted_by("value")[0]

    manager.optimize({"lr": "tag(log, interval(1e-5, 1e-1))"}, function=train, n_trials=50)

Each run has its own source, which is closed when `run` returns.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hsm.core.engine.compute_source import SweepObserver
from hsm.core.engine.display_hook import DisplayFactory, display_of
from hsm.core.engine.foreground import Jobs, run_to_end
from hsm.core.engine.interrupts import Interruption, burst, deferred, deliver
from hsm.core.errors import HsmError
from hsm.core.local.local_source import LocalComputeSource
from hsm.core.program.program import Program, find_program
from hsm.core.record.journal import JournalLost
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep_id import OUTPUT_DIR, check_sweep_id, new_sweep_id
from hsm.core.results.collect import collect_results
from hsm.core.results.results_table import Results
from hsm.core.settings.resolve import UNSET, HsmConfig, LocalConf, resolve_local


class _Sweep(NamedTuple):
    """What a run of a manager runs, and where."""

    program: Program
    sweep_id: str
    paths: SweepPaths


class LocalManager:
    """Runs whole sweeps, shows their progress, and returns their results.

    Settings that are not given come from hsm.yaml, then the environment (HSM_LOCAL_*), then the
    built-in defaults. Thread-safe: several threads may run sweeps at once, with one manager or
    several; each run has `max_parallel_jobs` slots of its own.

    As a context manager it ends, on leaving the block, sweeps that still run in other threads.

    Args:
        max_parallel_jobs: jobs that run at the same time; "auto" for as many as there is room for.
        timeout: seconds that a job may take; None for no limit.
        show_output: show every line that jobs print, as they print it.
        cleanup_on_exit: remove each job's temporary directory when the job has ended.
        observers: notified of what happens to jobs.
        display: makes the display of a sweep; hsm's own by default.
        settings: any other field of `LocalConf`, such as ``kill_grace=1`` or ``progress="none"``.

    Attributes:
        conf: the resolved settings.
        results: the results of the last run that ended, even if interrupted; None before the first.

    Raises:
        SettingsError: a setting has an invalid value.
    """

    def __init__(
        self,
        max_parallel_jobs: int | str = UNSET,
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
        self._named = [name for name, value in settings.items() if value is not UNSET]
        self.conf = resolved.conf
        self._origins = resolved.origins
        self.results: Results | None = None
        self._hsm_config: HsmConfig = resolved.hsm_config
        self._observers = list(observers)
        self._display = display
        self._runs = _Runs()

    def run(
        self,
        param_combinations: Iterable[Mapping[str, Any]],
        *,
        function: Callable[[Any], Any] | None = None,
        command: str | Sequence[str] | None = None,
        script: str | os.PathLike[str] | None = None,
        args_style: str | None = None,
        sweep_id: str | None = None,
        sweep_dir: str | os.PathLike[str] | None = None,
        resume: bool | None = None,
    ) -> Results:
        """Run one job per parameter combination and wait for all of them.

        Failed jobs raise nothing; the results report them. In the main thread, Ctrl-C, SIGTERM and
        SIGHUP end the jobs gracefully, and a second signal at once. The results so far are then in
        `results`, and the signal has its usual effect: Ctrl-C raises KeyboardInterrupt. If
        `hsm cancel` ends the sweep, this returns normally, so that the program continues.

        Args:
            param_combinations: each job's parameters by name; they must fit into JSON. May be what
                `hsm.choose_points` returns.
            function: called with each job's parameters.
            command: a list of words to exec instead, in which ``{name}`` is a parameter.
            script: a script to run instead, which gets the parameters as arguments. If none of the
                three is given, hsm.yaml names what jobs run.
            args_style: how it gets them, see `LocalComputeSource.submit_jobs`.
            sweep_id: the sweep's id; a new one by default.
            sweep_dir: its directory; by default named after the id, in hsm.yaml's output_dir or in
                ``outputs``. If it holds an earlier sweep, that sweep must be resumed.
            resume: resume the sweep in `sweep_dir`, if there is one: jobs are matched by their
                parameters, and those that completed do not run again. By default, the setting.

        Raises:
            SettingsError: there is nothing to run, or an argument has an invalid value.
            HsmError: the manager is closed, or another launcher is running in `sweep_dir`.
            JournalLost: another launcher took the sweep over, or the record cannot be written.
            KeyboardInterrupt: on Ctrl-C.
            SystemExit: on SIGTERM or SIGHUP, unless the program handles them.
        """
        what = (function, command, script, args_style)
        sweep = self._sweep("LocalManager.run", what, sweep_id, sweep_dir)

        def run(source: LocalComputeSource) -> Interruption | None:
            directory = sweep.paths.sweep_dir
            feed = source.feed_jobs(
                param_combinations, sweep.sweep_id, directory, sweep.program, resume=resume
            )
            return self._run(source, feed, sweep)

        return self._results_of(run, sweep, self.conf)

    def optimize(
        self,
        space: Mapping[str, Any],
        *,
        function: Callable[[Any], Any] | None = None,
        command: str | Sequence[str] | None = None,
        script: str | os.PathLike[str] | None = None,
        args_style: str | None = None,
        sweep_id: str | None = None,
        sweep_dir: str | os.PathLike[str] | None = None,
        resume: bool | None = None,
        n_trials: int = UNSET,
        direction: str | Sequence[str] = UNSET,
        **options: Any,
    ) -> Results:
        """Search a space for the best point: each trial's is chosen from the results so far.

        A point is chosen when its job can start. The value of a trial is what its job returns, or
        `metric` in what it returns, writes or reports. A trial whose job fails, or gives no finite
        number, has failed, and the study goes on. How it ends is as in `run`.

        Args:
            space: the values of each parameter, as for `hsm.choose_points`: a list, a text such as
                ``"tag(log, interval(1e-5, 1e-1))"``, ``"int(interval(1, 9))"`` or
                ``"range(1, 9)"``, or a single value.
            function, command, script, args_style, sweep_id, sweep_dir: as for `run`.
            resume: go on with the study in `sweep_dir`, if there is one, up to `n_trials` in all.
            n_trials: trials in all, 20 by default.
            direction: "minimize" (the default) or "maximize"; for several objectives a list.
            options: any other attribute of `hsm.core.study.options.StudyOptions`, such as
                ``metric="val_loss"``, ``sampler="tpe"``, ``pruner="asha"``, ``prune="stop"``,
                ``n_jobs=2``, ``seed=1``, ``max_time="2h"`` (or seconds), ``target=0.1``,
                ``enqueue=[{"lr": 0.1}]``, ``warm_start=["earlier"]``, ``repeat={"seed": [0, 1]}``,
                ``storage="sqlite:///study.db"``, or ``method``: the dotted path of a class with
                ``ask()`` and ``tell(id, outcome)``.

        Raises:
            SettingsError: there is nothing to run, an argument is not valid, a package is missing,
                or the sweep to resume is no such study.
            SweepChanged: the sweep to resume searched another space.
            HsmError, JournalLost, KeyboardInterrupt, SystemExit: as `run`.
        """
        from hsm.core.local.study_run import StudyRun, plan_study  # which most sweeps do without

        what = (function, command, script, args_style)
        sweep = self._sweep("LocalManager.optimize", what, sweep_id, sweep_dir)
        given = {"n_trials": n_trials, "direction": direction, **options}
        given = {name: value for name, value in given.items() if value is not UNSET}
        plan = plan_study(space, given, self.conf, "LocalManager.optimize")
        if plan.knows_keys:
            sweep.program.check(plan.keys, plan.keys)

        def run(source: LocalComputeSource) -> Interruption | None:
            with StudyRun(plan, source, sweep.program, sweep.paths, sweep.sweep_id) as study:
                interruption = self._run(source, study.jobs(resume=resume), sweep)
                study.finish()
            return interruption

        return self._results_of(run, sweep, replace(self.conf, **plan.goal))

    def _sweep(
        self,
        caller: str,
        what: tuple[Any, Any, Any, Any],
        sweep_id: str | None,
        sweep_dir: str | os.PathLike[str] | None,
    ) -> _Sweep:
        """What runs where, as the caller of `run` says. Raises SettingsError."""
        program = find_program(*what, caller=caller, hsm_config=self._hsm_config)
        if sweep_id is not None:
            check_sweep_id(sweep_id, caller)
        else:
            sweep_id = new_sweep_id(program.name)
        if sweep_dir is None:
            sweep_dir = Path(self._hsm_config.output_dir or OUTPUT_DIR).expanduser() / sweep_id
        return _Sweep(program, sweep_id, SweepPaths(Path(sweep_dir)))

    def _results_of(
        self,
        run: Callable[[LocalComputeSource], Interruption | None],
        sweep: _Sweep,
        conf: LocalConf,
    ) -> Results:
        """Run a sweep on a source of its own; what interrupted it has its usual effect."""
        make = partial(
            LocalComputeSource.from_conf, conf, observers=self._observers, origins=self._origins
        )
        source = self._runs.begin(make)
        source.named = self._named
        try:
            interruption = run(source)
        finally:
            self._runs.ended(source)
        source.forget_jobs()
        results = self.results = collect_results(sweep.paths.sweep_dir)
        if interruption is not None and interruption.lost:
            raise JournalLost(interruption.lost)
        if interruption is not None and interruption.signum is not None:
            deliver(interruption.signum)
        return results

    def close(self) -> None:
        """Accept no more sweeps, end those running in other threads, and wait. Idempotent.

        On Ctrl-C, their jobs are killed at once.
        """
        with deferred() as interrupts:
            self._runs.close()
            interrupts.wait(self._runs, None)

    def __enter__(self) -> LocalManager:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if exc_type is KeyboardInterrupt:
            burst.begin()
        self.close()

    def _run(self, source: LocalComputeSource, jobs: Jobs, sweep: _Sweep) -> Interruption | None:
        """Run a sweep until it ends; return what interrupted it, or None."""
        display = display_of(source, sweep.paths, sweep.sweep_id, make=self._display)
        interruption = run_to_end(source, jobs, display)
        if interruption is not None:
            display.message(f"{interruption.headline}: the jobs were ended")
        display.summary()
        return interruption


class _Runs:
    """The sources of a manager's runs. Closing it ends them, and a signal then kills their jobs."""

    interruption: Interruption | None = None

    def __init__(self) -> None:
        self._mutex = threading.Lock()  # guards the next three
        self._sources: set[LocalComputeSource] = set()
        self._is_closed = False
        self._waiting: list[Callable[[], None]] = []

    def begin(self, make: Callable[[], LocalComputeSource]) -> LocalComputeSource:
        """Make a run's source. Raises HsmError."""
        with self._mutex:
            if self._is_closed:
                raise HsmError("this LocalManager is closed")
            source = make()
            self._sources.add(source)
            return source

    def ended(self, source: LocalComputeSource) -> None:
        with self._mutex:
            self._sources.discard(source)
            waiting = [] if self._sources else self._waiting[:]
        for callback in waiting:
            callback()

    def close(self) -> None:
        with self._mutex:
            self._is_closed = True
        self._stop()

    def when_ended(self, job_ids: Sequence[str] | None, callback: Callable[[], None]) -> None:
        with self._mutex:
            if self._sources:
                self._waiting.append(callback)
                return
        callback()

    def interrupt(self, interruption: Interruption) -> None:
        self._stop(grace=0.0)

    def _stop(self, grace: float | None = None) -> None:
        with self._mutex:
            sources = list(self._sources)
        for source in sources:
            source.stop("the LocalManager was closed", grace=grace)
