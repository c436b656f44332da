"""`hsm explain`: what the pending jobs of a running sweep wait for."""

from __future__ import annotations

from hsm.cli._find import sweep_and_job
from hsm.cli._option_sets import HsmConfigFile, OptionalJob, OptionalSweep, new_app
from hsm.cli._printing import end_with_the_reader
from hsm.cli._requesting import carry_out, running_sweep
from hsm.cli._stdout import say
from hsm.core.record.controls import Explain
from hsm.core.record.job import JobState
from hsm.core.record.named_job import named_job

app = new_app()


@app.command("explain")
def explain(
    sweep: OptionalSweep = "", job: OptionalJob = None, hsm_config: HsmConfigFile = ""
) -> None:
    """Tell what a pending job waits for, or all of them: a place, a GPU, memory, a pause."""
    end_with_the_reader()
    paths, num = sweep_and_job(sweep, job, hsm_config)
    with running_sweep(paths) as replay:
        if num is not None:
            state = named_job(replay.sweep, num).state
            if state is not JobState.PENDING:
                say(f"job {num} does not wait: it is {state}")
                return
        for line in carry_out(replay, Explain(num)) or ["no job waits"]:
            say(line)
