"""The jobs of a Hydra sweep from the moment they are handed over: those of a sweeper, and others.

a sweeper's batch or point --submit--> Submitter; the first ones begin the sweep
   hsm add --HydraAdder--> _add --^     wait_for_added: these no sweeper waits for
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig

from hsm.core.engine.asking import Asking
from hsm.core.engine.interrupts import Interrupts
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.errors import HsmError
from hsm.core.printable import printable
from hsm.core.record.paths import SweepPaths
from hsm.display import Display
from hsm.hydra_app.awaited_jobs import AwaitedJobs
from hsm.hydra_app.hydra_adder import HydraAdder
from hsm.hydra_app.refusals import launcher_errors
from hsm.hydra_app.submitting import Submitter

#: Takes the overrides of points that are added to a sweep; see `Adder.submit`.
Adding: TypeAlias = Callable[[Sequence[Sequence[str]], Callable[[], None]], list[str]]


class SweepJobs:
    """Hands over jobs until the sweep closes. Thread-safe.

    Args:
        source: runs them.
        paths: the sweep's.
        submitter: makes them.
        awaited: waits for them.
        display: shows the sweep, under its id.
        context: as passed to the launcher's `setup`.
        config: the sweep's config, as the sweeper has it now.

    Attributes:
        shared: the overrides that all jobs have, also those to come; None if that is not known.
        mutex: guards these.
        closed: whether no more are taken.
    """

    def __init__(
        self,
        source: SweepSource,
        paths: SweepPaths,
        submitter: Submitter,
        awaited: AwaitedJobs,
        display: Display,
        context: HydraContext,
        config: Callable[[], DictConfig],
    ) -> None:
        self._source, self._paths, self._submitter = source, paths, submitter
        self._awaited, self._display = awaited, display
        self._loader, self._config = context.config_loader, config
        self.mutex = threading.RLock()
        self.closed = False
        self.shared: Collection[str] | None = None
        self._enqueue: Adding | None = None  # takes points that are added; None: as jobs
        #: Ids and overrides of jobs for which no call waits yet, as no sweeper knows them.
        self._added: list[tuple[str, Sequence[str]]] = []

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Claim the sweep's directory, and give it back if the block begins no sweep.

        Raises:
            LauncherError: the sweep cannot start or resume there.
            SystemExit: the sweep was interrupted.
        """
        with self.mutex, launcher_errors():
            self._check_open()
            self._submitter.open(self._config())
        try:
            yield
        finally:
            with self.mutex:
                self._submitter.give_back()

    def submit(
        self, job_overrides: Sequence[Sequence[str]], asked: int | Sequence[int] | None
    ) -> list[str]:
        """Queue jobs and return their ids.

        Args:
            job_overrides: the overrides of each.
            asked: the number that the sweeper wants for the first job, if any, or of each job.

        Raises:
            LauncherError: they cannot be submitted.
            SystemExit: the sweep was interrupted.
        """
        with self.mutex, launcher_errors():
            self._check_open()
            if self._submitter.has_begun:
                return self._submitter.submit(job_overrides, asked, self._config())
            try:
                job_ids = self._submitter.begin(job_overrides, asked, self._config())
            finally:
                self._display.title = printable(self._submitter.sweep_id)
            adder = HydraAdder(
                self._loader,
                self._config,
                self._submitter.specs,
                self._enqueue or self._add,
                self.shared,
            )
            self._source.additions.begins(self._paths, adder, self._submitter.resumption)
            return job_ids

    def enqueues(
        self, asking: Asking, enqueue: Callable[[Sequence[Mapping[str, Any]]], None]
    ) -> None:
        """Have points that are added enqueued, for jobs that `asking` asks for.

        Args:
            asking: what asks for the sweep's jobs.
            enqueue: takes the parameters of points; raises HsmError if they do not fit.
        """

        def add(job_overrides: Sequence[Sequence[str]], begin: Callable[[], None]) -> list[str]:
            if not asking.more():
                raise HsmError("the sweep is ending and takes no more points")
            enqueue(self._submitter.specs.params_of(job_overrides))
            begin()
            asking.more()
            return []

        self._enqueue = add

    def _check_open(self) -> None:
        if self.closed:
            if (interruption := self._source.interruption) is not None:
                raise SystemExit(interruption.exit_code)
            raise HsmError("the sweep has ended and takes no more jobs")

    def _add(self, job_overrides: Sequence[Sequence[str]], begin: Callable[[], None]) -> list[str]:
        """Queue jobs that the sweeper knows nothing of; see `Adder.submit`."""
        with self.mutex:
            if self.closed or self._source.interruption is not None:
                raise HsmError("the sweep is ending and takes no more jobs")
            job_ids = self._submitter.submit(job_overrides, None, self._config(), begin)
            self._added += zip(job_ids, job_overrides, strict=True)
            return job_ids

    @property
    def has_added(self) -> bool:
        """Whether there are jobs for which no call waits."""
        return bool(self._added)

    def wait_for_added(self, interrupts: Interrupts) -> list[JobReturn]:
        """Wait for the jobs that were added, and for those that are added meanwhile."""
        returns: list[JobReturn] = []
        while True:
            with self.mutex:
                added, self._added = self._added, []
            if not added:
                return returns
            job_ids, job_overrides = zip(*added, strict=True)
            returns += self._awaited.returns_of(interrupts, job_ids, job_overrides, self._config())
