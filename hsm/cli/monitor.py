"""`hsm monitor`: watch a sweep from any terminal, while it runs or after."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hsm.cli._complete import one_of
from hsm.cli._monitor_action import run_line
from hsm.cli._monitor_line import RANKING, MonitorLine
from hsm.cli._option_sets import (
    HsmConfigFile,
    Json,
    Mode,
    OptionalSweep,
    SweepId,
    new_app,
    with_settings,
)
from hsm.core.settings.resolve import SETTINGS

app = new_app()

_PROGRESS = SETTINGS["progress"]

Once = Annotated[bool, typer.Option("--once", help="Print the current state and exit.")]
ShowOutput = Annotated[
    bool, typer.Option("--show-output", help="Show what jobs print from now on.")
]
Progress = Annotated[
    str,
    typer.Option(
        "--progress",
        metavar=_PROGRESS.kind.metavar,
        help="How to show progress, as in hsm sweep.",
        autocompletion=one_of(*_PROGRESS.kind.names),
    ),
]


@app.command("monitor")
@with_settings(*RANKING)
def monitor(
    sweep: OptionalSweep = "",
    sweep_id: SweepId = "",
    mode: Mode = "local",
    once: Once = False,
    show_output: ShowOutput = False,
    progress: Progress = "auto",
    as_json: Json = False,
    hsm_config: HsmConfigFile = "",
    **settings: Any,
) -> int:
    """Watch a sweep from any terminal, while it runs or after, as its own terminal shows it.

    Ctrl-C stops watching, not the sweep. The exit code is 1 if the sweep has ended and some job did
    not complete; with --once or --json it is always 0. --json prints the current state.
    """
    return run_line(
        MonitorLine(
            sweep=sweep,
            sweep_id=sweep_id,
            mode=mode,
            once=once,
            show_output=show_output,
            progress=progress,
            as_json=as_json,
            hsm_config=hsm_config,
            settings=settings,
        )
    )
