"""The results of jobs that lie outside the journal: files of theirs, and what they reported.

<job dir>/results.json   any object that the job wrote there; nested keys become dotted
<job dir>/metrics.json   likewise
.hsm/metrics/<n>.jsonl   what it reported, line by line, see `hsm.core.record.metrics`
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from hsm.core.files import open_below, open_linked
from hsm.core.plain_json import is_flat
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import Sweep

#: The group of columns, and the file in a job's directory that it comes from.
FILES = {"results": "results.json", "metrics": "metrics.json"}
#: Bytes; a larger file is skipped, as it hardly belongs into a row of a table.
_MAX_FILE = 16 << 20
_REPORTS = ".jsonl"


def wrote_files(sweep: Sweep, most: int | None = None) -> bool:
    """Whether any job has a file that a metric could come from; asks for each file just once.

    The journal cannot say so: a file may be written, or moved there, after its job has ended.

    Args:
        sweep: the sweep.
        most: in about how many places to look at most, evenly spread over the sweep; None for all.
    """
    if reporting_jobs(sweep.paths):
        return True
    results, metrics = FILES.values()
    try:
        # From the sweep's directory on, as looking up its path 200,000 times takes long.
        folder = os.open(sweep.paths.sweep_dir, getattr(os, "O_PATH", os.O_RDONLY))
    except OSError:
        return False
    try:
        # An odd step, as some jobs have two places, one after the other.
        step = 1 if most is None else len(sweep.jobs) // most | 1
        for place in islice(sweep.jobs.places(sweep.paths), 0, None, step):
            if os.access(f"{place}/{results}", os.F_OK, dir_fd=folder) or os.access(
                f"{place}/{metrics}", os.F_OK, dir_fd=folder
            ):
                return True
    finally:
        os.close(folder)
    return False


def reporting_jobs(paths: SweepPaths) -> frozenset[int]:
    """The numbers of the jobs that have reported anything."""
    try:
        names = os.listdir(paths.metrics)
    except OSError:
        return frozenset()
    numbers = (name.removesuffix(_REPORTS) for name in names if name.endswith(_REPORTS))
    return frozenset(int(text) for text in numbers if text.isascii() and text.isdigit())


def read_object(directory: str, name: str, sweep_dir: Path) -> dict[str, Any] | None:
    """The JSON object in a job's file; None if there is no file. Raises OSError or ValueError.

    The file may be a link to a file in the job's directory or in the sweep's.
    """
    place = f"{directory}/{name}"
    try:
        is_link = stat.S_ISLNK(os.lstat(place).st_mode)  # most jobs have no such file
        folder, path = Path(directory), Path(place)
        fd = open_linked(path, folder, sweep_dir) if is_link else open_below(folder, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(fd, "rb") as file:
        size = os.fstat(fd).st_size
        if size > _MAX_FILE:
            raise ValueError(f"is larger than {_MAX_FILE >> 20} MiB")
        try:
            content = json.loads(file.read(size))
        except (RecursionError, MemoryError):
            raise ValueError("is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__}, not an object")  # noqa: TRY004
    if not is_flat(content):
        raise ValueError("is nested too deeply")
    return content


def flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``{"a": {"b": 1}}`` -> ``("a.b", 1)``; an empty object counts as a value."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
