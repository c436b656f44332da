"""Sweep files -> axes: YAML, CSV and JSON lines.

`hsm.core.space.definition` describes the formats. Every mistake in a file raises a SettingsError
that names the file and, if known, the line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from hsm.core.space.axes import Axis
from hsm.core.space.choosing import KEYS
from hsm.core.space.row_files import read_csv, read_jsonl, read_list
from hsm.core.space.sections import (
    SECTIONS,
    check_names,
    line_of,
    read_choosing,
    read_sections,
)
from hsm.core.space.sweep_text import SweepText, decoded, read_bytes, unreadable
from hsm.core.yaml_lines import Lined, load_yaml

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

#: How a YAML file begins: with a key, with an item of a list, or with the marks of a document.
_YAML_START = re.compile(r"""(---|%YAML|-\s|["']?[\w.+@/-]+["']?\s*:(\s|$))""")
_FORM = (
    "a mapping with the one key sweep: (and grid:, zip:, points: and others below it), or a list "
    "of points, each a mapping"
)
_SWEEP = "a mapping with grid:, zip: or points:"


class Written(NamedTuple):
    """What a sweep file says.

    Attributes:
        blocks: the axes of its points.
        choosing: how to choose them, see `hsm.core.space.definition.SweepDefinition.choosing`.
    """

    blocks: list[list[Axis]]
    choosing: dict[str, tuple[Any, str]]


def read_file(
    path: str | os.PathLike[str],
    config_loader: ConfigLoader | None = None,
    intervals: bool | None = False,
) -> Written:
    """Read a sweep file, whose name tells its format.

    Args:
        path: the file.
        config_loader: looks up config groups for ``glob()``.
        intervals: whether intervals may be in it; None: if its own method draws from them.

    Raises:
        SettingsError: the file cannot be read, or is not valid.
    """
    return read_data(sweep_file_text(path).encode(), os.fspath(path), config_loader, intervals)


def sweep_file_text(path: str | os.PathLike[str]) -> str:
    """What a sweep file says. Raises SettingsError: it is none, or cannot be read."""
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        endings = f"its name must end in {', '.join(_READERS)}"
        raise unreadable(str(path), endings, endings)
    return decoded(read_bytes(path), str(path))


def read_data(
    data: bytes,
    name: str,
    config_loader: ConfigLoader | None = None,
    intervals: bool | None = False,
    more_keys: Sequence[str] = (),
) -> Written:
    """Read a sweep from a text; its name tells its format, or else its own first lines.

    Args:
        data: the text.
        name: the file that it is from, or what else it is called in messages.
        config_loader, intervals: see `read_file`.
        more_keys: keys of `choosing` that the caller knows besides `KEYS`.

    Raises:
        SettingsError: it is not valid.
    """
    text = decoded(data, name)
    reader = _READERS.get(Path(name).suffix.lower())
    file = SweepText(name, text, config_loader, more_keys=more_keys)
    try:
        return (reader or _reader_for(text))(file, intervals)
    except RecursionError:
        raise unreadable(name, "less deeply nested", "it is nested too deeply") from None


def _reader_for(text: str) -> _Reader:
    """The reader for a text of any format, by its first line that is neither blank nor a comment.

    JSON lines begin with a brace, and YAML with ``sweep:`` or another key, or with an item of a
    list; all else is CSV.
    """
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    if first.startswith("{"):
        return _read_jsonl
    return _read_yaml if _YAML_START.match(first) else _read_csv


def _read_yaml(file: SweepText, intervals: bool | None) -> Written:
    top = load_yaml(file.text, file.path)
    if isinstance(top, list):
        return Written([[read_list(file, top, None, "the file", _FORM)]], {})
    if not isinstance(top, Lined) or not top:
        file.refuse(None, "the file", top, _FORM)
    check_names(file, top, ("sweep",))
    sweep, line = top["sweep"], line_of(top, "sweep")
    if not isinstance(sweep, Lined) or not sweep:
        file.refuse(line, "sweep:", sweep, _SWEEP)
    check_names(file, sweep, list(dict.fromkeys((*SECTIONS, *KEYS, *file.more_keys))))
    choosing = read_choosing(file, sweep)
    if intervals is None:
        # Whether that is a method at all is checked with the rest of what chooses the points.
        intervals = "method" in sweep and sweep["method"] != "grid"
    blocks = read_sections(replace(file, intervals=intervals), sweep)
    if not blocks:
        problem = f"sweep: says how to choose points, but has none: it must be {_SWEEP}"
        file.refuse(line, "sweep:", dict(sweep), _SWEEP, problem=problem)
    return Written(blocks, choosing)


def _read_csv(file: SweepText, intervals: bool | None) -> Written:
    return Written([[read_csv(file)]], {})


def _read_jsonl(file: SweepText, intervals: bool | None) -> Written:
    return Written([[read_jsonl(file)]], {})


_Reader: TypeAlias = Callable[[SweepText, bool | None], Written]
_READERS: dict[str, _Reader] = {
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
}
