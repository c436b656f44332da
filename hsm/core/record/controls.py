"""What a launcher can be asked to do with a running sweep, and how that is written down.

    Pause(running=True)  <--control_of / record_of-->  {"request": "pause", "running": true}

The same form is used in the file of a request, see `hsm.core.record.requests`, and in the journal's
`control` record of a request that was carried out. What only asks, `Explain`, is not recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from hsm.core.errors import shown
from hsm.core.job_numbers import show_numbers
from hsm.core.printable import shorten
from hsm.core.record.schema import CONTROL_FIELDS, BadRecord, check, is_count
from hsm.core.units import format_duration

#: The settings that can be changed while a sweep runs; of these, `NULLABLE` may be null.
CHANGEABLE = ("max_parallel_jobs", "timeout", "max_retries", "gpu_ids")
NULLABLE = frozenset({"timeout", "gpu_ids"})
#: Characters of the jobs' numbers in a line for people.
_MAX_NUMBERS = 60
#: Characters of the overrides that were added, there.
_MAX_OVERRIDES = 200


class Cancel(NamedTuple):
    """End a job, or the whole sweep (None)."""

    job: int | None = None


@dataclass(frozen=True)
class CancelPending:
    """Cancel all jobs that have not started or wait for a retry."""


class Pause(NamedTuple):
    """Start no more jobs; with `running`, stop the processes of those that run."""

    running: bool = False


@dataclass(frozen=True)
class Continue:
    """End a pause."""


class Change(NamedTuple):
    """Change settings: those of `CHANGEABLE` that are in `values`; see `ComputeSource.change`."""

    values: Mapping[str, Any]
    now: bool = False


class Prioritize(NamedTuple):
    """Give jobs, by their numbers, another priority."""

    jobs: tuple[int, ...]
    priority: int


class Add(NamedTuple):
    """Add jobs: the points of a sweep in Hydra's syntax.

    Attributes:
        overrides: the sweep.
        params: what all jobs of the sweep share, and these have, too; None until the launcher has
            looked.
    """

    overrides: tuple[str, ...]
    params: Mapping[str, Any] | None = None


class Explain(NamedTuple):
    """Tell what a job waits for, or all of them (None)."""

    job: int | None = None


Control: TypeAlias = Cancel | CancelPending | Pause | Continue | Change | Prioritize | Add | Explain


@dataclass
class Asked:
    """What a sweep's launchers were asked to do.

    Attributes:
        records: the requests, one record each, oldest first.
        changes: the settings that the latest launcher was asked to change, and their values.
        priorities: the priorities that jobs were given, by number; the others have 0.
        added: the requests to add jobs.
        is_paused: whether the latest launcher was asked to start no jobs.
    """

    records: list[Mapping[str, Any]] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)
    priorities: dict[int, int] = field(default_factory=dict)
    added: list[Add] = field(default_factory=list)
    is_paused: bool = False

    def take(self, record: Mapping[str, Any]) -> None:
        """Replay a `control` record. Raises BadRecord if a field of it is unusable."""
        check(record, CONTROL_FIELDS)
        self.records.append(record)
        try:
            control = control_of(record)
        except BadRecord:
            return  # a later hsm's, which means nothing to this one
        if isinstance(control, (Pause, Continue)):
            self.is_paused = isinstance(control, Pause)
        elif isinstance(control, Change):
            self.changes |= control.values
        elif isinstance(control, Prioritize):
            self.priorities |= dict.fromkeys(control.jobs, control.priority)
        elif isinstance(control, Add):
            self.added.append(control)

    def begins_anew(self) -> None:
        """Another launcher has resumed the sweep: it is not paused.

        What was changed is among its settings, unless other values were asked for.
        """
        self.changes.clear()
        self.is_paused = False


def record_of(control: Control) -> dict[str, Any]:
    """The fields of a request's file, or of its `control` record."""
    match control:
        case Cancel(job=None):
            return {"request": "cancel"}
        case Cancel(job=job):
            return {"request": "cancel", "job": job}
        case CancelPending():
            return {"request": "cancel", "which": "pending"}
        case Pause(running=running):
            return {"request": "pause", **({"running": True} if running else {})}
        case Continue():
            return {"request": "continue"}
        case Change(values=values, now=now):
            given = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
            return {"request": "set", **given, **({"now": True} if now else {})}
        case Prioritize(jobs=jobs, priority=priority):
            return {"request": "priority", "jobs": list(jobs), "priority": priority}
        case Add(overrides=overrides, params=params):
            shared = {} if params is None else {"params": params}
            return {"request": "add", "overrides": list(overrides), **shared}
        case Explain(job=job):
            return {"request": "explain", **({} if job is None else {"job": job})}


