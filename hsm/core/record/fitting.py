"""Turns records into lines of the journal of at most 64 KiB.

    {"event": "end", "value": <much>, …} --line_of--> {"event": "end", "large": {"value": …}, …}
    a submission of many jobs --submit_lines--> several `submit`, each but the last with `more`

A field of more than `large.INLINE` bytes moves to a file beside the journal; of a text, the
beginning stays in the record. An ordinary record costs one pass of the encoder and a length check.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hsm.core.plain_json import encode, identity
from hsm.core.record.job import Job
from hsm.core.record.large import INLINE, Large, Shelf

#: Maximum bytes of a line, including the newline.
MAX_LENGTH = 64 << 10
#: Maximum number of job numbers in one record.
MAX_NUMBERS = 2000
#: Characters that a record keeps of a text that moves beside the journal.
_PREVIEW = 500
#: The same when the disk is full.
_SHORT_PREVIEW = 120
#: The disk or a quota is full, or a file has reached its size limit.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: Values up to this many bytes wait until the disk has room; larger ones are left out.
_MAX_KEPT_VALUE = 256
#: Fields that say what a record is about. They are short, and always stay in the record.
_ALWAYS_INLINE = frozenset(
    {"v", "event", "time", "sweep_id", "pid", "job", "jobs", "attempt", "state", "id", "large"}
)

#: Fields whose beginning alone would be useless or misleading.
_NO_PREVIEW = frozenset({"value", "job_dir", "cwd"})

#: Stores an oversized field, given its name and its JSON.
Put = Callable[[str, str], Large]


def line_of(record: Mapping[str, Any], put: Put) -> bytes:
    """Encode `record` as one line.

    Raises:
        OSError: from `put`.
    """
    text = encode(record)
    return (text if len(text) <= INLINE else _fitted(record, text, put)).encode() + b"\n"


def _fitted(record: Mapping[str, Any], text: str, put: Put) -> str:
    """The JSON of `record` with its largest fields moved out; `text` is its full JSON."""
    record = dict(record)
    sizes = {
        name: len(encode(value)) for name, value in record.items() if name not in _ALWAYS_INLINE
    }
    while sizes:
        name = max(sizes, key=sizes.__getitem__)
        if sizes.pop(name) <= INLINE and len(text) < MAX_LENGTH:
            break
        value = record.pop(name)
        if isinstance(value, str) and name not in _NO_PREVIEW:
            record[name] = beginning(value, _PREVIEW)
        large = {**record.pop("large", {}), name: put(name, encode(value)).reference()}
        record["large"] = large
        text = encode(record)
    return text


def beginning(text: str, limit: int) -> str:
    """`text`; if it has more than `limit` characters, its first ones and its length."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def without_values(line: bytes, error: OSError) -> bytes | None:
    """A shorter line for an ending that the disk, as `error` says, has no room for.

    None if there is nothing to leave out.
    """
    record = json.loads(line)
    short = {
        name: beginning(value, _SHORT_PREVIEW)
        if isinstance(value, str) and name not in _ALWAYS_INLINE | _NO_PREVIEW
        else value
        for name, value in record.items()
    }
    if "value" in short and len(encode(short["value"])) > _MAX_KEPT_VALUE:
        del short["value"]
        short["large"] = {**record.get("large", {}), "value": {"lost": reason_of(error)}}
    short_line = encode(short).encode() + b"\n"
    return short_line if len(short_line) < len(line) else None


def reason_of(error: OSError) -> str:
    """The system's text for an error."""
    return error.strerror or str(error)


def loss(record: Mapping[str, Any], name: str, error: OSError) -> str:
    """A message to people: field `name` of a record could not be written."""
    what = {"value": "return value"}.get(name, name.replace("_", " "))
    return f"job {record.get('job')}: its {what} could not be recorded: {reason_of(error)}"


def loss_of(line: bytes, error: OSError) -> str:
    """A message to people: what is missing from a line that `without_values` made."""
    record = json.loads(line)
    return loss(record, "value" if "value" in record.get("large", {}) else "error_message", error)


def submit_lines(jobs: Iterable[Job], time: float, shelf: Shelf) -> bytes:
    """The records for jobs queued at `time`, each with as many jobs as fit.

    If a label moves beside the journal, its job keeps only the beginning: see `Job.large_label`.

    Raises:
        OSError: a field that is too large for a record cannot be stored.
    """
    groups = list(_groups([_entry(job, shelf) for job in jobs])) or [[]]
    left = sum(map(len, groups))
    lines = []
    for group in groups:
        left -= len(group)
        more = f',"more":{left}' if left else ""
        lines.append(f'{{"event":"submit","jobs":[{",".join(group)}]{more},"time":{time!r}}}\n')
    return "".join(lines).encode()


def _groups(entries: Iterable[str]) -> Iterator[list[str]]:
    """Split the entries into groups that each fit into a record."""
    room = limit = MAX_LENGTH - 128  # leaves space for the rest of the record
    group: list[str] = []
    for entry in entries:
        if group and len(entry) + 1 > room:
            yield group
            room, group = limit, []
        room -= len(entry) + 1
        group.append(entry)
    if group:
        yield group


def _entry(job: Job, shelf: Shelf) -> str:
    entry = {"job": job.num, "id": job.job_id, "label": job.label, "params": job.params}
    if job.needs:
        entry["needs"] = dict(job.needs)
    text = encode(entry)
    if len(text) <= INLINE:
        return text

    def put(name: str, text: str) -> Large:
        if name == "params":
            return shelf.put(text, identity=identity(job.params))
        large = shelf.put(text)
        if name == "label":  # As in the record: displays read it over and over, so keep it short.
            job.label, job.large_label = beginning(job.label, _PREVIEW), large
        return large

    return _fitted(entry, text, put)
