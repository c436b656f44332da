"""What a line of a journal may hold: whoever wrote it, what is taken from it is what it must be.

    line --parse--> record (an object) --check(record, FIELDS)--> usable, or BadRecord says why not

A sweep's directory may be anybody's. So no field is used before its type and range are known: times
that a calendar has, numbers that a file's name and the kernel take, nothing nested deeper than the
stack of whoever prints it.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from hsm.core.plain_json import is_flat
from hsm.core.record.job import JobState

#: Unix seconds: the year 9999 begins, and in no time zone is it over.
_MAX_TIME = 253370764800.0
#: What pids, job numbers and counts stay below.
_MAX_COUNT = 1 << 31
_MAX_BYTES = 1 << 63

_MAX_NAME = 255
#: Values that a line may have, as each takes far more memory than its text. Only lines of more than
#: so many bytes are looked at for it. The largest that version 1 wrote had some four million.
_MAX_VALUES, _LONG = 10_000_000, 1 << 20

Check = Callable[[Any], bool]


class BadRecord(ValueError):
    """A line of a journal, or a part of it, that cannot be used; the text says why, in one line."""


def parse(line: bytes | None) -> dict[str, Any]:
    """The record in a line of a journal; None is a line too long to be read. Raises BadRecord."""
    if line is None:
        raise BadRecord("it is too long")
    if not line.strip():
        raise BadRecord("it is empty")
    if len(line) > _LONG and _values(line) > _MAX_VALUES:
        raise BadRecord("it holds too much")
    try:
        record = json.loads(line)
    except (RecursionError, MemoryError):
        raise BadRecord("it is too large or nested too deeply") from None
    except ValueError:
        raise BadRecord("it is not JSON") from None
    if not isinstance(record, dict):
        raise BadRecord(f"it holds {_kind(record)}, not an object")
    return record


def _values(line: bytes) -> int:
    """How many values a line has, roughly; a list or an object takes as much as ten others."""
    return line.count(b",") + 10 * (line.count(b"[") + line.count(b"{"))


def check(record: Mapping[str, Any], fields: Mapping[str, tuple[Check, str]], *needed: str) -> None:
    """See that a record's fields are what they must be.

    Args:
        fields: for each, what it must pass, and what that is in words. A field that is null or
            missing passes.
        needed: the fields that must be there.

    Raises:
        BadRecord: one is not.
    """
    for name in needed:
        if record.get(name) is None:
            raise BadRecord(f"{name} is missing")
    for name, value in record.items():
        if value is not None and name in fields:
            fits, words = fields[name]
            if not fits(value):
                raise BadRecord(f"{name} is {shown(value)}, not {words}")


def shown(value: Any) -> str:
    """`value` in a few characters, none of which can steer a terminal."""
    return _short.repr(value)


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 1, 40, 40, 40
        self.maxdict = self.maxlist = 2

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() < 128 else f"an integer of {x.bit_length()} bits"


_short = _Short()


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _is_time(value: Any) -> bool:
    """Unix seconds that a calendar has."""
    return type(value) in (int, float) and 0 <= value <= _MAX_TIME  # False for NaN


def is_count(value: Any) -> bool:
    """A number of a job, a process or an attempt."""
    return type(value) is int and 0 <= value < _MAX_COUNT


def _is_exit_code(value: Any) -> bool:
    return type(value) is int and -_MAX_COUNT < value < _MAX_COUNT


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < _MAX_BYTES


def _is_size(value: Any) -> bool:
    """A number of bytes."""
    return type(value) is int and 0 <= value < _MAX_BYTES


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    """What a sweep or a job can be called: see `hsm.core.record.sweep_id`."""
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


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_gpus(value: Any) -> bool:
    return isinstance(value, list) and all(is_count(it) or isinstance(it, str) for it in value)


def _is_objective(value: Any) -> bool:
    """One figure or several; NaN and the infinities are figures, too."""
    figures = value if isinstance(value, list) else [value]
    return all(type(figure) in (int, float) for figure in figures)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and is_flat(value)


def _is_final_state(value: Any) -> bool:
    return isinstance(value, str) and value in JobState.__members__ and JobState(value).is_final


TIME = (_is_time, "a time")
COUNT = (is_count, "an integer from 0 to 2147483647")
TEXT = (_is_text, "a text")
PATH = (_is_path, "a path")
NAME = (_is_name, "a name")
FINAL_STATE = (_is_final_state, "a state in which jobs end")

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
#: What a launcher says of itself, in the first line and in those of resumes.
LAUNCH_FIELDS: Mapping[str, tuple[Check, str]] = {
    "sweep_id": NAME,
    "time": TIME,
    "pid": COUNT,
    "host": TEXT,
    "hsm": TEXT,
    "cwd": PATH,
    "argv": (_is_texts, "a list of texts"),
    "settings": (_is_object, "an object"),
    "program": (_is_object, "an object"),
    "git": (_is_object, "an object"),
    "planned": COUNT,
    "large": (_is_object, "an object"),
}
#: What `server` has: how a fork server was started.
SERVER_FIELDS: Mapping[str, tuple[Check, str]] = {
    "start_method": TEXT,
    "reason": TEXT,
    "found": (_is_texts, "a list of texts"),
}
#: What an entry of `submit` has.
JOB_FIELDS: Mapping[str, tuple[Check, str]] = {
    "job": COUNT,
    "id": NAME,
    "label": TEXT,
    "params": (_is_object, "an object of parameters"),
    "large": (_is_object, "an object"),
}
#: What a start may have.
START_FIELDS: Mapping[str, tuple[Check, str]] = {
    "slot": COUNT,
    "gpus": (_is_gpus, "a list of numbers and ids of GPUs"),
    "waited": (_is_seconds, "a number of seconds"),
}
#: What an ending may have.
ENDING_FIELDS: Mapping[str, tuple[Check, str]] = {
    "exit_code": (_is_exit_code, "an exit code"),
    "signal": TEXT,
    "reason": TEXT,
    "error_type": TEXT,
    "error_message": TEXT,
    "cpu_seconds": (_is_seconds, "a number of seconds"),
    "max_memory": (_is_size, "a number of bytes"),
    "value": (is_flat, "a value that is shown: it is nested too deeply"),
    "job_dir": PATH,
    "objective": (_is_objective, "a number, or a list of numbers"),
}
