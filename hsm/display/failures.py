"""Why a job failed, as far as its logs tell: the end of what it printed, wherever it printed it.

stderr has an error            --> its end
stdout alone has anything      --> its end
both have something, no error  --> the ends of both
neither                        --> a log that the job kept itself, or what its exception said
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from hsm.core.printable import printable, shorten
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths
from hsm.display.tail import last_lines
from hsm.display.text import clean, from_here

_LINES = 10
#: Of stdout, if stderr is shown as well but has no error.
_FEWER_LINES = 5
_MAX_LINE = 500

_FRAME = re.compile(r'\s*\|?\s*File ".*", line \d+')
_ERROR = re.compile(
    r"Traceback \(|\b\w*(?:Error|Exception)\b"
    r"|(?i:\b(?:error|fatal|panic\w*|abort\w*|critical|fail\w*|killed|denied|cannot|can't"
    r"|could not|no such|not found|segmentation|core dumped|assert\w*)\b|\busage:)"
)
_NO_ERROR = re.compile(r"\bWarning\b|\w+Warning:|\bWARN|\bINFO\b|\bDEBUG\b")


class Detail(NamedTuple):
    """A line on a failed job: what it printed, or a `note` on that."""

    text: str
    is_note: bool = False


def failure_details(job: Job, paths: SweepPaths, *, brief: bool = False) -> list[Detail]:
    """Return the last lines that a failed job printed, and where there are more.

    Args:
        brief: show of a traceback only where it ends, since all of it will be shown later.
    """
    errors, output = (last_lines(log, _LINES) for log in _logs(job, paths))
    stderr, stdout = (_note(log) for log in _logs(job, paths))
    if brief:
        errors = _end_of_traceback(errors, job)
    if errors and (not output or any(map(_is_error, errors))):
        return [*_details(errors), stderr]
    if errors:
        return [*_details(errors), stderr, *_details(output[-_FEWER_LINES:]), stdout]
    if output:
        return [*_details(output), stdout]
    for log in _own_logs(job, paths):
        if lines := last_lines(log, _LINES):
            return [*_details(_end_of_traceback(lines, job) if brief else lines), _note(log)]
    return [*_details(_message(job)), Detail("it printed nothing", is_note=True)]


def failure_message(job: Job, details: Sequence[Detail]) -> str:
    """How a job failed, in one line: if it is an exit code alone, with the last line printed."""
    text = job.ending()
    if not says_why(job):
        printed = list(takewhile(lambda detail: not detail.is_note, details))
        if printed:
            text = f"{text}: {printed[-1].text.strip()}"
    return shorten(printable(text), _MAX_LINE)


def says_why(job: Job) -> bool:
    """Whether a job's ending is more than an exit code."""
    ending = job.outcome
    return not ending or not ending.exit_code or bool(ending.reason or ending.error_type)


def _logs(job: Job, paths: SweepPaths) -> tuple[Path, Path]:
    return paths.stderr(job.num), paths.stdout(job.num)


def _details(lines: Sequence[str]) -> Iterator[Detail]:
    return map(Detail, lines)


def _note(log: Path) -> Detail:
    return Detail(f"log: {printable(from_here(log))}", is_note=True)


def _is_error(line: str) -> bool:
    return _ERROR.search(line) is not None and _NO_ERROR.search(line) is None


def _end_of_traceback(lines: list[str], job: Job) -> list[str]:
    """The innermost frame of a traceback, without the line that is shown of every failure.

    All lines if there is no frame.
    """
    frames = [number for number, line in enumerate(lines) if _FRAME.match(line)]
    return [line for line in lines[frames[-1] :] if line != job.ending()] if frames else lines


def _own_logs(job: Job, paths: SweepPaths) -> list[Path]:
    """Logs that the job has written into its directory, such as Hydra's; the newest one first."""
    with suppress(OSError), os.scandir(job.job_dir or paths.job_dir(job.num)) as entries:
        logs = [
            (entry.stat().st_mtime, Path(entry.path))
            for entry in entries
            if entry.name.endswith(".log") and entry.is_file(follow_symlinks=False)
        ]
        return [path for _, path in sorted(logs, reverse=True)]
    return []


def _message(job: Job) -> list[str]:
    """What the job's exception said beyond the one line that is shown of every failure."""
    message = (job.outcome.error_message if job.outcome else None) or ""
    lines = message.rstrip().split("\n")
    return [shorten(clean(line), _MAX_LINE) for line in lines[-_LINES:]] if len(lines) > 1 else []
