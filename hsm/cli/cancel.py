"""`hsm cancel`: end a running sweep, or some of its jobs, from any terminal."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from hsm.cli._complete import job_numbers
from hsm.cli._find import named_job, named_sweep
from hsm.cli._options import HsmConfigFile, Sweep, new_app
from hsm.cli._stdout import say
from hsm.core.errors import HsmError
from hsm.core.record import requests
from hsm.core.record.job import Job, count_states
from hsm.core.record.replay import Replay

app = new_app()

_INTERVAL = 0.1
#: Seconds that a launcher gets to take a request; it looks twice a second.
_REACTION = 5.0
#: Seconds beyond the jobs' own kill_grace in which everything should have ended.
_TIMEOUT = 30.0
#: Seconds; what a journal says beyond that is not waited for.
_MAX_GRACE = 7 * 86400.0

Jobs = Annotated[
    list[int] | None,
    typer.Argument(
        metavar="JOB",
        help="Numbers of the jobs to cancel; without any, the whole sweep.",
        autocompletion=job_numbers,
        show_default=False,
    ),
]


@app.command("cancel")
def cancel(sweep: Sweep, jobs: Jobs = None, hsm_config: HsmConfigFile = "") -> None:
    """End a running sweep, or some of its jobs.

    Jobs get a SIGTERM, and SIGKILL when kill_grace is over. Returns when they have ended. What has
    ended before stays as it is.
    """
    paths = named_sweep(sweep, hsm_config=hsm_config)
    with Replay(paths) as replay:
        replay.catch_up()
        chosen = [named_job(replay.sweep, num) for num in dict.fromkeys(jobs or ())]
        if replay.is_over:
            reason = replay.sweep.closed or "launcher died"
            say(f"{replay.sweep.sweep_id} is not running: {reason}")
        elif chosen:
            _cancel_jobs(replay, chosen)
        else:
            _cancel_sweep(replay)


def _cancel_jobs(replay: Replay, jobs: Sequence[Job]) -> None:
    paths = replay.sweep.paths
    asked = [job for job in jobs if not job.state.is_final]
    for job in asked:
        requests.ask(paths, job.num)
    _wait(replay, lambda: not any(requests.is_asked(paths, job.num) for job in asked), _REACTION)
    untaken = [job.num for job in asked if requests.withdraw(paths, job.num)]
    if untaken:
        raise HsmError(
            f"the launcher of {replay.sweep.sweep_id} does not respond, and jobs "
            f"{', '.join(map(str, untaken))} still run; hsm cancel without a job's number "
            "sends it a signal"
        )
    _wait(replay, lambda: all(_now(replay, job).state.is_final for job in asked), _patience(replay))
    for job in jobs:
        had = "" if job in asked else "had already ended: "
        say(f"job {job.num}: {had}{_now(replay, job).state}")


def _now(replay: Replay, job: Job) -> Job:
    """The job as the journal tells it now; that may be another file than before."""
    return replay.sweep.jobs.get(job.num, job)


def _cancel_sweep(replay: Replay) -> None:
    paths = replay.sweep.paths
    requests.ask(paths, None)
    taken = _wait(replay, lambda: not requests.is_asked(paths, None), _REACTION)
    if not taken and requests.withdraw(paths, None):
        # Stopped, or one that has no jobs right now. It may be on another machine, too.
        pid = replay.sweep.latest.get("pid")
        if not requests.signal_launcher(paths, signal.SIGTERM, pid):
            raise HsmError(
                f"the launcher of {replay.sweep.sweep_id}, on {replay.sweep.latest.get('host')}, "
                "does not respond, and no process here is known to be it: no signal was sent"
            )
        requests.signal_launcher(paths, signal.SIGCONT, pid)
    if not _wait(replay, lambda: replay.is_over, _patience(replay)):
        raise HsmError(f"{replay.sweep.sweep_id} was told to end, but is still running")
    counts = count_states(replay.sweep.jobs.values())
    told = ", ".join(f"{count} {state.lower()}" for state, count in counts.items())
    say(f"{replay.sweep.sweep_id} has ended: {told}")


def _wait(replay: Replay, condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until the condition holds or the sweep is over; False if neither came in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if replay.is_over:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_INTERVAL)
        replay.advance()
    return True


def _patience(replay: Replay) -> float:
    """Seconds in which jobs that were told to end have ended."""
    grace = replay.sweep.latest.get("settings", {}).get("kill_grace")
    is_known = isinstance(grace, (int, float)) and 0 <= grace < _MAX_GRACE
    return _TIMEOUT + (grace if is_known else 0.0)
