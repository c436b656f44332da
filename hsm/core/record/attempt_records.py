"""What the records of an attempt say of it: fields of `Attempt` and `Ending`, both ways.

Attempt --start_fields--> {"event": "start", …} --take_start--> Attempt
Ending --ending_fields--> {"event": "end", …} --read_ending--> Ending
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hsm.core.record.job import Attempt, Ending, JobState
from hsm.core.record.large import Large
from hsm.core.record.schema import ENDING_FIELDS, NOT_FINITE


def start_fields(attempt: Attempt) -> dict[str, Any]:
    """The optional fields of a start."""
    names = ("slot", "gpus", "waited")
    fields = {name: value for name in names if (value := getattr(attempt, name)) is not None}
    if attempt.metrics:
        fields["metrics"] = attempt.metrics
    return fields


def take_start(attempt: Attempt, record: Mapping[str, Any]) -> None:
    """Take the optional fields of a start, which were checked."""
    attempt.slot, attempt.gpus = record.get("slot"), record.get("gpus")
    attempt.waited, attempt.metrics = record.get("waited"), record.get("metrics") or 0


def ending_fields(ending: Ending) -> dict[str, Any]:
    """The fields of an end, but for the state."""
    fields = {name: value for name in ENDING_FIELDS if (value := getattr(ending, name)) is not None}
    if isinstance(ending.objective, list):
        fields["objective"] = list(map(_as_recorded, ending.objective))
    elif ending.objective is not None:
        fields["objective"] = _as_recorded(ending.objective)
    if ending.large:
        fields["large"] = {name: it.reference() for name, it in ending.large.items()}
    return fields


def read_ending(record: Mapping[str, Any], large: Mapping[str, Large]) -> Ending:
    """The ending that a record, which was checked, tells.

    Args:
        record: the record.
        large: its fields that lie beside the journal.
    """
    fields = {name: record.get(name) for name in ENDING_FIELDS}
    objective = fields["objective"]
    if isinstance(objective, list):
        fields["objective"] = list(map(_as_number, objective))
    elif objective is not None:
        fields["objective"] = _as_number(objective)
    return Ending(JobState(record["state"]), **fields, large=large)


def _as_recorded(number: float) -> float | str:
    """A number as a record has it: JSON knows none that are not finite."""
    text = str(number)
    return text if text in NOT_FINITE else number


def _as_number(recorded: float | str) -> float:
    return float(recorded) if isinstance(recorded, str) else recorded
