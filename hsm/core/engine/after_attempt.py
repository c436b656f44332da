"""What follows from the end of an attempt beside its judgement: where hsm gives jobs no GPUs.

Where it does, see `hsm.core.engine.after_gpus`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hsm.core.engine.backend import Ended
from hsm.core.engine.ledger import JobHandle
from hsm.core.program.reports import Report
from hsm.core.record.job import Ending
from hsm.core.record.log_ends import end_of_log

if TYPE_CHECKING:
    from hsm.core.gpu.gpu_error_kinds import GpuError

#: Bytes at the end of stderr in which a program's last words are, which may be a table of buffers.
_MOST_WORDS = 1 << 16


class AfterAttempt:
    """Looks after what attempts leave behind. Thread-safe."""

    def job_ended(self, handle: JobHandle) -> None:
        """The processes of a job are gone: complete what its grant tells of its use of GPUs."""

    def error(self, handle: JobHandle, ended: Ended, report: Report | None) -> GpuError | None:
        """Why an attempt failed, if its GPU is why, whoever gave it that; its grant has it, too."""
        if ended.exit_code == 0 or ended.asked or ended.out_of_memory is not None:
            return None
        from hsm.core.gpu.driver_errors import gpu_error  # slow to import; most jobs do not fail

        words = end_of_log(handle.journal.paths.stderr(handle.job.num), _MOST_WORDS)
        if report is not None and report.error_type is not None:
            head = f"Traceback (most recent call last):\n{report.error_type}: "
            words += f"\n{report.traceback or f'{head}{report.error_message}'}"
        found = gpu_error(words, has_gpus=handle.grant is not None)
        if handle.grant is not None:
            handle.grant.error = found
        return found

    def ended(self, handle: JobHandle, ending: Ending) -> str:
        """Leave out GPUs on which jobs fail that do not fail elsewhere.

        Returns why no job can have a GPU any more, in one line; empty if some can.
        """
        return ""

    def moves(self, handle: JobHandle, ending: Ending) -> bool:
        """Whether a job starts again elsewhere at no retry, as a driver's error killed it; once."""
        return False

    def retried(self, handle: JobHandle, ending: Ending) -> None:
        """A job is retried: if it ran out of GPU memory, from now on alone on its GPUs."""
