"""`hsm list`: the user's sweeps on this machine, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

import typer

from hsm.cli._options import Json, new_app
from hsm.cli._printing import end_with_the_reader, print_json, print_table
from hsm.cli._stdout import say
from hsm.core.record.job import count_states
from hsm.core.record.registry import KnownSweep, known_sweeps
from hsm.core.record.sweep import JournalError, read_sweep
from hsm.display.text import from_here

app = new_app()

Limit = Annotated[
    int, typer.Option("--limit", "-n", metavar="N", min=1, help="Only the newest N sweeps.")
]


@app.command("list")
def list_sweeps(limit: Limit = 20, as_json: Json = False) -> None:
    """List the sweeps that you started on this machine, newest first, from hsm, Hydra or Python.

    Sweeps whose directories are gone are not listed.
    """
    end_with_the_reader()
    found = [_describe(known) for known in islice(known_sweeps(), limit)]
    if as_json:
        print_json(found)
    elif found:
        columns = ["sweep", "started", "status", "jobs", "completed", "other", "directory"]
        rows = [_row(facts) for facts in found]
        print_table(
            columns,
            rows,
            right=("jobs", "completed"),
            wraps=("status", "other", "directory"),
            droppable=("directory", "started"),
            hint="hsm list --json shows all",
        )
    else:
        say("no sweeps yet: hsm sweep starts one")


def _describe(known: KnownSweep) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "sweep_id": known.sweep_id,
        "sweep_dir": known.paths.sweep_dir,
        "started": known.time,
    }
    try:
        sweep = read_sweep(known.paths.sweep_dir)
    except JournalError as error:
        return {**facts, "status": str(error), "jobs": 0, "states": {}}
    status = sweep.closed or ("running" if sweep.alive else "launcher died")
    jobs = list(sweep.jobs.values())
    return {**facts, "status": status, "jobs": len(jobs), "states": count_states(jobs)}


def _row(facts: dict[str, Any]) -> list[str]:
    started = datetime.fromtimestamp(facts["started"]).astimezone()
    return [
        facts["sweep_id"],
        f"{started:%Y-%m-%d %H:%M:%S}",
        facts["status"],
        str(facts["jobs"]),
        str(facts["states"].get("COMPLETED", 0)),
        ", ".join(_others(facts["states"])),
        from_here(facts["sweep_dir"]),
    ]


def _others(counts: dict[str, int]) -> Iterator[str]:
    for state, count in counts.items():
        if state != "COMPLETED":
            yield f"{count} {state.lower().replace('_', ' ')}"
