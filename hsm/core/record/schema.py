"""Validates the lines of a journal, which may have been written by anyone.

    line --parse--> record (an object) --check(record, FIELDS)--> usable, or BadRecord says why not

A sweep's directory may be anyone's, so no field is used before its type and range are checked:
times must exist in the calendar, numbers must fit file names and the kernel, and nothing may be
nested so deeply that printing it overflows the stack.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

from hsm.core.errors import shown
from hsm.core.plain_json import is_flat
from hsm.core.record.job import JobState

#: Unix seconds: the start of the year 9999, so that it is a valid date in every time zone.
_MAX_TIME = 253370764800.0
#: Exclusive limit for pids, job numbers and counts.
_MAX_COUNT = 1 << 31
_MAX_BYTES = 1 << 63

_MAX_NAME = 255
#: Maximum number of values in a line, since each takes far more memory than its text. The largest
#: line that version 1 wrote had about four million.
_MAX_VALUES = 10_000_000
#: Bytes of a line from which on its values are counted.
_LONG = 1 << 20

#: How an objective has numbers that JSON does not know.
NOT_FINITE = ("nan", "inf", "-inf")

Check = Callable[[Any], bool]


class BadRecord(ValueError):
    """A line of a journal, or a part of it, is unusable; the text says why, in one line."""


def parse(line: bytes | None) -> dict[str, Any]:
    """The record in a journal's line (None: a line too long to be read). Raises BadRecord."""
    if line is None:
        raise BadRecord("it is too long")
    if not line.strip():
        raise BadRecord("it is empty")
    if len(line) > _LONG and _values(line) > _MAX_VALUES:
        raise BadRecord("it has too many values")
    try:
        record = json.loads(line)
    except (RecursionError, MemoryError):
        raise BadRecord("it is too large or nested too deeply") from None
    except ValueError:
        raise BadRecord("it is not JSON") from None
    if not isinstance(record, dict):
        raise BadRecord(f"it is {_kind(record)}, not an object")
    return record


def _values(line: bytes) -> int:
    """Roughly, how many values a line has; a list or object takes as much memory as ten others."""
    return line.count(b",") + 10 * (line.count(b"[") + line.count(b"{"))


def check(record: Mapping[str, Any], fields: Mapping[str, tuple[Check, str]], *needed: str) -> None:
    """Check a record's fields.

    Args:
        record: the record.
        fields: by name, a test for the field and what it tests in words. A field that is null or
            missing passes.
        needed: the fields that must be present.

    Raises:
        BadRecord: a field is missing or fails its test.
    """
    for name in needed:
        if record.get(name) is None:
            raise BadRecord(f"{name} is missing")
    for name, value in record.items():
        if value is not None and name in fields:
            fits, words = fields[name]
            if not fits(value):
                raise BadRecord(f"{name} is {shown(value)}, not {words}")


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _is_time(value: Any) -> bool:
    """Unix seconds within the calendar."""
    return type(value) in (int, float) and 0 <= value <= _MAX_TIME  # False for NaN


def is_count(value: Any) -> bool:
    """The number of a job, process or attempt."""
    return type(value) is int and 0 <= value < _MAX_COUNT


def _is_exit_code(value: Any) -> bool:
    return type(value) is int and -_MAX_COUNT < value < _MAX_COUNT


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < _MAX_BYTES


