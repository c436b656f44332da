"""`hsm rm`: remove sweeps, with all that they have made."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hsm.cli._complete import sweep_ids
from hsm.cli._find import named_sweep
from hsm.cli._option_sets import HsmConfigFile, new_app
from hsm.cli._stdout import say
from hsm.core.errors import HsmError
from hsm.core.record.job import JobState
from hsm.core.record.sweep import read_sweep
from hsm.core.record.sweep_contents import SweepContents
from hsm.core.units import format_size
from hsm.display.text import from_here

app = new_app()

#: Names listed in a message.
_MAX_NAMES = 5

Sweeps = Annotated[
    list[str],
    typer.Argument(
        metavar="SWEEP...",
        help="Sweeps: the id of each, the start of one, its directory, or last.",
        autocompletion=sweep_ids,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("rm")
def remove(sweeps: Sweeps, yes: Yes = False, hsm_config: HsmConfigFile = "") -> int:
    """Remove sweeps: their records, logs and results, and the directories of their jobs.

    Shows what would go, and asks. What else lies in a sweep's directory stays. A running sweep is
    refused.
    """
    found = [named_sweep(name, hsm_config=hsm_config) for name in sweeps]
    unique = {paths.sweep_dir: paths for paths in found}
    all_contents = [SweepContents(read_sweep(directory)) for directory in unique]
    for contents in all_contents:
        say(_describe(contents))
        for place in contents.elsewhere[:_MAX_NAMES]:
            say(f"  {from_here(place)} stays: it may hold more than a job's output")
    if not yes and not _agreed(len(all_contents)):
        say("nothing was removed")
        return 1
    for contents in all_contents:
        left = contents.remove()
        directory = from_here(contents.sweep.paths.sweep_dir)
        say(f"removed {contents.sweep.sweep_id}")
        if left:
            more = f", … ({len(left)} in all)" if len(left) > _MAX_NAMES else ""
            say(f"  {directory} stays, with {', '.join(left[:_MAX_NAMES])}{more}")
    return 0


def _describe(contents: SweepContents) -> str:
    sweep = contents.sweep
    states = sweep.jobs.count_states()
    counts = ", ".join(f"{n} {JobState(state).words}" for state, n in states.items())
    jobs = f"{len(sweep.jobs)} job{'' if len(sweep.jobs) == 1 else 's'}"
    size = format_size(contents.size)
    what = f"{sweep.sweep_id}: {jobs} ({counts}), {size} in {from_here(sweep.paths.sweep_dir)}"
    if not contents.earlier:
        return what
    return f"{what}, and the records of {contents.earlier} that were there before"


def _agreed(count: int) -> bool:
    """Ask on the terminal. Raises HsmError where there is none."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise HsmError("nothing was removed: there is no terminal to ask on; --yes does not ask")
    what = "it" if count == 1 else f"these {count} sweeps"
    try:
        answer = input(f"Remove {what}? [y/N] ")
    except EOFError:
        say()
        return False
    return answer.strip().lower() in ("y", "yes")
