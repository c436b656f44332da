"""`hsm continue`: end the pause of a sweep."""

from __future__ import annotations

from hsm.cli._find import named_sweep
from hsm.cli._option_sets import HsmConfigFile, OptionalSweep, new_app
from hsm.cli._requesting import carry_out, running_sweep
from hsm.cli._stdout import say
from hsm.core.record.controls import Continue

app = new_app()


@app.command("continue")
def continue_sweep(sweep: OptionalSweep = "", hsm_config: HsmConfigFile = "") -> None:
    """Let a paused sweep go on: its jobs start again, and stopped ones continue."""
    with running_sweep(named_sweep(sweep, hsm_config=hsm_config)) as replay:
        was_paused = replay.sweep.paused
        carry_out(replay, Continue())
        say(f"{replay.sweep.sweep_id} {'goes on' if was_paused else 'was not paused'}")