def _is_percent(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 100


def is_size(value: Any) -> bool:
    """A number of bytes."""
    return type(value) is int and 0 <= value < _MAX_BYTES


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    """A valid name for a sweep or job, see `hsm.core.record.sweep_id`."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= _MAX_NAME
        and value.isprintable()
        and "/" not in value
    )


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value and not _has_surrogates(value)


def _has_surrogates(text: str) -> bool:
    try:
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return True
    return False


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_priority(value: Any) -> bool:
    return type(value) is int and -_MAX_COUNT < value < _MAX_COUNT


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_gpus(value: Any) -> bool:
    return isinstance(value, list) and all(is_count(it) or isinstance(it, str) for it in value)


def _are_gpu_ids(value: Any) -> bool:
    return _is_gpus(value) and bool(value)


def _is_objective(value: Any) -> bool:
    """One number or several; those that are not finite may be texts."""
    numbers = value if isinstance(value, list) else [value]
    return all(type(number) in (int, float) or number in NOT_FINITE for number in numbers)


def _is_objects(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_object, value))


def _is_needs(value: Any) -> bool:
    return isinstance(value, dict) and all(itertools.starmap(_is_need, value.items()))


def _is_need(name: str, value: Any) -> bool:
    if name == "gpus":
        return _is_share(value) or is_count(value)
    return is_size(value) if name == "gpu_memory" else is_count(value)


def _is_share(value: Any) -> bool:
    """A part of one GPU."""
    return type(value) is float and 0 < value < 1


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and is_flat(value)


def _is_final_state(value: Any) -> bool:
    return isinstance(value, str) and value in JobState.__members__ and JobState(value).is_final


def _is_parallelism(value: Any) -> bool:
    return value == "auto" or (is_count(value) and value > 0)


def _is_positive_seconds(value: Any) -> bool:
    return _is_seconds(value) and value > 0


TIME = (_is_time, "a time")
COUNT = (is_count, "an integer from 0 to 2147483647")
SECONDS = (_is_seconds, "a number of seconds")
TEXT = (_is_text, "a string")
PATH = (_is_path, "a path")
NAME = (_is_name, "a name")
FINAL_STATE = (_is_final_state, "a final state")

#: Fields that any record may have.
RECORD_FIELDS: Mapping[str, tuple[Check, str]] = {
    "event": TEXT,
    "time": TIME,
    "pid": COUNT,
    "job": COUNT,
    "attempt": COUNT,
    "jobs": (_is_list, "a list"),
    "more": COUNT,
    "large": (_is_object, "an object"),
}
#: What a launcher records about itself, in the first line and in `resume`.
LAUNCH_FIELDS: Mapping[str, tuple[Check, str]] = {
    "sweep_id": NAME,
    "time": TIME,
    "pid": COUNT,
    "host": TEXT,
    "hsm": TEXT,
    "cwd": PATH,
    "argv": (_is_texts, "a list of strings"),
    "command": (_is_object, "an object"),
    "settings": (_is_object, "an object"),
    "program": (_is_object, "an object"),
    "chosen": (_is_object, "an object"),
    "points": (_is_object, "an object"),
    "git": (_is_object, "an object"),
    "planned": COUNT,
    "gpus": (_is_objects, "a list of objects"),
    "large": (_is_object, "an object"),
}
#: The fields of `server`: how a fork server was started.
SERVER_FIELDS: Mapping[str, tuple[Check, str]] = {
    "start_method": TEXT,
    "reason": TEXT,
    "found": (_is_texts, "a list of strings"),
}
#: The fields of `control`, see `hsm.core.record.controls`.
CONTROL_FIELDS: Mapping[str, tuple[Check, str]] = {
    "request": TEXT,
    "which": TEXT,
    "job": COUNT,
    "jobs": (_is_list, "a list"),
    "running": (_is_switch, "true or false"),
    "now": (_is_switch, "true or false"),
    "priority": (_is_priority, "an integer from -2147483647 to 2147483647"),
    "max_parallel_jobs": (_is_parallelism, "an integer of at least 1, or auto"),
    "timeout": (_is_positive_seconds, "a number of seconds above 0"),
    "max_retries": COUNT,
    "gpu_ids": (_are_gpu_ids, "a list of numbers and ids of GPUs"),
    "overrides": (_is_texts, "a list of strings"),
    "params": (_is_object, "an object of parameters"),
}
#: The fields of a job in `submit`.
JOB_FIELDS: Mapping[str, tuple[Check, str]] = {
    "job": COUNT,
    "id": NAME,
    "label": TEXT,
    "params": (_is_object, "an object of parameters"),
    "large": (_is_object, "an object"),
    "needs": (_is_needs, "numbers by name"),
}
#: The optional fields of `start`.
START_FIELDS: Mapping[str, tuple[Check, str]] = {
    "slot": COUNT,
    "gpus": (_is_gpus, "a list of numbers and ids of GPUs"),
    "waited": SECONDS,
    "metrics": (is_size, "a number of bytes"),
}
#: The optional fields of `end` and `retry`.
ENDING_FIELDS: Mapping[str, tuple[Check, str]] = {
    "exit_code": (_is_exit_code, "an exit code"),
    "signal": TEXT,
    "reason": TEXT,
    "error_type": TEXT,
    "error_message": TEXT,
    "seconds": SECONDS,
    "cpu_seconds": SECONDS,
    "max_memory": (is_size, "a number of bytes"),
    "value": (is_flat, "a value that can be shown: it is nested too deeply"),
    "job_dir": PATH,
    "objective": (_is_objective, "a number, or a list of numbers"),
    "gpu_memory": (is_size, "a number of bytes"),
    "gpu_load": (_is_percent, "a number from 0 to 100"),
}
