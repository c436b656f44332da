"""The command that people want run when a sweep has ended: a mail, a plot, the next sweep."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hsm.core.record.job import JobState, signal_name
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import JournalError, Sweep, read_sweep


@dataclass(frozen=True)
class HookOutcome:
    """How that went.

    Attributes:
        problem: what went wrong, in one line; None if nothing did.
        signum: a signal to this process that came meanwhile, and has ended the command.
    """

    problem: str | None = None
    signum: int | None = None


def run_hook(
    command: Sequence[str],
    paths: SweepPaths,
    wait: Callable[[subprocess.Popen[bytes]], int | None],
    *,
    stdout: int | None = None,
) -> HookOutcome:
    """Run `command`, in a session of its own, and wait for it.

    Its environment has HSM_SWEEP_ID, HSM_SWEEP_DIR, HSM_SWEEP_END (why the sweep ended), HSM_JOBS
    (how many there are) and, for each final state, how many ended in it: HSM_COMPLETED, HSM_FAILED…

    Args:
        wait: waits for its end, or ends it because of a signal, which it returns.
        stdout: a descriptor; by default this process's stdout.
    """
    try:
        sweep = read_sweep(paths.sweep_dir, alive=False)
        process = subprocess.Popen(
            list(command),
            env={**os.environ, **environment(sweep)},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            start_new_session=True,
        )
    except (OSError, JournalError) as error:
        return HookOutcome(f"on_sweep_end: {error}")
    signum = wait(process)
    status = process.returncode
    if status == 0:
        return HookOutcome(None, signum)
    if signum is not None:
        how = f"was ended because of {signal_name(signum)}"
    elif status < 0:
        how = f"was killed by {signal_name(-status)}"
    else:
        how = f"ended with exit code {status}"
    return HookOutcome(f"on_sweep_end: {command[0]} {how}", signum)


def environment(sweep: Sweep) -> dict[str, str]:
    """What the command is told of a sweep that has ended."""
    counts = Counter(job.state for job in sweep.jobs.values())
    told = {
        "HSM_SWEEP_ID": sweep.sweep_id,
        "HSM_SWEEP_DIR": str(sweep.paths.sweep_dir),
        "HSM_SWEEP_END": sweep.closed or "launcher died",
        "HSM_JOBS": str(len(sweep.jobs)),
    }
    return told | {f"HSM_{state}": str(counts[state]) for state in JobState if state.is_final}
