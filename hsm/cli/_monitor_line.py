"""A command line of `hsm monitor`.

hsm monitor --once digits
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hsm.cli._usual_words import UsualWords

#: The settings that it has options for.
RANKING = ("metric", "direction")


@dataclass
class MonitorLine:
    """What a command line says; what it leaves out is as here.

    Attributes:
        settings: those in `RANKING`, by their names; None for those left out.
    """

    sweep: str = ""
    sweep_id: str = ""
    mode: str = "local"
    once: bool = False
    show_output: bool = False
    progress: str = "auto"
    as_json: bool = False
    hsm_config: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


#: Options that take a text, and the attributes that hold it.
_TEXTS = {"--sweep-id": "sweep_id", "--progress": "progress", "--hsm-config": "hsm_config"}
#: Those that take none.
_FLAGS = {"--once": "once", "--show-output": "show_output", "--json": "as_json"}


def read_monitor_line(words: Sequence[str]) -> MonitorLine | None:
    """Read the words after `hsm monitor`; None if that takes typer."""
    read = UsualWords(_TEXTS, _FLAGS, RANKING)
    if not read.read(words) or len(read.arguments) > 1:
        return None
    sweep = read.arguments[0] if read.arguments else ""
    return MonitorLine(sweep, **read.own, settings=read.settings)
