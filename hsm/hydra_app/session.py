"""A Hydra sweep, from its launcher's setup to its end: one source, one record, for all its batches.

    launch(batch) ---+--> JobSpecs --> source --> JobReturns
    submit(point) ---'

It is closed at the end of Hydra's multirun, by a signal, or when its launchers go.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hsm.core.engine import at_exit
from hsm.core.engine.display_hook import display_of
from hsm.core.engine.interrupts import Interruption, Interrupts
from hsm.core.engine.own_threads import OWN_THREADS
from hsm.core.engine.submission import give_back
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.errors import HsmError
from hsm.core.printable import printable
from hsm.core.record.resume import Resumption
from hsm.core.record.sweep_id import new_sweep_id
from hsm.core.settings.resolve import SweepConf
from hsm.display import Display, wording
from hsm.hydra_app.frozen_config import freeze, loaded_files
from hsm.hydra_app.hydra_job import HydraJob
from hsm.hydra_app.launched import code_files, program_record
from hsm.hydra_app.refusals import launcher_errors
from hsm.hydra_app.returns import job_return
from hsm.hydra_app.specs import JobSpecs
from hsm.hydra_app.sweep_dir import SweepDir
from hsm.hydra_app.sweep_ending import (
    EndOfSweep,
    IdleHandlers,
    end_by,
    is_inside_hsm,
    resume_command,
)


class Session:
    """A sweep whose sweeper submits its jobs as it likes: in batches, one by one, from any thread.

    Its record lies in the directory that hydra.sweep.dir names when it is made. It begins with the
    first job, and ends when Hydra says that the multirun has, or with its launchers.

    Attributes:
        source: what runs its jobs.
        paths: where its record lies.
        sweep_id: its id; "" until it has begun.

    Args:
        conf: the settings of all its jobs.
        make_source: makes what runs them, with these settings.
        hydra_context, task_function, config: of the sweep, as the launcher's `setup` gets them.

    Raises:
        HsmError: the machine is not as the settings want it; the directory cannot be used.
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
        self._conf = conf
        self._config = config
        self._context = hydra_context
        self._job = HydraJob(hydra_context, config, task_function)
        self.source = make_source()
        try:
            self._sweep_dir = SweepDir(conf, config)
        except BaseException:
            self.source.close()
            raise
        self.paths = self._sweep_dir.paths
        # hsm's own; it gets its title when the sweep gets its id
        self._display = cast("Display", display_of(self.source, self.paths, ""))
        self.source.observers.append(self._display)
        self.sweep_id = ""
        self._pid = os.getpid()
        self._mutex = threading.RLock()  # guards what follows
        self._resumption: Resumption | None = None
        self._specs = JobSpecs(self.paths)
        self._saved: set[str] = set()  # names of the configs that the record has
        self._closed = False
        self._closing = threading.RLock()  # held until all is closed
        self._showing = threading.Lock()  # guards the next one
        self._waiting = 0  # calls of `launch` that wait for their jobs
        self._launchers: set[int] = set()  # their ids
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
        """The session for a launcher: the one that there is for the same sweep, or a new one.

        It ends when all its launchers have gone, if it has not before. Raises as the class does.
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
        """Whether a launcher with these would be one of the same sweep."""
        is_same = conf == self._conf and task_function is self._job.task_function
        return is_same and not self._closed and self._sweep_dir.is_meant_by(config)

    # --- its jobs ---

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        """Run one batch of jobs and wait for it.

        Args:
            job_overrides: the overrides of each job.
            initial_job_idx: number of the first. If not all the numbers are free, the jobs get the
                next free ones.

        Returns:
            What each job returned or raised, in order.

        Raises:
            LauncherError: the jobs cannot be started.
            SystemExit: a signal interrupted the sweep; the code is 128 + its number. Or it was
                cancelled; then the code is that of a SIGTERM.
        """
        if not job_overrides:
            return []
        setup_globals()
        self._configure_log()
        with self._uninterrupted() as interrupts:
            job_ids = self._submit(job_overrides, initial_job_idx)
            with self._shown():
                interrupts.wait(self.source, job_ids)
            # Here, as a signal's own handler could not ask a source that is being asked.
            returns = [
                job_return(self.source, job_id, list(given))
                for job_id, given in zip(job_ids, job_overrides, strict=True)
                if self.source.interruption is None
            ]
        self._configure_log()
        return returns

    def submit(self, overrides: Sequence[str]) -> Future[JobReturn]:
        """Queue one job, for a sweeper that does not wait for batches. Thread-safe.

        Returns:
            A future of what the job returns or raises, as `launch` would return it. It cannot be
            cancelled.

        Raises as `launch` does.
        """
        setup_globals()
        future: Future[JobReturn] = Future()
        future.set_running_or_notify_cancel()
        with self._uninterrupted():
            job_ids = self._submit([overrides], None)
            resolve = partial(self._resolve, future, job_ids[0], list(overrides))

            def ended() -> None:  # In a thread of its own: files are read, and others called back.
                self._resolver.submit(resolve)

            self.source.when_ended(job_ids, ended)
        return future

    def _resolve(self, future: Future[JobReturn], job_id: str, overrides: list[str]) -> None:
        try:
            future.set_result(job_return(self.source, job_id, overrides))
        except BaseException as error:
            future.set_exception(error)

    def _submit(self, job_overrides: Sequence[Sequence[str]], asked: int | None) -> list[str]:
        """Queue jobs; returns their ids.

        Args:
            asked: the number of the first, if the sweeper cares.
        """
        with self._mutex, launcher_errors():
            if self._closed:
                if (interruption := self.source.interruption) is not None:
                    raise SystemExit(interruption.exit_code)
                raise HsmError("the sweep has ended and takes no more jobs")
            if self.sweep_id:
                return self._hand_over(job_overrides, asked, files=self._new_files())
            function = self._job.task_function
            files = {**code_files(function), **self._new_files()}
            program = program_record(function, self._config)
            lock, self._resumption = self._sweep_dir.open(files, program)
            if self._resumption is None:
                self.sweep_id = new_sweep_id(str(self._config.hydra.job.name))
            else:
                self.sweep_id = self._resumption.sweep_id
            self._display.title = printable(self.sweep_id)
            try:
                more = {"lock": lock, "program": program, "resumption": self._resumption}
                return self._hand_over(job_overrides, asked, files=files, **more)
            except BaseException:
                if not self.source.has(self.paths):
                    self.sweep_id = ""
                    self._saved.clear()
                    self._sweep_dir.give_back()
                    give_back(lock, self._resumption)
                raise

    def _hand_over(
        self, job_overrides: Sequence[Sequence[str]], asked: int | None, **more: Any
    ) -> list[str]:
        """Give jobs to the source, with what it has to know of a sweep that begins."""
        specs = self._specs.of(job_overrides, asked, self._config, self.sweep_id, self._resumption)
        directory = self.paths.sweep_dir
        job_ids = self.source.submit(
            specs, self.sweep_id, directory, function=self._job, though_stopped=True, **more
        )
        self._specs.take(specs)
        return job_ids

    def _new_files(self) -> dict[str, str]:
        """The configs that have been used since the last call: a sweeper composes what it asks."""
        files = loaded_files(self._context.config_loader)
        new = {name: text for name, text in files.items() if name not in self._saved}
        self._saved |= new.keys()
        return new

    def _configure_log(self) -> None:
        options: dict[str, Any] = {}
        if hasattr(self._context, "execution_whitelist"):  # Hydra 1.4
            options["execution_whitelist"] = self._context.execution_whitelist
        hydra = self._config.hydra
        configure_log(hydra.hydra_logging, hydra.verbose, **options)

    @contextmanager
    def _shown(self) -> Iterator[None]:
        """Have the display live while anybody waits for jobs."""
        with self._showing:
            self._waiting += 1
            if self._waiting == 1:
                self._display.__enter__()
        try:
            yield
        finally:
            with self._showing:
                self._waiting -= 1
                if self._waiting == 0:
                    self._display.__exit__(None, None, None)

    # --- its end ---

    @contextmanager
    def _uninterrupted(self) -> Iterator[Interrupts]:
        """Have signals wait until nothing is half done: what interrupts the sweep then ends it.

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
        """A signal came while the main thread was in no method of this class.

        Returns False if there is nothing to end. Raises SystemExit.
        """
        if not self.sweep_id or self._closed:
            return False
        with Interrupts(Interruption(signum)).caught() as interrupts:
            interrupts.wait(self.source, None)
        self.end()
        return True

    def end(self) -> None:
        """End the sweep as `close` does. Raises SystemExit if it was interrupted."""
        interruption = self._close() or self.source.interruption
        if interruption is not None:
            raise SystemExit(interruption.exit_code)

    def stop(self, reason: str) -> None:
        """Start no more jobs and end those that run; returns at once."""
        self.source.stop(reason)

    def close(self) -> None:
        """Wait for the jobs, close the record and say what became of the sweep. Idempotent.

        For callers whom an exception would tell nothing: a signal that came meanwhile takes its
        usual way when all is done.
        """
        interruption = self._close()
        if interruption is not None and interruption.signum is not None:
            end_by(interruption.signum)

    def _leave(self, launcher: int) -> None:
        """A launcher has gone, and with the last one the sweep.

        Where garbage is collected, that may be in any thread, at any point of its work.
        """
        self._launchers.discard(launcher)
        if self._launchers or self._closed:
            return
        if is_inside_hsm(sys._getframe(1)):
            # This thread may hold a lock, or be one that the jobs need: it cannot wait for them.
            threading.Thread(target=self.close, name=f"{OWN_THREADS}close", daemon=True).start()
        else:
            self.close()

    def _close(self) -> Interruption | None:
        """Close what is open; returns what has interrupted the sweep, if that was not closed yet.

        A child that was forked from the launching process has nothing to do with it.
        """
        if os.getpid() != self._pid:
            return None
        with self._closing:
            if self._closed:
                return None
            with self._mutex:
                self._closed = True
            try:
                return self._finish()
            finally:
                # Last: who waits for the end, as the interpreter's exit does, waits for all of it.
                at_exit.discard(self)
                with suppress(ValueError):
                    self._context.callbacks.callbacks.remove(self._callback)

    def _finish(self) -> Interruption | None:
        try:
            with Interrupts().caught() as interrupts:
                interrupts.wait(self.source, None)
                self.source.close()
        finally:
            self._resolver.shutdown(wait=False)
            self._sweep_dir.give_back()
            self._handlers.restore()
        if self.sweep_id:
            self._report_end()
        # A signal may have ended on_sweep_end, of a sweep whose jobs had all ended.
        return self.source.interruption or interrupts.late()

    def _report_end(self) -> None:
        self._display.summary()
        if (interruption := self.source.interruption) is not None:
            lines = wording.interrupted(interruption, self.paths, resume_command(self.paths))
            print(*lines, sep="\n", file=sys.stderr)
