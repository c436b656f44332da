"""Which file holds the report of a job's latest attempt; an earlier one's goes no sooner.

    attempt 2 of job 3 --report.write--> results/3.2.pkl --its end is on record--> results/3.pkl

Until its end is in the journal, an attempt's report has a name of its own: a launcher that is
killed meanwhile leaves the earlier report to the job that the record still shows. A report says
which attempt it is of, so none is ever taken for another's.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from hsm.core.errors import HsmError
from hsm.core.program import reports
from hsm.core.program.reports import Report
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths


class ResultLost(HsmError):
    """What a job returned is not there any more."""


def make_room(paths: SweepPaths, num: int, attempt: int) -> Path:
    """Where attempt `attempt` of job `num` is to report. Raises OSError.

    There is something only where the record has lost an attempt that had this number.
    """
    path = paths.attempt_result(num, attempt)
    path.unlink(missing_ok=True)
    return path


def keep(paths: SweepPaths, job: Job) -> None:
    """The end of the job's latest attempt is on record: its report takes the place of others."""
    with suppress(OSError):  # It is found where it is.
        os.replace(paths.attempt_result(job.num, len(job.attempts)), paths.result(job.num))
        for attempt in range(1, len(job.attempts)):  # Those whose launcher died.
            paths.attempt_result(job.num, attempt).unlink(missing_ok=True)


def drop(paths: SweepPaths, job: Job) -> None:
    """The job's latest attempt has failed, which is on record, and there will be another one."""
    with suppress(OSError):
        paths.attempt_result(job.num, len(job.attempts)).unlink(missing_ok=True)


def read(paths: SweepPaths, job: Job) -> Report | None:
    """What the latest attempt of a job reported, without its value; None if it did not."""
    report = reports.read(_file(paths, job)) if job.attempts else None
    return report if report is not None and _is_of(report, job) else None


def read_value(paths: SweepPaths, job: Job) -> Any:
    """What the latest attempt of a job returned.

    Raises:
        ResultLost: there is only what an earlier attempt returned.
        Exception: as `report.read_value` does.
    """
    path = _file(paths, job)
    report = reports.read(path)
    if report is not None and not _is_of(report, job):
        text = f"job {job.num}: its return value is lost: {path} is from an earlier attempt"
        raise ResultLost(text)
    return reports.read_value(path)


def _file(paths: SweepPaths, job: Job) -> Path:
    own = paths.attempt_result(job.num, len(job.attempts))
    return own if os.path.lexists(own) else paths.result(job.num)


def _is_of(report: Report, job: Job) -> bool:
    """Whether a report is of the job's latest attempt."""
    if report.attempt is not None:
        return report.attempt >= len(job.attempts)  # More: lines of the record were lost.
    # An older hsm wrote it, which kept no other.
    return job.outcome is None or report.error_type == job.outcome.error_type
