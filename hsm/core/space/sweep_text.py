"""What the readers of sweep files share: a text that knows its place, and the values in it.

Every mistake raises a SettingsError that names the file and, if known, the line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hsm.core.errors import SettingsError, shown
from hsm.core.needs import NEEDS
from hsm.core.settings.point_needs import read_needs
from hsm.core.space.arguments import to_override
from hsm.core.space.axes import STRING_KEYS
from hsm.core.space.grammar import check_key, plain_key
from hsm.core.yaml_lines import Lined

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader


@dataclass(frozen=True)
class SweepText:
    """What a sweep is read from.

    Attributes:
        path: the file's path, or what else messages call it.
        text: its content.
        config_loader: looks up config groups for ``glob()``.
        intervals: whether a parameter may be an interval, which has no list of values.
        more_keys: keys that a sweep may have besides those of this package.
    """

    path: str
    text: str = ""
    config_loader: ConfigLoader | None = None
    intervals: bool = False
    more_keys: Sequence[str] = ()

    def at(self, line: int | None) -> str:
        return f"{self.path}, line {line}" if line else self.path

    def refuse(
        self,
        line: int | None,
        key: str,
        value: object,
        allowed: str,
        hint: str = "",
        *,
        problem: str = "",
    ) -> NoReturn:
        """Raise SettingsError; `problem` says what is wrong where "must be" would be stiff."""
        message = f"{self.at(line)}: {problem}" if problem else ""
        raise SettingsError(key, value, self.at(line), allowed, hint, message=message)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a file. Raises SettingsError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise unreadable(str(path), "one that can be read", reason) from error
    except ValueError as error:  # a NUL in its name
        raise unreadable(str(path), "one that can be read", str(error)) from error


def decoded(data: bytes, name: str) -> str:
    """The text of a file. Raises SettingsError."""
    try:
        return data.decode("utf-8-sig")  # Spreadsheets write a byte order mark.
    except UnicodeDecodeError as error:
        raise unreadable(name, "text in UTF-8", f"it is not UTF-8: {error}") from error


def unreadable(name: str, allowed: str, reason: str) -> SettingsError:
    """The error for a file that cannot be read, because of `reason`."""
    message = f"cannot read the sweep file {shown(name)}: {reason}"
    return SettingsError("the file", name, "sweep file", allowed, reason, message=message)


class TakenKeys:
    """The parameters that one part of a sweep has set so far; none may be set twice."""

    def __init__(self, file: SweepText) -> None:
        self._file = file
        self._where: dict[str, tuple[str, int | None]] = {}

    def add(self, key: str, where: str, line: int | None) -> None:
        name = plain_key(key)
        if name in self._where:
            first, first_line = self._where[name]
            problem = f"{shown(key)} is set twice"
            if first != where:
                problem += f": by {where} and by {first}"
            if first_line and first_line != line:
                problem += f", first in line {first_line}"
            self._file.refuse(line, f"a key of {where}", key, "new", problem=problem)
        self._where[name] = (where, line)


def flat(
    file: SweepText, mapping: Mapping[Any, Any], line: int | None, prefix: str = ""
) -> Iterator[tuple[str, Any, int | None]]:
    """Yield the dotted keys of a mapping of mappings, with their values and lines."""
    for key, value in mapping.items():
        at = mapping.lines.get(key, line) if isinstance(mapping, Lined) else line
        if not isinstance(key, str):
            check_key(key, file.at(at))
        if isinstance(value, dict) and value and prefix + key != NEEDS:
            yield from flat(file, value, at, f"{prefix}{key}.")
        else:
            yield check_key(prefix + key, file.at(at)), value, at


def read_row(file: SweepText, row: Mapping[Any, Any], line: int | None) -> dict[str, Any]:
    """The parameters of a point that is written out."""
    taken = TakenKeys(file)
    assignments = {}
    for key, value, at in flat(file, row, line):
        taken.add(key, "a job", at)
        assignments[key] = checked(file, key, value, at)
    return assignments


def checked(file: SweepText, key: str, value: Any, line: int | None) -> Any:
    """Return `value` in plain types; refuse it if an argument cannot hold it."""
    if key == NEEDS:
        return read_needs(value or None, file.at(line))
    if value is None or isinstance(value, (bool, float)):
        return value
    if not isinstance(value, str) or not value.isascii() or "\0" in value:
        if _has_other_keys(value):
            problem = f"{key}: {STRING_KEYS}"
            file.refuse(line, key, value, STRING_KEYS, problem=problem)
        value = _plain(value)
        to_override(key, value, file.at(line))
    return value


def _has_other_keys(value: Any) -> bool:
    """Whether a dict in `value` has a key that is not a string."""
    if isinstance(value, dict):
        return any(not isinstance(k, str) or _has_other_keys(v) for k, v in value.items())
    return isinstance(value, (list, tuple)) and any(map(_has_other_keys, value))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    # Tuples come from YAML's !!omap.
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
