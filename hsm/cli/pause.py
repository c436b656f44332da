"""`hsm pause`: let a running sweep start no more jobs for now."""

from __future__ import annotations

from typing import Annotated

import typer

from hsm.cli._find import named_sweep
from hsm.cli._option_sets import HsmConfigFile, OptionalSweep, new_app
from hsm.cli._requesting import carry_out, running_sweep
from hsm.cli._stdout import say
from hsm.core.record.controls import Pause
from hsm.core.record.job import JobState

app = new_app()

Running = Annotated[
    bool,
    typer.Option(
        "--running", help="Stop the processes of running jobs as well, and their time limits."
    ),
]


@app.command("pause")
def pause(
    sweep: OptionalSweep = "", running: Running = False, hsm_config: HsmConfigFile = ""
) -> None:
    """Pause a running sweep: no job starts until `hsm continue`.

    Running jobs go on, unless --running stops them, too (SIGSTOP). A pause ends with its launcher:
    a sweep that is resumed is not paused.
    """
    with running_sweep(named_sweep(sweep, hsm_config=hsm_config)) as replay:
        carry_out(replay, Pause(running))
        count = len(replay.sweep.jobs.where(lambda state: state is JobState.RUNNING))
        jobs = f"{count} running job{' is' if count == 1 else 's are'} stopped"
        if not running:
            jobs = f"{count} running job{' goes' if count == 1 else 's go'} on"
        sweep_id = replay.sweep.sweep_id
        say(f"{sweep_id} is paused: no job starts until hsm continue {sweep_id}; {jobs}")
