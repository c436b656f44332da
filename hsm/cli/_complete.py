"""What the shell offers while a command line is typed."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice

import typer

#: What is offered goes through the shell, zsh's `eval` too: nothing that it would read in its way.
_SPECIAL = re.compile(r"[^\w ,.:=+/@%~-]")
_PLAIN = re.compile(r"[\w ,.:=+/@%~-]+")
#: Characters of a label.
_MAX_LENGTH = 100
#: More would not fit on a screen.
_MAX_SIZE = 50


def sweep_ids(incomplete: str) -> list[str]:
    """The ids of known sweeps that begin so, newest first."""
    from hsm.core.record.registry import known_sweeps
    from hsm.core.record.sweep_id import LAST

    ids = dict.fromkeys(sweep.sweep_id for sweep in known_sweeps())
    fitting = (name for name in ids if name.startswith(incomplete) and _PLAIN.fullmatch(name))
    return [*islice(fitting, _MAX_SIZE), *(name for name in (LAST,) if name.startswith(incomplete))]


def one_of(*values: str) -> Callable[[str], list[str]]:
    """Offers those of `values` that begin as what was typed."""

    def fitting(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return fitting


def job_numbers(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The numbers of the sweep's jobs that begin so, with their labels."""
    from hsm.core.errors import HsmError
    from hsm.core.record.registry import find_sweep
    from hsm.core.record.sweep import read_sweep

    try:
        sweep = read_sweep(find_sweep(ctx.params.get("sweep") or "").sweep_dir)
    except HsmError:
        return []
    nums = [str(num) for num in sorted(sweep.jobs) if str(num).startswith(incomplete)]
    return [(num, _plain(sweep.jobs[int(num)].label)) for num in nums[:_MAX_SIZE]]


def _plain(label: str) -> str:
    """What a shell, and rich's markup, can take of a label."""
    from hsm.core.printable import printable
    from hsm.display.text import shorten

    return _SPECIAL.sub("?", shorten(printable(label), _MAX_LENGTH))
