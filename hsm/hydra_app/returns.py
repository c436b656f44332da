"""Turning a job's end into the JobReturn that Hydra's sweepers expect."""

from __future__ import annotations

import pickle
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException

from hsm.core.engine.sweep_source import SweepSource
from hsm.core.logger import get_logger
from hsm.core.program.reports import RemoteError
from hsm.core.record.job import Job, JobFailed, JobState
from hsm.hydra_app.hydra_job import LightJobReturn

log = get_logger(__name__)


class HydraJobFailed(JobFailed, CompactHydraException):
    """A job failed without raising an exception; Hydra shows this as one line."""


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
