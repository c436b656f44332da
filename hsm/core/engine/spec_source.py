"""SpecSource: a source of jobs that their caller has numbered and labelled.

submit --JobSpecs--> JobHandles --> Scheduler --> Backend: jobs' processes
|                          |
Journal                 SweepObservers
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hsm.core.engine import at_exit
from hsm.core.engine.adding import Additions
from hsm.core.engine.backend import Backend
from hsm.core.engine.compute_source import SweepObserver
from hsm.core.engine.control import Controller
from hsm.core.engine.in_flight import Feeding
from hsm.core.engine.interrupts import Interruption, deferred, keyboard_interruption
from hsm.core.engine.live_source import LiveSource
from hsm.core.engine.observers import Observers
from hsm.core.engine.scheduler import Scheduler
from hsm.core.engine.steering import Steering
from hsm.core.engine.submission import (
    JobSpec,
    OpenSweep,
    check_gpu_words,
    earlier_ends,
    plain_settings,
    record,
)
from hsm.core.errors import HsmError, SettingsError
from hsm.core.own_process import open_closed_streams
from hsm.core.own_threads import OWN_THREADS
from hsm.core.program.kept_script import KeptScript
from hsm.core.record.job import JobState
from hsm.core.record.journal import Journal, JournalLost
from hsm.core.record.listener import Listener
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.requests import drop_requests
from hsm.core.record.resume import Resumption, save_files
from hsm.core.settings.resolve import SETTINGS, Rerun, SweepConf
from hsm.core.settings.spelling import Spelling, in_python

#: Seconds after which a wait looks whether there was a signal.
_LONGEST_WAIT = 1.0


class SpecSource(LiveSource):
    """The part of `SweepSource` that knows nothing of points.

    Args:
        backend: where the jobs run; the source closes it.
        conf: the settings, already checked.
        asked: the same before the place made numbers of what it decides, for the journal.
        observers: get the events.
    """

    def __init__(
        self,
        backend: Backend,
        conf: SweepConf,
        *,
        asked: SweepConf | None = None,
        observers: Iterable[SweepObserver] = (),
    ) -> None:
        open_closed_streams()  # before there is a journal
        self.conf = conf
        self._asked = asked or conf
        self._backend = backend
        self._observers = Observers(observers, self.running, shows_output=conf.show_output)
        self.observers = self._observers.all
        self._mutex = threading.RLock()  # guards the next two attributes
        self._sweeps: dict[Path, OpenSweep] = {}
        self._closed = False
        self._interrupted = threading.Lock()  # guards `interruption`
        self._scheduler = Scheduler(conf, backend, self._observers)
        self._scheduler.asked = self._asked.max_parallel_jobs
        self._ledger = self._scheduler.ledger
        self._steering = Steering(self._scheduler, self._ledger)
        #: Adds jobs when somebody asks.
        self.additions = Additions(self._ledger, self._observers)
        self._controller = Controller(
            self._steering, self._journals, self.interrupt, self._observers, self.additions.add
        )
        self._listener = Listener(
            self._controller.take, f"{OWN_THREADS}control", self._check_journal
        )
        #: What ended everything early: a signal, `hsm cancel`, or a lost journal.
        self.interruption: Interruption | None = None
        #: Settings that whoever started this has named. A resumed sweep takes over others that were
        #: changed while it ran.
        self.named: Collection[str] = SETTINGS
        #: Writes settings in hints, as whoever started this would set them.
        self.spelled: Spelling = in_python
        self._note: str | None = None  # of the backend's, which nobody has seen yet
        self._why_no_more = ""  # jobs come, although some are missing
        self._facts: dict[Path, dict[str, Any]] = {}  # of sweeps, by their directories
        #: The descriptor for the stdout of on_sweep_end; None for this process's stdout.
        self.hook_stdout: int | None = None
        at_exit.add(self)

    # --- submitting ---

    def get_ready(
        self,
        function: Callable[[Any], Any] | None,
        jobs: int,
        script: KeptScript | None = None,
    ) -> None:
        """Prepare the place for jobs before the first one is known.

        What finds out that one may import much that would then be in the memory of each job.

        Args:
            function: what `submit` will be given.
            jobs: how many there will be.
            script: the script that the jobs will run.

        Raises:
            HsmError: the backend cannot run it.
        """
        with self._mutex:
            self._check_open(though_stopped=False)
            self._note = self._backend.expect(min(jobs, self.places))
            self._backend.prepare(function, script)

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
        """Queue jobs that the caller has numbered and labelled; returns their ids.

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
        check_gpu_words(specs, self._backend.found_gpus())
        with self._mutex:
            self._check_open(though_stopped)
            # First, while there are no threads: this may fork a fork server from this process.
            paths = SweepPaths(sweep_dir)
            begins = not self.has(paths)
            script = next((spec.script for spec in specs if spec.script), None) if begins else None
            note = self._expect(count := self._expected(specs, paths))
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
        if begins:
            known = self._facts.get(paths.sweep_dir, {})
            facts = {"settings": plain_settings(self._asked), **known}
            self._observers.sweep_begun(facts, earlier_ends(specs, resumption))
        waiting = [handle for handle in handles if not handle.is_over]
        self._observers.jobs_submitted([handle.job for handle in waiting])
        self._tell_over(len(handles) - len(waiting), len(handles), resumption, paths)
        if note is not None:
            self._observers.message(note)
        if begins:
            self._tell_of_begin(specs, min(count, self.places), sweep.journal.unknown_source)
        if begins and resumption is not None:
            self._controller.take_over(resumption.changes, self.conf, self.named)
        self._scheduler.run(handles)
        return [handle.job.job_id for handle in handles]

    def _expect(self, jobs: int) -> str | None:
        """Have the backend expect these; returns what it has to say, which may be from before."""
        note, self._note = self._backend.expect(jobs) or self._note, None
        return note

    def _expected(self, specs: Sequence[JobSpec], paths: SweepPaths) -> int:
        """How many jobs there are to run, at least as far as they can run at once."""
        count = sum(spec.runs for spec in specs)
        comes_later = self._steering.feeds and "planned" not in self._facts.get(paths.sweep_dir, {})
        return max(count, self.places) if comes_later else count

    def _tell_of_begin(self, specs: Sequence[JobSpec], at_once: int, unknown_source: str) -> None:
        """Tell what people should know of a sweep that begins.

        Args:
            specs: its first jobs.
            at_once: how many run at once.
            unknown_source: what is not on record of the code that runs, and why.
        """
        params = specs[0].params if specs else {}
        if about := self._backend.about_gpus(at_once, params, self.spelled):
            self._observers.message(about)
        if unknown_source:
            text = f"the state of the repository is not fully on record: {unknown_source}"
            self._observers.message(text)

    def _tell_over(
        self, over: int, count: int, resumption: Resumption | None, paths: SweepPaths
    ) -> None:
        """Tell how many jobs do not run again; once, if they come a few at a time."""
        if self._steering.feeds:
            planned = self._facts.get(paths.sweep_dir, {}).get("planned")
            if resumption is None:
                return
            if planned is None or planned > count:
                over, count = resumption.over, max(planned or 0, resumption.over)
        if over:
            done = "are already done and " if isinstance(self.conf.rerun, Rerun) else ""
            self._observers.message(f"{over} of {count} jobs {done}will not run again")

    def note(self, paths: SweepPaths, **facts: Any) -> None:
        """Have the launch record of a sweep say more, before it begins; nothing that is None.

        Args:
            paths: the sweep's.
            facts: how its points were `chosen`, how many are `planned`, and what its `points` are.
        """
        known = {name: fact for name, fact in facts.items() if fact is not None}
        self._facts.setdefault(paths.sweep_dir, {}).update(known)

    def tell(self, text: str) -> None:
        """Have observers show a line."""
        self._observers.message(text)

    def begin_feed(self, feed: Feeding) -> None:
        """Jobs are to come a few at a time, from `feed`."""
        self._steering.feeds.append(feed)

    def feed_failed(self, error: Exception) -> None:
        """No more jobs come, as those that were to come cannot be made."""
        self._why_no_more = f"no further jobs: {error}"

    def jobs_to_come(self, count: int | None) -> None:
        """Tell that so many jobs are to come, after those that were queued; None: some are."""
        self._observers.jobs_to_come(count)

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
            facts = self._backend.facts() | self._facts.get(paths.sweep_dir, {})
            sweep = OpenSweep.at(paths, sweep_id, self._asked, program, lock, resumption, facts)
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
                reason = stopped.reason if stopped else self._why_no_more or "finished"
                sweep.journal.close(reason)
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
