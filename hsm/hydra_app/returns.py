"""Turning a job's end into the JobReturn that Hydra's sweepers expect."""

from __future__ import annotations

import pickle
import threading
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException

from hsm.core.engine.sweep_source import SweepSource
from hsm.core.logger import get_logger
from hsm.core.program.reports import RemoteError
from hsm.core.record.job import Job, JobFailed, JobState
from hsm.hydra_app.hydra_job import LightJobReturn

log = get_logger(__name__)

#: Bytes of packed configs that stay in memory: some thousand jobs.
_ROOM = 4 << 20


class HydraJobFailed(JobFailed, CompactHydraException):
    """A job failed without raising an exception; Hydra shows this as one line."""


class JobReturns:
    """The JobReturns of a source's jobs, which a sweeper may keep: they take little memory.

    The configs of the first jobs stay in memory, packed. Those of later jobs are read from the
    jobs' results when they are accessed. Thread-safe.

    Args:
        source: runs the jobs.
        room: bytes of packed configs that stay in memory.
    """

    def __init__(self, source: SweepSource, room: int = _ROOM) -> None:
        self._source = source
        self._room = room
        self._mutex = threading.Lock()  # guards `_room`

    def of(self, job_id: str, overrides: list[str]) -> JobReturn:
        """Return the job's JobReturn, with what it returned or raised."""
        result = job_return(self._source, job_id, overrides)
        if isinstance(result, LightJobReturn) and not self._has_room(result.packed_size):
            report = self._source.report(job_id)
            if report is not None and report.unsaved is None:
                result.put_away(self._source.paths(job_id), self._source.job(job_id))
        return result

    def _has_room(self, size: int) -> bool:
        with self._mutex:
            self._room -= size
            return self._room >= 0


def job_return(source: SweepSource, job_id: str, overrides: list[str]) -> JobReturn:
    """Return the job's JobReturn, with what it returned or raised."""
    job = source.job(job_id)
    report = source.report(job_id)
    result = JobReturn(overrides=overrides)
    if report is not None and report.extra is not None:
        result = pickle.loads(report.extra)
    if job.state.has_succeeded:
        result.status = JobStatus.COMPLETED
        result.return_value = _value(source, job)
        if isinstance(result, LightJobReturn):
            result.carried = None  # of a job that was pruned, and raised something then
        return result
    result.status = JobStatus.FAILED
    error = report.load_error() if report is not None and job.state is JobState.FAILED else None
    if error is None:
        error = HydraJobFailed(job)
    elif not isinstance(error, Exception):
        # A KeyboardInterrupt raised by the job must not be raised as one in this process.
        error = RemoteError(type(error).__name__, str(error))
    elif isinstance(result, LightJobReturn) and (carried := result.carried) is not None:
        result.carried = None
        # Hydra 1.4 sends the job's traceback by itself, if the app has raised the exception.
        is_sent = getattr(result, "_remote_traceback", None) is not None
        error = carried.without_traceback(error) if is_sent else carried.restore(error)
        result.places = () if is_sent else carried.places
    result.return_value = error
    return result


def _value(source: SweepSource, job: Job) -> Any:
    try:
        return source.result(job.job_id)
    except Exception as error:
        log.warning("job %d: cannot unpickle its return value (%r): using None", job.num, error)
        return None
