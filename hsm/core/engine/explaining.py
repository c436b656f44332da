"""Tells people what jobs wait for, and who has what meanwhile."""

from __future__ import annotations

from hsm.core.engine.admission import Admission
from hsm.core.engine.backend import Backend
from hsm.core.engine.ledger import JobHandle, Ledger
from hsm.core.job_numbers import show_numbers
from hsm.core.record.job import JobState

#: Waiting jobs whose reasons are told when all are asked for.
_MOST_EXPLAINED = 10


class Explaining:
    """Explains why jobs of one source do not run yet. Thread-safe.

    Args:
        ledger: knows the jobs.
        admission: decides which of them start.
        backend: where they run.
    """

    def __init__(self, ledger: Ledger, admission: Admission, backend: Backend) -> None:
        self._ledger = ledger
        self._admission = admission
        self._backend = backend

    def of(self, handle: JobHandle) -> str:
        """What a job waits for, in one line."""
        reason, ahead = self._explained(handle)
        if not ahead:
            return reason
        return f"{reason}; {'1 job is' if ahead == 1 else f'{ahead} jobs are'} before it"

    def _explained(self, handle: JobHandle) -> tuple[str, int]:
        """What a job waits for, and how many jobs come before it."""
        job = handle.job
        if handle.is_over:
            return f"nothing: it has ended ({job.ending()})", 0
        if job.state is JobState.RUNNING:
            paused = handle.paused_since is not None
            waits_for = "the sweep to be continued: it is paused"
            return waits_for if paused else "nothing: it is running", 0
        reason, ahead = self._admission.explain(handle)
        if reason:
            return reason, ahead
        return "its retry_delay to end" if handle.has_run else "nothing: it is being started", 0

    def of_all(self) -> list[str]:
        """What the waiting jobs wait for, in short; and who has which GPU."""
        waiting = [handle for handle in self._ledger.all() if handle.job.state is JobState.PENDING]
        states = [f"{len(self._ledger.running())} running", f"{len(waiting)} waiting"]
        lines = [f"{', '.join(states)}; at most {self._admission.limit} run at once"]
        reasons: dict[str, list[int]] = {}
        for handle in waiting[:_MOST_EXPLAINED]:
            reasons.setdefault(self._explained(handle)[0], []).append(handle.job.num)
        for reason, nums in reasons.items():
            jobs = f"job {nums[0]} waits" if len(nums) == 1 else f"jobs {show_numbers(nums)} wait"
            lines.append(f"{jobs} for {reason}")
        if len(waiting) > _MOST_EXPLAINED:
            lines.append(f"and {len(waiting) - _MOST_EXPLAINED} more jobs wait")
        return [*lines, *self._gpu_table()]

    def _gpu_table(self) -> list[str]:
        """Who has which GPU; nothing if jobs get none of hsm."""
        gpus, others = self._backend.gpus, dict[str, str]()
        if gpus is None:
            return []
        from hsm.core.gpu.gpu_texts import gpu_table  # as few sweeps need it

        self._admission.alter(lambda: others.update(gpus.others()))
        grants = [handle.grant for handle in self._ledger.all() if handle.grant is not None]
        return gpu_table(gpus.found.gpus, grants, others)
