"""The job that a person names by its number."""

from __future__ import annotations

from hsm.core.errors import SettingsError
from hsm.core.job_numbers import describe_numbers
from hsm.core.record.job import Job
from hsm.core.record.sweep import Sweep


def named_job(sweep: Sweep, num: int) -> Job:
    """The job with number `num`. Raises SettingsError if the sweep has none."""
    if num in sweep.jobs:
        return sweep.jobs[num]
    allowed = describe_numbers(sweep.jobs)
    message = f"sweep {sweep.sweep_id} has no job {num}: give {allowed}"
    if 0 <= num < (sweep.planned or 0):
        comes = "was never begun" if sweep.closed else "is still to come"
        message = f"job {num} of {sweep.sweep_id} {comes}: give {allowed}"
    elif not sweep.jobs:
        message = f"sweep {sweep.sweep_id} has no jobs yet"
    raise SettingsError("job", num, f"sweep {sweep.sweep_id}", allowed, message=message)
