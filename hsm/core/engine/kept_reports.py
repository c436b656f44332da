"""Keeps the report file of each job's latest recorded attempt.

    attempt 2 of job 3 --reports.write--> results/3.2.pkl --end is in the journal--> results/3.pkl

An attempt's report has its own file name until the attempt's end is in the journal. If the launcher
is killed before that, the earlier report is still there, and the journal still shows the earlier
attempt. A report names its attempt, so it is never mistaken for another attempt's.
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
    """The value that a job returned no longer exists."""


def make_room(path: str | os.PathLike[str]) -> None:
    """Remove an old file from where an attempt is to report. Raises OSError.

    There is one only if the journal lost an attempt with this number.
    """
    with suppress(FileNotFoundError):
        os.unlink(path)


def keep(paths: SweepPaths, job: Job) -> None:
    """Let the latest attempt's report replace earlier ones, now that its end is in the journal."""
    with suppress(OSError):  # `_file` also finds it under its own name.
        os.replace(paths.attempt_result(job.num, len(job.attempts)), paths.result(job.num))
        for attempt in range(1, len(job.attempts)):  # Left by attempts whose launcher died.
            paths.attempt_result(job.num, attempt).unlink(missing_ok=True)


def drop(paths: SweepPaths, job: Job) -> None:
    """Remove the latest attempt's report: its failure is in the journal, and a retry follows."""
    with suppress(OSError):
        paths.attempt_result(job.num, len(job.attempts)).unlink(missing_ok=True)


def read(paths: SweepPaths, job: Job) -> Report | None:
    """The report of a job's latest attempt, without the value; None if there is none."""
    report = reports.read(_file(paths, job)) if job.attempts else None
    return report if report is not None and _is_of(report, job) else None


def read_value(paths: SweepPaths, job: Job) -> Any:
    """What the latest attempt of a job returned.

    If its file is missing or damaged, the value comes from the journal, if that has it.

    Raises:
        ResultLost: only an earlier attempt's value is left.
        Exception: as `reports.read_value` does.
    """
    try:
        return _read_value(paths, job)
    except Exception:
        if job.value is None:
            raise
        return job.value


def _read_value(paths: SweepPaths, job: Job) -> Any:
    path = _file(paths, job)
    report = reports.read(path)
    if report is not None and not _is_of(report, job):
        text = f"job {job.num}: the return value is lost: {path} is from an earlier attempt"
        raise ResultLost(text)
    return reports.read_value(path)


def _file(paths: SweepPaths, job: Job) -> Path:
    own = paths.attempt_result(job.num, len(job.attempts))
    return own if os.path.lexists(own) else paths.result(job.num)


def _is_of(report: Report, job: Job) -> bool:
    """Whether a report is from the job's latest attempt."""
    if report.attempt is not None:
        return report.attempt >= len(job.attempts)  # Greater if the journal lost lines.
    # Written by an older hsm, which kept only one report per job.
    return job.outcome is None or report.error_type == job.outcome.error_type
