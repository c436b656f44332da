"""How an earlier launcher of a sweep has chosen its points: the `chosen` of its record."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from hsm.core.record.journal_header import open_journal
from hsm.core.record.paths import SweepPaths
from hsm.core.record.schema import BadRecord, parse

_LAUNCHES = ("sweep", "resume")
_MAX_SEED = 1 << 32


def earlier_choice(paths: SweepPaths) -> Mapping[str, Any]:
    """What the latest launcher that chose has recorded; empty if none has.

    Parses only lines that may be one's, as a resume soon reads the others.

    Raises:
        JournalError: the journal cannot be read.
    """
    chosen: Mapping[str, Any] = {}
    with open_journal(paths) as lines:
        for _, line in lines.read():
            if line is None or b'"chosen"' not in line:
                continue
            with suppress(BadRecord):
                record = parse(line)
                found = record.get("chosen")
                if record.get("event") in _LAUNCHES and isinstance(found, dict):
                    chosen = found
    return chosen


def chosen_seed(chosen: Mapping[str, Any]) -> int | None:
    """The seed that points were chosen with; None if they are not random."""
    seed = chosen.get("seed")
    return seed if type(seed) is int and 0 <= seed < _MAX_SEED else None
