"""`hsm rerun`: run some jobs of a sweep again, as its launcher would."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from hsm.cli._complete import job_numbers
from hsm.cli._earlier import check_ended
from hsm.cli._find import sweep_and_jobs, which_job
from hsm.cli._option_sets import HsmConfigFile, OptionalSweep, new_app
from hsm.cli._stdout import say
from hsm.core.command_line import join_command
from hsm.core.errors import HsmError
from hsm.core.job_numbers import show_numbers
from hsm.core.own_command import own_words
from hsm.core.record.named_job import named_job
from hsm.core.record.provenance import recorded_words
from hsm.core.record.sweep import Sweep, read_sweep

app = new_app()

Jobs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="JOB",
        help="Numbers of the jobs to run again, such as 3 or 5-8.",
        autocompletion=job_numbers,
        show_default=False,
    ),
]
AcceptChanges = Annotated[
    bool,
    typer.Option("--accept-changes", help="Run them although the script or config has changed."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the command; run nothing.")]


@app.command("rerun")
def rerun(
    sweep: OptionalSweep = "",
    jobs: Jobs = None,
    accept_changes: AcceptChanges = False,
    dry_run: DryRun = False,
    hsm_config: HsmConfigFile = "",
) -> None:
    """Run some jobs of a sweep again, whatever became of them, and none else.

    Prints the command that resumes the sweep with these jobs alone, then runs it: for a sweep of
    Hydra's, the command line that started it. Each job gets another attempt in its own directory;
    all other results stay. The sweep must not be running.
    """
    paths, numbers = sweep_and_jobs(sweep, jobs or (), hsm_config)
    if not numbers:
        raise which_job("hsm rerun", sweep)
    record = read_sweep(paths.sweep_dir)
    check_ended(record)
    for num in numbers:
        named_job(record, num)
    words = _words(record, numbers, accept_changes=accept_changes)
    directory = str(record.latest.get("cwd") or os.getcwd())
    is_here = os.path.realpath(directory) == os.path.realpath(os.curdir)
    say(f"{'' if is_here else join_command(['cd', directory]) + ' && '}{join_command(words)}")
    if not dry_run:
        _run(words, directory)


def _words(sweep: Sweep, numbers: Sequence[int], *, accept_changes: bool) -> list[str]:
    """The command that runs these jobs again. Raises HsmError if only a program can do that."""
    program = sweep.latest.get("program") or {}
    if program.get("command") or program.get("script"):
        words = [*own_words()[0], "sweep", "--resume", str(sweep.paths.sweep_dir)]
        accepts = ["--accept-changes"] if accept_changes else []
        return [*words, "--rerun", show_numbers(numbers), *accepts]
    if program.get("config"):
        return _words_for_hydra(sweep, numbers, accept_changes=accept_changes)
    raise HsmError(
        f"{sweep.sweep_id} ran functions of a Python program: start that program again with "
        f"resume=True and rerun={list(numbers)}"
    )


def _words_for_hydra(sweep: Sweep, numbers: Sequence[int], *, accept_changes: bool) -> list[str]:
    from hsm.hydra_app.sweep_ending import resuming

    more = [f"hydra.launcher.rerun=[{','.join(map(str, numbers))}]"]
    if accept_changes:
        more.append("hydra.launcher.accept_changes=true")
    command = sweep.latest.get("command") or {}
    program, arguments = None, None
    with suppress(ValueError):
        arguments = recorded_words(command, "arguments") if command.get("arguments") else ()
        program = recorded_words(command, "program")
    if not program:
        rest = join_command(resuming([], sweep.paths, *more))
        raise HsmError(
            f"the journal of {sweep.sweep_id} does not say how it was started: start it as before, "
            f"with {rest} added"
        )
    return [*program, *resuming(arguments or (), sweep.paths, *more)]


def _run(words: list[str], directory: str) -> NoReturn:
    """Become the process that runs `words`. Raises HsmError if it cannot be started."""
    place = directory
    try:
        os.chdir(directory)
        place = words[0]
        sys.stdout.flush()
        os.execvp(words[0], words)
    except OSError as error:
        raise HsmError(f"cannot run this: {place}: {error.strerror}") from error
