"""`hsm set`: change settings and priorities of a running sweep."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from hsm.cli._complete import job_numbers
from hsm.cli._find import sweep_and_jobs
from hsm.cli._given import given_settings
from hsm.cli._option_sets import HsmConfigFile, OptionalSweep, new_app, with_settings
from hsm.cli._requesting import carry_out, running_sweep
from hsm.cli._stdout import say
from hsm.core.errors import HsmError, SettingsError
from hsm.core.record.controls import CHANGEABLE, Change, Prioritize
from hsm.core.record.named_job import named_job
from hsm.core.record.replay import Replay
from hsm.core.record.schema import CONTROL_FIELDS

app = new_app()

Jobs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="JOB",
        help="Numbers of the jobs that get the priority, such as 3 or 12,14-20.",
        autocompletion=job_numbers,
        show_default=False,
    ),
]
Priority = Annotated[
    str | None,
    typer.Option(
        "--priority",
        metavar="P",
        help="Priority of these jobs: pending jobs of a higher one start first; usual is 0.",
        show_default=False,
    ),
]
Now = Annotated[
    bool,
    typer.Option(
        "--now",
        help="Where there are to be fewer parallel jobs: end those that started last, and queue "
        "them again, at no retry.",
    ),
]


@app.command("set")
@with_settings(*CHANGEABLE, shows_default=False)
def set_values(
    sweep: OptionalSweep = "",
    jobs: Jobs = None,
    priority: Priority = None,
    now: Now = False,
    hsm_config: HsmConfigFile = "",
    **settings: Any,
) -> None:
    """Change settings of a running sweep, or the priority of some of its jobs.

    More parallel jobs start at once; fewer take effect as jobs end, and so do other GPUs. What is
    set also holds when the sweep is resumed, unless that names another value.
    """
    values = given_settings(settings)
    rank = None if priority is None else _rank(priority)
    paths, numbers = sweep_and_jobs(sweep, jobs or (), hsm_config)
    _check(values, rank, numbers, now=now)
    with running_sweep(paths) as replay:
        chosen = [named_job(replay.sweep, num) for num in numbers]
        said = carry_out(replay, Change(values, now)) if values else []
        waiting = tuple(job.num for job in chosen if not job.state.is_final)
        if rank is not None and waiting:
            said += carry_out(replay, Prioritize(waiting, rank))
        _say(replay, said)
        for job in chosen:
            if job.state.is_final:
                say(f"job {job.num}: had already ended: {job.state}")


def _rank(text: str) -> int:
    """The priority that was given. Raises SettingsError."""
    is_allowed, words = CONTROL_FIELDS["priority"]
    number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,20}", text.strip()) else None
    if number is None or not is_allowed(number):
        raise SettingsError("priority", text, "--priority", words)
    return number


def _check(
    values: Mapping[str, Any], rank: int | None, numbers: Sequence[int], *, now: bool
) -> None:
    """Raise HsmError if the options do not go together."""
    if rank is not None and not numbers:
        raise HsmError("--priority needs the numbers of jobs: hsm set SWEEP 12,14-20 --priority 5")
    if numbers and rank is None:
        raise HsmError("jobs can only be given a --priority: hsm set SWEEP 12,14-20 --priority 5")
    if now and "max_parallel_jobs" not in values:
        raise HsmError("--now needs --parallel-jobs: it ends jobs that are then too many")
    if not values and rank is None:
        raise HsmError(
            "nothing to set: give --parallel-jobs, --timeout, --max-retries or --gpu-ids, or jobs "
            "and a --priority"
        )


def _say(replay: Replay, lines: Sequence[str]) -> None:
    for line in lines:
        say(f"{replay.sweep.sweep_id}: {line}")
