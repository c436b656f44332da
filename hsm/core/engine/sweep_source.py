"""SweepSource: everything about a source that does not depend on where its jobs run.

submit_jobs --> submission --JobHandles--> Scheduler --> Backend: jobs' processes
|                          |
Journal                 SweepObservers
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hsm.core.engine import at_exit
from hsm.core.engine.adding import Additions, ProgramAdder
from hsm.core.engine.backend import Backend
from hsm.core.engine.compute_source import SweepObserver
from hsm.core.engine.control import Controller
from hsm.core.engine.interrupts import (
    Interruption,
    deferred,
    keyboard_interruption,
)
from hsm.core.engine.live_source import LiveSource
from hsm.core.engine.observers import Observers
from hsm.core.engine.own_threads import OWN_THREADS
from hsm.core.engine.scheduler import Scheduler
from hsm.core.engine.steering import Steering
from hsm.core.engine.submission import JobSpec, OpenSweep, claim, give_back, make_specs, record
from hsm.core.errors import HsmError, SettingsError
from hsm.core.own_process import open_closed_streams
from hsm.core.program.params import plain_points
from hsm.core.program.program import Program, find_program
from hsm.core.record.job import JobState
from hsm.core.record.journal import Journal, JournalLost
from hsm.core.record.listener import Listener
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.requests import drop_requests
from hsm.core.record.resume import Resumption, save_files
from hsm.core.record.sweep_id import check_sweep_id
from hsm.core.settings.point_needs import take_all_needs
from hsm.core.settings.resolve import SETTINGS, Rerun, SweepConf

#: Seconds after which a wait looks whether there was a signal.
_LONGEST_WAIT = 1.0


class SweepSource(LiveSource):
    """Runs the jobs of sweeps on a backend.

    Args:
        backend: where the jobs run; the source closes it.
        conf: the settings, already checked.
        asked: the same before the place made numbers of what it decides, for the journal.
        observers: get the events.
        function, command, script, args_style: what jobs run by default, see `submit_jobs`.
    """

    def __init__(
        self,
        backend: Backend,
        conf: SweepConf,
        *,
        asked: SweepConf | None = None,
        observers: Iterable[SweepObserver] = (),
        function: Callable[[Any], Any] | None = None,
        command: str | Sequence[str] | None = None,
        script: str | os.PathLike[str] | None = None,
        args_style: str | None = None,
    ) -> None:
        open_closed_streams()  # before there is a journal
        self.conf = conf
        self._asked = asked or conf
        self._backend = backend
        self._observers = Observers(observers, self.running, shows_output=conf.show_output)
        self.observers = self._observers.all
        self._default = (function, command, script, args_style)
        self._mutex = threading.RLock()  # guards the next two attributes
        self._sweeps: dict[Path, OpenSweep] = {}
        self._closed = False
        self._interrupted = threading.Lock()  # guards `interruption`
        self._scheduler = Scheduler(conf, backend, self._observers)
        self._ledger = self._scheduler.ledger
        self._steering = Steering(self._scheduler, self._ledger)
        #: Adds jobs when somebody asks.
        self.additions = Additions(self._ledger, self._observers)
        self._controller = Controller(
            self._steering,
            self._journals,
            self.interrupt,
            self._observers,
            self.additions.add,
        )
        self._listener = Listener(
            self._controller.take, f"{OWN_THREADS}control", self._check_journal
        )
        #: What ended everything early: a signal, `hsm cancel`, or a lost journal.
        self.interruption: Interruption | None = None
        #: Settings that whoever started this has named. A resumed sweep takes over others that were
        #: changed while it ran.
        self.named: Collection[str] = SETTINGS
        #: The descriptor for the stdout of on_sweep_end; None for this process's stdout.
        self.hook_stdout: int | None = None
        at_exit.add(self)

    # --- submitting ---

    def submit_jobs(
        self,
        param_combinations: Sequence[Mapping[str, Any]],
        sweep_id: str,
        sweep_dir: str | Path,
        *,
        function: Callable[[Any], Any] | None = None,
        command: str | Sequence[str] | None = None,
        script: str | os.PathLike[str] | None = None,
        args_style: str | None = None,
        resume: bool | None = None,
    ) -> list[str]:
        if function is None and command is None and script is None:
            function, command, script, style = self._default
            args_style = args_style or style
        program = find_program(function, command, script, args_style)
        points = plain_points(param_combinations)
        check_sweep_id(sweep_id, "submit_jobs")
        paths = SweepPaths(sweep_dir)
        resumes = self.conf.resume if resume is None else resume
        with self._mutex:
            sweep = self._sweeps.get(paths.sweep_dir)
            if sweep is None:
                return self._begin(points, program, sweep_id, paths, resumes=resumes)
            if sweep.resumption is not None:
                sweep_id = sweep.resumption.sweep_id
            return self._submit_more(sweep, sweep_id, sweep.as_begun(program), points)

    def _begin(
        self,
        points: Sequence[dict[str, Any]],
        program: Program,
        sweep_id: str,
        paths: SweepPaths,
        *,
        resumes: bool,
    ) -> list[str]:
        """Submit the first jobs of a new or resumed sweep."""
        needs = take_all_needs(points, self.conf.resources)
        lock, resumption = claim(paths, program, self.conf, resumes=resumes)
        try:
            specs = make_specs(points, needs, program, paths, resumption=resumption)
            for note in program.notes:
                self._observers.message(note)
            sweep_id = sweep_id if resumption is None else resumption.sweep_id
            ids = self.submit(
                specs,
                sweep_id,
                paths.sweep_dir,
                function=program.function,
                lock=lock,
                files=program.files(),
                program=program.record(),
                resumption=resumption,
            )
        finally:
            if self.has(paths):
                self._sweeps[paths.sweep_dir].as_begun(program)
            else:
                give_back(lock, resumption)
        sweep = self._sweeps[paths.sweep_dir]
        more = partial(self._submit_more, sweep, sweep_id, program)
        first = points[0] if points else {}
        self.additions.begins(paths, ProgramAdder(program, first, more), resumption)
        return ids

    def _submit_more(
        self,
        sweep: OpenSweep,
        sweep_id: str,
        program: Program,
        points: Sequence[dict[str, Any]],
        begin: Callable[[], None] | None = None,
    ) -> list[str]:
        """Submit further jobs of a sweep; calls `begin` when nothing can be refused any more."""
        needs = take_all_needs(points, self.conf.resources)
        with self._mutex:
            first, resumption, paths = sweep.next_num, sweep.resumption, sweep.journal.paths
            specs = make_specs(points, needs, program, paths, first=first, resumption=resumption)
            if begin is not None:
                self._check_open(though_stopped=False)
                begin()
            return self.submit(
                specs,
                sweep_id,
                paths.sweep_dir,
                function=program.function,
                though_stopped=begin is not None,
            )

    @deferred()  # A job that is on record but in no queue would never end.
    def submit(
        self,
        specs: Sequence[JobSpec],
        sweep_id: str,
        sweep_dir: str | Path,
        *,
        function: Callable[[Any], Any] | None = None,
        lock: LockFile | None = None,
        files: Mapping[str, str] | None = None,
        program: Mapping[str, Any] | None = None,
        resumption: Resumption | None = None,
        though_stopped: bool = False,
    ) -> list[str]:
        """Like `submit_jobs`, for jobs that the caller has numbered and labelled.

        Args:
            specs: the jobs.
            sweep_id: the sweep's id.
            sweep_dir: the sweep's directory.
            function: called by the jobs that have no command.
            lock: the sweep directory's lock, if the caller holds it; the source releases it.
            files: texts of the script and configs, by name, for a later resume to compare with.
            program: what the jobs run, for the journal.
            resumption: knows the sweep's earlier jobs, if the sweep is resumed.
            though_stopped: record the jobs even if the source was stopped; they end CANCELLED.

        Raises:
            SettingsError: a job has no command and there is no function.
            SweepInUse: another launcher is using the directory.
            HsmError: the source takes no more jobs, the backend cannot run the function, or the
                directory or the id is another sweep's of this source.
        """
        if function is None and any(spec.command is None for spec in specs):
            message = "submit: jobs without a command need a function"
            raise SettingsError("function", None, "submit", "a callable", message=message)
        with self._mutex:
            self._check_open(though_stopped)
            # First, while there are no threads: this may fork a fork server from this process.
            paths = SweepPaths(sweep_dir)
            begins = not self.has(paths)
            script = next((spec.script for spec in specs if spec.script), None) if begins else None
            note = self._backend.expect(sum(spec.runs for spec in specs))
            work = self._backend.prepare(function, script)
            sweep = self._sweep(sweep_id, paths, lock, program, resumption)
            if files:
                save_files(sweep.journal.paths, files)
            self._observers.prepare(sweep.journal.paths)
            handles = sweep.handles(specs, work)
            record(sweep.journal, specs, handles)
            with suppress(OSError):  # The journal keeps the line until the disk has room.
                work.record_how(sweep.journal)
        self._ledger.add(handles)
        waiting = [handle for handle in handles if not handle.is_over]
        self._observers.jobs_submitted([handle.job for handle in waiting])
        over = len(handles) - len(waiting)
        if over:
            done = "are already done and " if isinstance(self.conf.rerun, Rerun) else ""
            self._observers.message(f"{over} of {len(handles)} jobs {done}will not run again")
        if note is not None:
            self._observers.message(note)
        if begins and (why := sweep.journal.unknown_source):
            self._observers.message(f"the state of the repository is not fully on record: {why}")
        if begins and resumption is not None:
            self._controller.take_over(resumption.changes, self.conf, self.named)
        self._scheduler.run(handles)
        return [handle.job.job_id for handle in handles]

    def _check_open(self, though_stopped: bool) -> None:
        stopped = self._ledger.stopped
        if self._closed or (stopped is not None and not though_stopped):
            reason = stopped.reason if stopped else "it is closed"
            raise HsmError(f"this source takes no more jobs: {reason}")

    def _sweep(
        self,
        sweep_id: str,
        paths: SweepPaths,
        lock: LockFile | None,
        program: Mapping[str, Any] | None,
        resumption: Resumption | None,
    ) -> OpenSweep:
        sweep = self._sweeps.get(paths.sweep_dir)
        if sweep is None:
            self._check_id_is_new(sweep_id)
            drop_requests(paths)
            sweep = OpenSweep.at(paths, sweep_id, self._asked, program, lock, resumption)
            self._sweeps[paths.sweep_dir] = sweep
            sweep.journal.tell_to(self._observers.warn, self._journal_lost)
            self._controller.begins(sweep.journal)
            self._listener.add(paths)
        elif (held := sweep.journal.sweep_id) != sweep_id:
            raise HsmError(f"{paths.sweep_dir} holds sweep {held}, not {sweep_id}")
        return sweep

    def _check_id_is_new(self, sweep_id: str) -> None:
        """Refuse a second sweep of one id, since ids of jobs begin with it."""
        for journal in self._journals():
            if journal.sweep_id == sweep_id:
                where = journal.paths.sweep_dir
                raise HsmError(f"this source has a sweep {sweep_id} already, in {where}")

    def _journals(self) -> list[Journal]:
        return [sweep.journal for sweep in list(self._sweeps.values())]

    def has(self, paths: SweepPaths) -> bool:
        """Whether this source started or resumed the sweep in that directory."""
        return paths.sweep_dir in self._sweeps

    # --- waiting and ending ---

    def wait(
        self, job_ids: Sequence[str] | None = None, timeout: float | None = None
    ) -> dict[str, JobState]:
        ended = threading.Event()
        ids = self.when_ended(job_ids, ended.set)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        try:
            # Python sees a signal that comes just before a wait begins only when that is over.
            while not ended.is_set() and (left := deadline - time.monotonic()) > 0:
                ended.wait(min(left, _LONGEST_WAIT))
        except KeyboardInterrupt:
            # Otherwise the interpreter would wait at its exit for all jobs that are still queued.
            self.interrupt(keyboard_interruption())
            raise
        return {job_id: self._ledger[job_id].job.state for job_id in ids}

    def interrupt(self, interruption: Interruption) -> None:
        """End everything: cleanly the first time, without any grace from the second time on.

        Returns at once. The first interruption is kept, except that a signal replaces an earlier
        one that was not a signal: a signal is meant for the whole program, not just the sweep.
        """
        with self._interrupted:
            earlier = self.interruption
            if earlier is None or (earlier.signum is None and interruption.signum is not None):
                self.interruption = interruption
        self.stop(interruption.reason, grace=None if earlier is None else 0.0)

    def close(self, *, cancel: bool = False) -> None:
        with self._mutex:
            if self._closed:
                return
            self._closed = True
        with deferred() as interrupts:
            try:
                if cancel:
                    self.stop("cancelled")
                interrupts.wait(self, None)
            except BaseException:
                # Not a signal, but say an exception of a handler of the app's.
                self.stop("cancelled", grace=0)
                self._scheduler.wait()
                raise
            finally:
                self._free()

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if exc_type is KeyboardInterrupt and self.interruption is None:
            self.interrupt(keyboard_interruption())
        super().__exit__(exc_type, *exc_info)

    def forget_jobs(self) -> None:
        """Free the memory of very many jobs; only for a source that nobody asks about them."""
        self._ledger.clear()

    def _free(self) -> None:
        stopped = self._ledger.stopped
        at_exit.discard(self)
        self._listener.stop()
        try:
            self._scheduler.close()
        finally:  # Complete the journals even if that failed.
            for sweep in self._sweeps.values():
                sweep.journal.close(stopped.reason if stopped else "finished")
        if self.conf.on_sweep_end is not None:
            # Few sweeps have one, and what it needs would make each fork of this process dearer.
            from hsm.core.engine.end_hook import run_hooks

            run_hooks(
                self.conf.on_sweep_end,
                [journal.paths for journal in self._journals()],
                self.conf.kill_grace,
                self._observers.warn,
                stdout=self.hook_stdout,
            )

    def _check_journal(self, paths: SweepPaths) -> None:
        """Check that the journal is still this source's, since hours may pass between writes."""
        with suppress(JournalLost):  # The journal has called `_journal_lost`.
            self._sweeps[paths.sweep_dir].journal.look()

    def _journal_lost(self, reason: str) -> None:
        """Stop everything: a sweep's journal can no longer be written."""
        self._observers.warn(reason)
        self.interrupt(Interruption(lost=reason))
