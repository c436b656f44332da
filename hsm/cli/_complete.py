"""Shell completion: candidates for the word being typed."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice

import typer

#: Candidates pass through the shell, including zsh's `eval`, so none may contain anything that it
#: would interpret.
_SPECIAL = re.compile(r"[^\w ,.:=+/@%~-]")
_PLAIN = re.compile(r"[\w ,.:=+/@%~-]+")
#: Characters of a label.
_MAX_LENGTH = 100
#: Candidates; more would not fit on a screen.
_MAX_CANDIDATES = 50


def sweep_ids(incomplete: str) -> list[str]:
    """Ids of known sweeps that start with `incomplete`, newest first."""
    from hsm.core.record.registry import known_sweeps
    from hsm.core.record.sweep_id import LAST

    ids = dict.fromkeys(sweep.sweep_id for sweep in known_sweeps())
    matching = (name for name in ids if name.startswith(incomplete) and _PLAIN.fullmatch(name))
    last = [LAST] if LAST.startswith(incomplete) else []
    return [*islice(matching, _MAX_CANDIDATES), *last]


def one_of(*values: str) -> Callable[[str], list[str]]:
    """Make a completer that offers those of `values` that start with what was typed."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def job_numbers(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Numbers of the sweep's jobs that start with `incomplete`, with their labels."""
    from hsm.core.errors import HsmError
    from hsm.core.job_numbers import are_numbers
    from hsm.core.record.registry import find_sweep, has_sweep
    from hsm.core.record.sweep import read_sweep
    from hsm.core.record.sweep_id import LAST

    name = ctx.params.get("sweep") or LAST
    try:
        is_job = are_numbers(name) and not has_sweep(name)
        sweep = read_sweep(find_sweep(LAST if is_job else name).sweep_dir)
    except HsmError:
        return []
    nums = [str(num) for num in sorted(sweep.jobs) if str(num).startswith(incomplete)]
    return [(num, _plain(sweep.jobs[int(num)].label)) for num in nums[:_MAX_CANDIDATES]]


def _plain(label: str) -> str:
    """Return the label without characters that the shell or rich's markup would interpret."""
    from hsm.core.printable import printable, shorten

    return _SPECIAL.sub("?", shorten(printable(label), _MAX_LENGTH))
