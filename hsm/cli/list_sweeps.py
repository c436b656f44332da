"""`hsm list`: the user's sweeps on this machine, newest first."""

from __future__ import annotations

import time
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

import typer

from hsm.cli._option_sets import Json, new_app
from hsm.cli._printing import end_with_the_reader, print_json, print_table
from hsm.cli._stdout import say
from hsm.core.record.job import JobState
from hsm.core.record.journal_header import JournalError
from hsm.core.record.registry import KnownSweep, known_sweeps
from hsm.core.record.sweep import read_sweep
from hsm.core.units import format_age
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
        now = time.time()
        print_table(
            ["sweep", "status", "jobs", "age", "started", "directory"],
            [_row(facts, now) for facts in found],
            right=("age",),
            wraps=("status", "jobs"),
            shrinks=("sweep",),
            droppable=("directory", "started"),
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
        return {**facts, "status": str(error), "jobs": 0, "states": {}, "to_come": 0}
    return {
        **facts,
        "status": sweep.status,
        "jobs": len(sweep.jobs),
        "states": sweep.jobs.count_states(),
        "to_come": sweep.to_come or 0,
    }


def _row(facts: dict[str, Any], now: float) -> list[str]:
    started = datetime.fromtimestamp(facts["started"]).astimezone()
    counts = [f"{count} {JobState(state).words}" for state, count in facts["states"].items()]
    if facts["to_come"]:
        is_going_on = facts["status"] in ("running", "paused")
        counts.append(f"{facts['to_come']} {'to come' if is_going_on else 'not begun'}")
    return [
        facts["sweep_id"],
        facts["status"],
        ", ".join(counts),
        format_age(now - facts["started"]),
        f"{started:%Y-%m-%d %H:%M:%S}",
        from_here(facts["sweep_dir"]),
    ]
