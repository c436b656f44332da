"""From a record to lines of the journal, none of which has more than 64 KiB.

    {"event": "end", "value": <much>, …} --line_of--> {"event": "end", "large": {"value": …}, …}
    a submission of many jobs --submit_lines--> several `submit`, each but the last with `more`

A field with more than `large.INLINE` bytes lies beside the journal; of a text its beginning stays.
An ordinary record is one pass of the encoder and a look at its length.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hsm.core.plain_json import encode, identity
from hsm.core.record.job import Job
from hsm.core.record.large import INLINE, Large, Shelf

#: Bytes of a line, its end included.
MAX_LENGTH = 64 << 10
#: Jobs whose numbers one record holds.
MAX_NUMBERS = 2000
#: Characters of a text that lies beside which its record shows.
_SHOWN = 500
_SHOWN_WITHOUT_ROOM = 120
#: The disk, a quota or a limit on the size of files has no room.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: Bytes of a value that waits for room, rather than being left out.
_SMALL = 256
#: Fields that say what a record is about: they are short, and stay.
_OWN = frozenset(
    {"v", "event", "time", "sweep_id", "pid", "job", "jobs", "attempt", "state", "id", "large"}
)

#: Texts of which the beginning says nothing, or something else.
_WHOLE = frozenset({"value", "job_dir", "cwd"})

#: Keeps a field that is too large, given its name and its JSON.
Put = Callable[[str, str], Large]


def line_of(record: Mapping[str, Any], put: Put) -> bytes:
    """`record` as a line.

    Raises:
        OSError: from `put`.
    """
    text = encode(record)
    return (text if len(text) <= INLINE else _fitted(record, text, put)).encode() + b"\n"


def _fitted(record: Mapping[str, Any], text: str, put: Put) -> str:
    """`record`, whose JSON is `text`, as JSON without its largest fields."""
    record = dict(record)
    sizes = {name: len(encode(value)) for name, value in record.items() if name not in _OWN}
    while sizes:
        name = max(sizes, key=sizes.__getitem__)
        if sizes.pop(name) <= INLINE and len(text) < MAX_LENGTH:
            break
        value = record.pop(name)
        if isinstance(value, str) and name not in _WHOLE:
            record[name] = beginning(value, _SHOWN)
        large = {**record.pop("large", {}), name: put(name, encode(value)).reference()}
        record["large"] = large
        text = encode(record)
    return text


def beginning(text: str, most: int) -> str:
    """`text`, or its first characters, if it has more than `most`, and how many it has."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def without_values(line: bytes, error: OSError) -> bytes | None:
    """The line of an ending for a disk that, as `error` says, has no room for all of it.

    None if it has nothing to leave out.
    """
    record = json.loads(line)
    less = {
        name: beginning(value, _SHOWN_WITHOUT_ROOM)
        if isinstance(value, str) and name not in _OWN | _WHOLE
        else value
        for name, value in record.items()
    }
    if "value" in less and len(encode(less["value"])) > _SMALL:
        del less["value"]
        less["large"] = {**record.get("large", {}), "value": {"lost": reason_of(error)}}
    made = encode(less).encode() + b"\n"
    return made if len(made) < len(line) else None


def reason_of(error: OSError) -> str:
    """What the system says of what went wrong."""
    return error.strerror or str(error)


def loss(record: Mapping[str, Any], name: str, error: OSError) -> str:
    """What is lost of a record, for a person."""
    what = {"value": "return value"}.get(name, name.replace("_", " "))
    return f"job {record.get('job')}: its {what} could not be recorded: {reason_of(error)}"


def loss_of(line: bytes, error: OSError) -> str:
    """What a line `without_values` has lost, for a person."""
    record = json.loads(line)
    return loss(record, "value" if "value" in record.get("large", {}) else "error_message", error)


def submit_lines(jobs: Iterable[Job], time: float, shelf: Shelf) -> bytes:
    """The records of jobs that were queued at `time`: as many jobs in each as it can hold.

    A label that is put beside the journal is no longer held by its job: see `Job.large_label`.

    Raises:
        OSError: what is too large for a record cannot be kept.
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
    """The entries in groups that fit into a record each."""
    room = most = MAX_LENGTH - 128  # for what is around them
    group: list[str] = []
    for entry in entries:
        if group and len(entry) + 1 > room:
            yield group
            room, group = most, []
        room -= len(entry) + 1
        group.append(entry)
    if group:
        yield group


def _entry(job: Job, shelf: Shelf) -> str:
    entry = {"job": job.num, "id": job.job_id, "label": job.label, "params": job.params}
    text = encode(entry)
    if len(text) <= INLINE:
        return text

    def put(name: str, text: str) -> Large:
        if name == "params":
            return shelf.put(text, identity=identity(job.params))
        large = shelf.put(text)
        if name == "label":  # As the record has it: displays go through it again and again.
            job.label, job.large_label = beginning(job.label, _SHOWN), large
        return large

    return _fitted(entry, text, put)
