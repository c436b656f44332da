"""What follows from the end of an attempt for its GPUs, and from its GPUs for the job.

attempt ends --job_ended, error--> judge --> ended: GPUs left out, or taken back
                                       `--> moves: elsewhere, at no retry | retried: alone
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from hsm.core.engine.after_attempt import AfterAttempt
from hsm.core.engine.ledger import JobHandle, Ledger
from hsm.core.gpu.gpu_error_kinds import GpuErrorKind
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.health import Fate, Finding, GpuHealth, Run
from hsm.core.gpu.pool import GpuPool
from hsm.core.record.job import Ending, JobState


@dataclass(frozen=True)
class AfterGpus(AfterAttempt):
    """Looks after the GPUs of a source's jobs. Thread-safe.

    Attributes:
        pool: gives GPUs to jobs.
        ledger: the jobs.
        alter: calls what changes the pool, while nobody else uses it.
    """

    pool: GpuPool
    ledger: Ledger
    alter: Callable[[Callable[[], object]], object]
    _health: GpuHealth = field(default_factory=GpuHealth)
    _mutex: threading.Lock = field(default_factory=threading.Lock)  # guards the health

    def job_ended(self, handle: JobHandle) -> None:
        if handle.grant is not None:
            self.pool.job_ended(handle.grant)

    def ended(self, handle: JobHandle, ending: Ending) -> str:
        grant = handle.grant
        if grant is None or handle.seconds is None:
            return ""
        run = Run(handle.job.num, grant.gpus, handle.seconds)
        running = [
            Run(other.job.num, had.gpus, other.running_seconds())
            for other in self.ledger.running()
            if other is not handle and (had := other.grant) is not None
        ]
        error = "" if grant.error is None else grant.error.text
        with self._mutex:
            findings = self._health.ended(run, _fate(grant, ending), running, error)
            if findings:
                self.alter(lambda: self._apply(findings))
        return self.pool.is_gone

    def _apply(self, findings: Sequence[Finding]) -> None:
        for gpu, why in findings:
            self.pool.leave_out(gpu, why)

    def moves(self, handle: JobHandle, ending: Ending) -> bool:
        grant = handle.grant
        if grant is None or handle.avoid:
            return False
        if _fate(grant, ending) is not Fate.DRIVER_ERROR:
            return False
        tokens = _tokens(grant)
        others = [gpu for gpu in self.pool.allowed if gpu.token not in tokens]
        if len(others) < grant.need.count:
            return False
        handle.avoid = tokens
        return True

    def retried(self, handle: JobHandle, ending: Ending) -> None:
        grant = handle.grant
        if grant is None or grant.error is None or handle.gpu_need is None:
            return
        if ending.state is JobState.OUT_OF_MEMORY:
            handle.gpu_need = replace(handle.gpu_need, alone=True)
        elif _fate(grant, ending) is Fate.DRIVER_ERROR:
            handle.avoid |= _tokens(grant)


def _tokens(grant: GpuGrant) -> frozenset[str]:
    return frozenset(gpu.token for gpu in grant.gpus)


def _fate(grant: GpuGrant, ending: Ending) -> Fate:
    """How an attempt ended, as far as its GPUs may be why."""
    if ending.state.has_succeeded:
        return Fate.COMPLETED
    if ending.state is not JobState.FAILED:
        return Fate.OTHER
    is_drivers = grant.error is not None and grant.error.kind is GpuErrorKind.DRIVER
    return Fate.DRIVER_ERROR if is_drivers else Fate.FAILED
