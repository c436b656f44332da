"""A Hydra sweep, from its launcher's setup to its end: one source and one record for all batches.

    launch(batch) ---+--> JobSpecs --> source --> JobReturns
    submit(point) ---'

The session closes when Hydra's multirun ends, on a signal, or when its launchers are deleted.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from hydra.core.utils import JobReturn, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hsm.core.engine import at_exit
from hsm.core.engine.display_hook import display_of
from hsm.core.engine.interrupts import Interruption, Interrupts
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.own_threads import OWN_THREADS
from hsm.core.settings.resolve import SweepConf
from hsm.display import Display
from hsm.hydra_app.awaited_jobs import AwaitedJobs
from hsm.hydra_app.frozen_config import freeze
from hsm.hydra_app.hydra_job import HydraJob
from hsm.hydra_app.multirun import configure_logging, failures_first, raises_failures, will_raise
from hsm.hydra_app.refusals import launcher_errors
from hsm.hydra_app.remembered_bases import remember_bases
from hsm.hydra_app.submitting import Submitter
from hsm.hydra_app.sweep_dir import SweepDir, named_settings
from hsm.hydra_app.sweep_ending import (
    EndOfSweep,
    IdleHandlers,
    end_by,
    is_inside_hsm,
    tell_interruption,
)
from hsm.hydra_app.sweep_jobs import SweepJobs

if TYPE_CHECKING:
    from hsm.core.engine.asking import AskedJob
    from hsm.core.record.resume import Resumption
    from hsm.core.study.trials import Trials


class Session:
    """A sweep whose jobs may be submitted in batches or one by one, from any thread.

    The record is written to the directory that hydra.sweep.dir names when the session is made. The
    sweep begins with the first job. It ends when Hydra reports the end of the multirun, or when the
    last of the session's launchers is deleted.

    Attributes:
        source: what runs its jobs.
        paths: the record's paths.

    Args:
        conf: the settings for all its jobs.
        make_source: makes the source.
        hydra_context: as passed to the launcher's `setup`.
        task_function: as passed to the launcher's `setup`.
        config: as passed to the launcher's `setup`.

    Raises:
        HsmError: the machine does not meet the settings, or the directory cannot be used.
    """

    def __init__(
        self,
        conf: SweepConf,
        make_source: Callable[[], SweepSource],
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
    ) -> None:
        freeze(hydra_context.config_loader)
        remember_bases(hydra_context.config_loader)
        self._conf, self._config, self._context = conf, config, hydra_context
        self._job = HydraJob(hydra_context, config, task_function)
        self.source = make_source()
        self.source.named = named_settings(config)
        try:
            self._sweep_dir = SweepDir(conf, config)
        except BaseException:
            self.source.close()
            raise
        self.paths = self._sweep_dir.paths
        # Always one of hsm's displays. Its title is set when the sweep gets its id.
        self._display = cast("Display", display_of(self.source, self.paths, ""))
        self._display.error_follows = raises_failures(config)
        self.source.observers.append(self._display)
        self._jobs = AwaitedJobs(self.source, hydra_context, self._display)
        self._submitter = Submitter(self.source, self._job, hydra_context, self._sweep_dir)
        self._handed = SweepJobs(
            self.source,
            self.paths,
            self._submitter,
            self._jobs,
            self._display,
            hydra_context,
            lambda: self._config,
        )
        self._pid = os.getpid()
        self._closing = threading.RLock()  # held until everything is closed
        self._launchers: set[int] = set()  # their id()s
        self._resolver = ThreadPoolExecutor(1, thread_name_prefix=f"{OWN_THREADS}futures")
        self._callback = EndOfSweep(self)
        hydra_context.callbacks.callbacks.append(self._callback)
        at_exit.discard(self.source)
        at_exit.add(self)
        self._handlers = IdleHandlers(self._interrupted)

    @classmethod
    def joined_by(
        cls,
        launcher: object,
        conf: SweepConf,
        make_source: Callable[[], SweepSource],
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
    ) -> Session:
        """Return the launcher's session: the existing one for the same sweep, or a new one.

        It ends when all its launchers have been deleted, if not before. Raises as the class does.
        """
        for callback in hydra_context.callbacks.callbacks:
            session = callback.session if isinstance(callback, EndOfSweep) else None
            if isinstance(session, cls) and session._is_for(conf, task_function, config):
                break
        else:
            session = cls(conf, make_source, hydra_context, task_function, config)
        session._config = config
        session._launchers.add(id(launcher))
        weakref.finalize(launcher, session._leave, id(launcher))
        return session

    def _is_for(self, conf: SweepConf, task_function: TaskFunction, config: DictConfig) -> bool:
        """Whether a launcher with these arguments belongs to this sweep."""
        is_same = conf == self._conf and task_function is self._job.task_function
        return is_same and not self._handed.closed and self._sweep_dir.is_meant_by(config)

    def earlier_choice(self) -> Mapping[str, Any]:
        """How the points of the sweep that is resumed were chosen; see `SweepDir`."""
        return self._sweep_dir.earlier_choice()

    @property
    def sweep_id(self) -> str:
        """The sweep's id; "" until it has begun."""
        return self._submitter.sweep_id

    # --- its jobs ---

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        """Run one batch of jobs and wait for it.

        Args:
            job_overrides: the overrides of each job.
            initial_job_idx: the first job's number. If any of the numbers from it is taken, the
                jobs get the next free numbers instead.

        Returns:
            What each job returned or raised, in order; but if Hydra's own sweeper will raise one of
            these, the session has ended, and jobs that failed are before those that were cancelled.

        Raises:
            LauncherError: the jobs cannot be started.
            SystemExit: a signal interrupted the sweep (code 128 + its number), or the sweep was
                cancelled (the same code as for SIGTERM).
        """
        if not job_overrides:
            return []
        setup_globals()
        configure_logging(self._context, self._config)
        with self._uninterrupted() as interrupts:
            job_ids = self._handed.submit(job_overrides, initial_job_idx)
            with self._jobs.shown():
                returns = self._jobs.returns_of(interrupts, job_ids, job_overrides, self._config)
                added = self._handed.wait_for_added(interrupts)
        return self._given_back(returns, added)

    def run(
        self,
        points: Iterator[Sequence[str]],
        planned: int | None,
        chosen: Mapping[str, Any],
        shared: Collection[str] | None,
    ) -> list[JobReturn]:
        """Run one job per point, a few of which are taken ahead of the jobs, and wait for all.

        Args:
            points: the overrides of each job; its position is the job's number.
            planned: how many there are; None if that is not known.
            chosen: how they were chosen, for the record.
            shared: the overrides that all of them have; None if that is not known.

        Returns and raises what `launch` does, and what `points` raises.
        """
        setup_globals()
        configure_logging(self._context, self._config)
        self._handed.shared = shared
        self.source.note(self.paths, chosen=chosen, planned=planned)
        self._submitter.specs.reserve(planned or 0)
        with self._uninterrupted() as interrupts:
            feed = self._jobs.feed(points, self._handed.submit, planned, interrupts, self._config)
            feed.begin(interrupts)
            with self._jobs.shown():
                feed.run(interrupts)
                returns = self._jobs.ended(feed.job_ids, feed.items)
                added = self._handed.wait_for_added(interrupts)
        return self._given_back(returns, added)

    def get_ready(self, jobs: int) -> None:
        """Prepare the place for so many jobs, before what chooses them is imported.

        Raises as `launch` does.
        """
        with self._uninterrupted(), launcher_errors():
            self.source.get_ready(self._job, jobs)

    def optimise(
        self,
        open_study: Callable[[str, Resumption | None], Trials],
        overrides: Callable[[AskedJob], list[str]],
        enqueue: Callable[[Sequence[Mapping[str, Any]]], None],
        shared: Collection[str],
    ) -> None:
        """Run the jobs of a study, each asked for when it can start, and wait for all.

        Args:
            open_study: opens it, given the sweep's id, and the earlier jobs of one that is resumed.
            overrides: those of a job.
            enqueue: takes the parameters of points that are added to the sweep.
            shared: the overrides that all jobs have.

        Raises what `launch` does, and what `open_study` and the study raise.
        """
        setup_globals()
        configure_logging(self._context, self._config)
        self._handed.shared = shared
        with self._uninterrupted() as interrupts, self._handed.opened():
            study = open_study(self.sweep_id, self._submitter.resumption)
            self._submitter.specs.reserve(study.planned)
            submit = self._handed.submit
            asking = self._jobs.asking(study, overrides, submit, interrupts, self._config)
            self._handed.enqueues(asking, enqueue)
            asking.begin(interrupts)
            with self._jobs.shown():
                asking.run(interrupts)
                self._handed.wait_for_added(interrupts)
        configure_logging(self._context, self._config)

    def _given_back(self, returns: list[JobReturn], added: Sequence[JobReturn]) -> list[JobReturn]:
        """What a sweeper gets of its jobs, and the end of a sweep of which a failure is raised."""
        configure_logging(self._context, self._config)
        if will_raise(self._config, [*returns, *added]):
            self.end()  # Now: Hydra 1.3 does not report the end of a multirun that fails.
            return failures_first([*returns, *added])
        return returns

    def submit(self, overrides: Sequence[str]) -> Future[JobReturn]:
        """Queue one job, for sweepers that do not work in batches. Thread-safe.

        Returns:
            A future of the job's JobReturn, the same as `launch` would return. It cannot be
            cancelled.

        Raises as `launch` does.
        """
        setup_globals()
        future: Future[JobReturn] = Future()
        future.set_running_or_notify_cancel()
        with self._uninterrupted():
            job_ids = self._handed.submit([overrides], None)

            def resolve() -> None:
                self._jobs.resolve(future, job_ids[0], list(overrides), self._config)

            def ended() -> None:  # in a separate thread: resolving reads files and runs callbacks
                self._resolver.submit(resolve)

            self.source.when_ended(job_ids, ended)
        return future

    # --- its end ---

    @contextmanager
    def _uninterrupted(self) -> Iterator[Interrupts]:
        """Defer signals to the end of the block; if one interrupted the sweep, end the sweep then.

        Raises SystemExit.
        """
        if self.source.interruption is not None:
            self.end()
        interrupts = Interrupts()
        try:
            with interrupts.caught():
                yield interrupts
        finally:
            if (late := interrupts.late()) is not None:
                self.source.interrupt(late)
        if self.source.interruption is not None:
            self.end()

    def _interrupted(self, signum: int) -> bool:
        """Handle a signal that came while the main thread was in no method of this class.

        Returns False if there is nothing to end. Raises SystemExit otherwise.
        """
        if not self.sweep_id or self._handed.closed:
            return False
        with Interrupts(signum).caught() as interrupts:
            interrupts.wait(self.source, None)
        self.end()
        return True

    def end(self) -> None:
        """End the sweep as `close` does. Raises SystemExit if it was interrupted."""
        interruption = self._close() or self.source.interruption
        if interruption is not None:
            raise SystemExit(interruption.exit_code)

    def stop(self, reason: str) -> None:
        """Start no more jobs and end those that are running; return at once."""
        self.source.stop(reason)

    def close(self) -> None:
        """Wait for the jobs, close the record and print the summary. Idempotent.

        For callers that cannot let an exception through, such as finalizers: a signal that arrives
        meanwhile has its usual effect once everything is closed.
        """
        interruption = self._close()
        if interruption is not None and interruption.signum is not None:
            end_by(interruption.signum)

    def _leave(self, launcher: int) -> None:
        """Forget a deleted launcher, and close the session after the last one.

        The garbage collector may call this in any thread, in the middle of anything.
        """
        self._launchers.discard(launcher)
        if self._launchers or self._handed.closed:
            return
        if is_inside_hsm(sys._getframe(1)):
            # This thread may hold a lock that the jobs need, or be one that runs them, so it must
            # not wait for them.
            threading.Thread(target=self.close, name=f"{OWN_THREADS}close", daemon=True).start()
        else:
            self.close()

    def _close(self) -> Interruption | None:
        """Close the session, once; return what interrupted the sweep, or None if nothing did.

        Does nothing in a child that was forked from the launching process.
        """
        if os.getpid() != self._pid:
            return None
        with self._closing:
            if self._handed.closed:
                return None
            try:
                # First: once it is closed, the handlers for between two batches end nothing.
                with Interrupts().caught() as interrupts:
                    with self._handed.mutex:
                        self._handed.closed = True
                    self._finish(interrupts)
            finally:
                self._handlers.restore()
                # Last, so that the interpreter's exit, which waits for the session, waits for all
                # of this.
                at_exit.discard(self)
                with suppress(ValueError):
                    self._context.callbacks.callbacks.remove(self._callback)
            # Late: the signal may have interrupted on_sweep_end, when all jobs had already ended.
            return self.source.interruption or interrupts.late()

    def _finish(self, interrupts: Interrupts) -> None:
        try:
            if self._handed.has_added:
                with self._jobs.shown():
                    self._handed.wait_for_added(interrupts)
            interrupts.wait(self.source, None)
            self.source.close()
        finally:
            self._resolver.shutdown(wait=False)
            self._sweep_dir.give_back() if self.sweep_id else self._sweep_dir.give_up()
        if self.sweep_id:
            self._display.summary()
            tell_interruption(self.source.interruption, self.paths, self._config)