def control_of(record: Mapping[str, Any]) -> Control:
    """The request that a record describes. Raises BadRecord if this hsm knows none like it."""
    check(record, CONTROL_FIELDS, "request")
    kind = record["request"]
    is_on = {name: bool(record.get(name)) for name in ("running", "now")}
    if kind == "cancel":
        which = record.get("which")
        if which not in (None, "pending"):
            raise BadRecord(f"which is {shown(which)}, not 'pending'")
        return Cancel(record.get("job")) if which is None else CancelPending()
    if kind == "pause":
        return Pause(is_on["running"])
    if kind == "continue":
        return Continue()
    if kind == "set":
        return Change(_values(record), is_on["now"])
    if kind == "priority":
        check(record, {}, "jobs", "priority")
        if not all(map(is_count, record["jobs"])):
            raise BadRecord("jobs are not all numbers of jobs")
        return Prioritize(tuple(record["jobs"]), record["priority"])
    if kind == "add":
        check(record, {}, "overrides")
        return Add(tuple(record["overrides"]), record.get("params"))
    if kind == "explain":
        return Explain(record.get("job"))
    raise BadRecord(f"unknown request {shown(kind)}")


def told(control: Control) -> str:
    """One line for people about a request that was carried out; "" if other events tell it."""
    match control:
        case Pause(running=running):
            jobs = "no job starts or goes on" if running else "no job starts"
            return f"paused: {jobs} until hsm continue"
        case Continue():
            return "continued"
        case Change(values=values):
            return f"{', '.join(_told(*item) for item in values.items())} from now on"
        case Prioritize(jobs=jobs, priority=priority):
            numbers = show_numbers(jobs)
            which = f"job {numbers}" if len(numbers) <= _MAX_NUMBERS else f"{len(jobs)} jobs"
            return f"priority {priority} for {which}"
        case CancelPending():
            return "pending jobs cancelled"
        case Add(overrides=overrides):
            return f"added: {shorten(' '.join(overrides), _MAX_OVERRIDES)}"
        case _:
            return ""


def _told(name: str, value: Any) -> str:
    """What a changed setting means, as part of a line."""
    if name == "max_parallel_jobs" and value == "auto":
        return "as many jobs at once as there is room for"
    if name == "max_parallel_jobs":
        return f"at most {value} job{'' if value == 1 else 's'} at once"
    if name == "timeout":
        limit = f"a time limit of {format_duration(value)}" if value else "no time limit"
        return f"{limit} per job"
    if name == "gpu_ids":
        return f"{'all GPUs' if value is None else _told_gpus(value)} for jobs that start"
    return f"{value} {'retry' if value == 1 else 'retries'} per job"


def _told_gpus(ids: Sequence[int | str]) -> str:
    return f"GPU{'' if len(ids) == 1 else 's'} {', '.join(map(str, ids))}"


def _values(record: Mapping[str, Any]) -> dict[str, Any]:
    values = {
        name: tuple(record[name]) if isinstance(record[name], list) else record[name]
        for name in CHANGEABLE
        if name in record
    }
    for name, value in values.items():
        if value is None and name not in NULLABLE:
            raise BadRecord(f"{name} is null")
    if not values:
        raise BadRecord(f"it sets none of {', '.join(CHANGEABLE)}")
    return values
