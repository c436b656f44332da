"""`hsm cancel`: stop a running sweep, or some of its jobs, from any terminal."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Annotated

import typer

from hsm.cli._complete import job_numbers
from hsm.cli._find import sweep_and_jobs
from hsm.cli._option_sets import HsmConfigFile, OptionalSweep, new_app
from hsm.cli._requesting import carry_out, running_sweep, wait
from hsm.cli._stdout import say
from hsm.core.errors import HsmError
from hsm.core.job_numbers import show_numbers
from hsm.core.record import requests
from hsm.core.record.controls import CancelPending
from hsm.core.record.job import Job
from hsm.core.record.named_job import named_job
from hsm.core.record.paths import SweepPaths
from hsm.core.record.replay import Replay
from hsm.display.text import from_here

app = new_app()

#: Seconds that a launcher has to pick up a request; it looks twice a second.
_REQUEST_TIMEOUT = 5.0
#: Seconds to wait for the end beyond the jobs' own kill_grace.
_END_TIMEOUT = 30.0
#: Seconds; a longer kill_grace in a journal is ignored.
_MAX_GRACE = 7 * 86400.0

Jobs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="JOB",
        help="Numbers of the jobs to cancel, such as 3 or 5-8; without any, the whole sweep.",
        autocompletion=job_numbers,
        show_default=False,
    ),
]

Pending = Annotated[
    bool,
    typer.Option("--pending", help="Cancel all jobs that wait, and let those that run end."),
]


@app.command("cancel")
def cancel(
    sweep: OptionalSweep = "",
    jobs: Jobs = None,
    pending: Pending = False,
    hsm_config: HsmConfigFile = "",
) -> None:
    """Cancel a running sweep, or some of its jobs.

    Jobs get SIGTERM, then SIGKILL after kill_grace. Returns when they have ended. Jobs that ended
    before are not affected. With --pending, running jobs are left to end.
    """
    paths, numbers = sweep_and_jobs(sweep, jobs or (), hsm_config)
    if pending and numbers:
        raise HsmError("give either jobs or --pending, which means all that wait")
    with Replay(paths) as replay:
        replay.catch_up()
        chosen = [named_job(replay.sweep, num) for num in numbers]
        if replay.is_over:
            reason = replay.sweep.closed or "launcher died"
            say(f"{replay.sweep.sweep_id} is not running: {reason}")
            return
        if pending:
            _cancel_pending(paths)
            return
        if sweep != replay.sweep.sweep_id:  # It may be another one than was meant.
            which = f"job {show_numbers(numbers)} of " if numbers else ""
            say(f"cancelling {which}{replay.sweep.sweep_id}, in {from_here(paths.sweep_dir)}")
        if chosen:
            _cancel_jobs(replay, chosen)
        else:
            _cancel_sweep(replay)


def _cancel_pending(paths: SweepPaths) -> None:
    with running_sweep(paths) as replay:
        for line in carry_out(replay, CancelPending()):
            say(f"{replay.sweep.sweep_id}: {line}")


def _cancel_jobs(replay: Replay, jobs: Sequence[Job]) -> None:
    paths = replay.sweep.paths
    asked = [job for job in jobs if not job.state.is_final]
    for job in asked:
        requests.ask(paths, job.num)
    wait(
        replay,
        lambda: not any(requests.is_asked(paths, job.num) for job in asked),
        _REQUEST_TIMEOUT,
    )
    ignored = [job.num for job in asked if requests.withdraw(paths, job.num)]
    if ignored:
        raise HsmError(
            f"the launcher of {replay.sweep.sweep_id} does not respond; not cancelled: job "
            f"{', '.join(map(str, ignored))}; hsm cancel without job numbers signals the launcher"
        )
    wait(
        replay,
        lambda: all(_current(replay, job).state.is_final for job in asked),
        _end_timeout(replay),
    )
    for job in jobs:
        had = "" if job in asked else "had already ended: "
        say(f"job {job.num}: {had}{_current(replay, job).state}")


def _current(replay: Replay, job: Job) -> Job:
    """The job as the journal has it now; the journal may have been replaced in the meantime."""
    return replay.sweep.jobs.get(job.num, job)


def _cancel_sweep(replay: Replay) -> None:
    paths = replay.sweep.paths
    requests.ask(paths, None)
    taken = wait(replay, lambda: not requests.is_asked(paths, None), _REQUEST_TIMEOUT)
    if not taken and requests.withdraw(paths, None):
        # The launcher is stopped, has no jobs right now, or is on another machine.
        pid = replay.sweep.latest.get("pid")
        if not requests.signal_launcher(paths, signal.SIGTERM, pid):
            raise HsmError(
                f"the launcher of {replay.sweep.sweep_id}, on {replay.sweep.latest.get('host')}, "
                "does not respond, and no process on this machine is known to be it: sent no signal"
            )
        requests.signal_launcher(paths, signal.SIGCONT, pid)
    if not wait(replay, lambda: replay.is_over, _end_timeout(replay)):
        raise HsmError(f"{replay.sweep.sweep_id} was told to stop, but is still running")
    counts = replay.sweep.jobs.count_states()
    states = ", ".join(f"{count} {state.lower()}" for state, count in counts.items())
    say(f"{replay.sweep.sweep_id} has ended: {states}")


def _end_timeout(replay: Replay) -> float:
    """Seconds to wait for cancelled jobs to end."""
    grace = replay.sweep.latest.get("settings", {}).get("kill_grace")
    is_known = isinstance(grace, (int, float)) and 0 <= grace < _MAX_GRACE
    return _END_TIMEOUT + (grace if is_known else 0.0)
