"""Runs the on_sweep_end command once a sweep has ended: a mail, a plot, the next sweep."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from hsm.core.engine.guarded_program import GuardedProgram
from hsm.core.engine.interrupts import Interrupts, deliver
from hsm.core.record.job import JobState
from hsm.core.record.journal_header import JournalError
from hsm.core.record.paths import SweepPaths
from hsm.core.record.signal_names import signal_name
from hsm.core.record.sweep import Sweep, read_sweep
from hsm.core.results.collect import ranked_results


class HookOutcome(NamedTuple):
    """How the command went.

    Attributes:
        problem: what went wrong, in one line; None if nothing did.
        signum: a signal that this process got meanwhile and that ended the command.
    """

    problem: str | None = None
    signum: int | None = None


def run_hook(
    command: Sequence[str],
    paths: SweepPaths,
    interrupts: Interrupts,
    grace: float,
    *,
    stdout: int | None = None,
) -> HookOutcome:
    """Run `command` in its own session and wait for it; it ends with this process at the latest.

    Its environment has HSM_SWEEP_ID, HSM_SWEEP_DIR, HSM_SWEEP_END (why the sweep ended), HSM_JOBS
    (the number of jobs), HSM_BEST_JOB and HSM_BEST_VALUE (the best job's number and its metric;
    empty without a direction), and, per final state, how many ended in it: HSM_COMPLETED…

    Args:
        command: program and arguments.
        paths: the sweep's.
        interrupts: signals to this process, which end the command.
        grace: seconds between SIGTERM and SIGKILL then.
        stdout: a descriptor; default: this process's stdout.
    """
    try:
        sweep = read_sweep(paths.sweep_dir, alive=False)
        program = GuardedProgram(command, {**os.environ, **environment(sweep)}, stdout)
    except (OSError, JournalError) as error:
        return HookOutcome(f"on_sweep_end: {error}")
    signum = program.wait(interrupts, grace)
    status = program.returncode
    if status == 0:
        return HookOutcome(None, signum)
    if signum is not None:
        how = f"was stopped by {signal_name(signum)}"
    elif status < 0:
        how = f"was killed by {signal_name(-status)}"
    else:
        how = f"ended with exit code {status}"
    return HookOutcome(f"on_sweep_end: {command[0]} {how}", signum)


def run_hooks(
    command: Sequence[str],
    sweeps: Iterable[SweepPaths],
    grace: float,
    warn: Callable[[str], None],
    *,
    stdout: int | None = None,
) -> None:
    """Run `command` for each of these sweeps, as `run_hook` does; a signal ends it all.

    Args:
        warn: gets what went wrong.

    Raises:
        SystemExit: on such a signal, or what its handler raises.
    """
    for paths in sweeps:
        with Interrupts().caught() as interrupts:
            outcome = run_hook(command, paths, interrupts, grace, stdout=stdout)
        if outcome.problem is not None:
            warn(outcome.problem)
        if outcome.signum is not None:
            deliver(outcome.signum)
            break


def environment(sweep: Sweep) -> dict[str, str]:
    """The environment variables that describe an ended sweep."""
    counts = sweep.jobs.by_state()
    variables = {
        "HSM_SWEEP_ID": sweep.sweep_id,
        "HSM_SWEEP_DIR": str(sweep.paths.sweep_dir),
        "HSM_SWEEP_END": sweep.closed or "launcher died",
        "HSM_JOBS": str(len(sweep.jobs)),
    }
    _, ranking = ranked_results(sweep)
    is_ranked = bool(ranking.rows) and ranking.goal.direction is not None
    variables["HSM_BEST_JOB"] = str(ranking.rows[0]["job"]) if is_ranked else ""
    variables["HSM_BEST_VALUE"] = repr(ranking.values[0]) if is_ranked else ""
    return variables | {f"HSM_{state}": str(counts[state]) for state in JobState if state.is_final}
