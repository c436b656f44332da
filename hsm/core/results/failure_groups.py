"""Groups jobs that failed for the same reason, however many they are.

job 3 FAILED: ValueError: the rate 0.5 is too high in /tmp/a3    --.
job 4 FAILED: ValueError: the rate 1e3 is too high in /tmp/b4    --+--> one group
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hsm.core.record.job import Job, JobState

#: Characters of a message that are compared.
_COMPARED = 300
#: What differs between jobs with the same fault: an address, a path, a hash, a number.
_VARIABLE = re.compile(
    r"0x[0-9a-fA-F]+|[^\s'\"(\[{=:,;]*/[^\s'\")\]},:;]*|\b[0-9a-f]{8,}\b"
    r"|[-+]?\d[\d.,_]*(?:[eE][-+]?\d+)?"
)


@dataclass(frozen=True)
class FailureGroup:
    """Jobs that failed in the same way.

    Attributes:
        state: the state of all of them.
        message: how the first of them ended.
        jobs: the jobs, by number.
    """

    state: JobState
    message: str
    jobs: list[Job] = field(default_factory=list)


def kind_of_failure(job: Job, message: str) -> str:
    """A text that jobs share if they failed in the same way, as far as their messages tell."""
    return f"{job.state} {_VARIABLE.sub('#', message[:_COMPARED])}"


def failure_groups(jobs: Iterable[Job], message: Callable[[Job], str]) -> list[FailureGroup]:
    """Group those of `jobs` that failed; the largest group comes first.

    Args:
        jobs: jobs by number.
        message: says how a job ended.
    """
    groups: dict[str, FailureGroup] = {}
    for job in jobs:
        if job.state.has_failed:
            text = message(job)
            kind = kind_of_failure(job, text)
            groups.setdefault(kind, FailureGroup(job.state, text)).jobs.append(job)
    return sorted(groups.values(), key=lambda group: -len(group.jobs))
