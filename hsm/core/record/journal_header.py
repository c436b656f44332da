"""Opens a journal; its first line, which describes the sweep, and the version of its format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hsm.core.errors import HsmError, shown
from hsm.core.files import NotRegular
from hsm.core.record.journal_lines import JournalLines
from hsm.core.record.paths import SweepPaths
from hsm.core.record.schema import LAUNCH_FIELDS, BadRecord, check, parse

#: The format version that this hsm writes, and the latest that it reads.
VERSION = 2


class JournalError(HsmError):
    """A journal cannot be read or written; says which file and why."""


def open_journal(paths: SweepPaths) -> JournalLines:
    """The lines of the journal at `paths`. Raises JournalError if it cannot be read."""
    try:
        return JournalLines(paths.sweep_dir, paths.journal)
    except NotRegular as error:
        raise JournalError(f"cannot read {error.filename}: {error.strerror}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise JournalError(f"no sweep in {paths.sweep_dir}: {reason}") from error


def has_begun(paths: SweepPaths) -> bool:
    """Whether the journal at `paths` has a first line.

    If it has none, the launcher was killed as it started, and there is no sweep yet.
    """
    try:
        with open_journal(paths) as lines:
            return next(lines.read(), None) is not None
    except JournalError:
        return False


def read_header(path: Path, line: bytes | None) -> dict[str, Any]:
    """Parse the first line of the journal at `path`. Raises JournalError."""
    try:
        header = parse(line)
        if type(header.get("v")) is not int:
            raise BadRecord("it has no version")
        check_version(path, header)
        check(header, LAUNCH_FIELDS, "sweep_id", "time")
    except BadRecord as error:
        raise JournalError(f"{path}: the first line does not describe a sweep: {error}") from error
    return header


def check_version(path: Path, record: Mapping[str, Any]) -> None:
    """Raise JournalError if a newer hsm wrote this record. Raises BadRecord."""
    version = record.get("v", 1)
    if type(version) is not int:
        raise BadRecord(f"v is {shown(version)}, not a version")
    if version > VERSION:
        raise JournalError(
            f"{path}: written in format {version} by hsm {_version_text(record)}; "
            f"this hsm reads up to {VERSION}"
        )


def _version_text(header: Mapping[str, Any]) -> str:
    version = header.get("hsm", "?")
    return version if isinstance(version, str) and version.isprintable() else shown(version)
