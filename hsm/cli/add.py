"""`hsm add`: more points for a sweep that is running."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

import typer

from hsm.cli._earlier import enter_its_directory
from hsm.cli._find import named_sweep
from hsm.cli._option_sets import HsmConfigFile, OptionalSweep, new_app
from hsm.cli._points import check_overrides
from hsm.cli._requesting import carry_out, running_sweep
from hsm.cli._stdout import say
from hsm.core.errors import HsmError
from hsm.core.program.program import Program
from hsm.core.record.controls import Add
from hsm.core.record.sweep import Sweep

app = new_app()

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="OVERRIDE",
        help="The points, as for hsm sweep: lr=0.3,0.5 'seed=range(5)'. What all jobs of the sweep "
        "share is the same in these, unless an override sets it.",
        show_default=False,
    ),
]


@app.command("add")
def add(
    sweep: OptionalSweep = "", overrides: Overrides = None, hsm_config: HsmConfigFile = ""
) -> None:
    """Add points to a running sweep: each gets a job, unless a job has that point already.

    A sweep that is resumed has them, too.
    """
    words = list(overrides or ())
    if "=" in sweep and not os.path.exists(sweep):
        sweep, words = "", [sweep, *words]
    if not words:
        raise HsmError("nothing to add: give the points, as in hsm add SWEEP lr=0.3,0.5")
    with running_sweep(named_sweep(sweep, hsm_config=hsm_config)) as replay:
        _check(words, replay.sweep)
        for line in carry_out(replay, Add(tuple(words))):
            say(f"{replay.sweep.sweep_id}: {line}")


def _check(words: list[str], sweep: Sweep) -> None:
    """Check the points of a script that is a Hydra app, whose config the launcher does not know.

    Raises:
        SettingsError: one is wrong.
    """
    record = sweep.latest.get("program")
    try:
        program = Program.from_record(record) if isinstance(record, Mapping) else Program()
    except (TypeError, ValueError):  # of another hsm
        return
    if program.uses_hydra:
        enter_its_directory(sweep, "checking the points")
        check_overrides(words, program)
