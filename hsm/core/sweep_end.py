"""The command that people want run when a sweep has ended: a mail, a plot, the next sweep."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Sequence

from hsm.core.job import JobState, signal_name
from hsm.core.journal import JournalError, Sweep, read_sweep
from hsm.core.paths import SweepPaths


def run_at_end(command: Sequence[str], paths: SweepPaths) -> str | None:
    """Run `command` and wait for it; returns what went wrong in one line, None if nothing did.

    Its environment has HSM_SWEEP_ID, HSM_SWEEP_DIR, HSM_SWEEP_END (why the sweep ended), HSM_JOBS
    (how many there are) and, for each final state, how many ended in it: HSM_COMPLETED, HSM_FAILED…
    """
    try:
        sweep = read_sweep(paths.sweep_dir, alive=False)
        status = subprocess.run(
            list(command),
            env={**os.environ, **environment(sweep)},
            stdin=subprocess.DEVNULL,
            check=False,
        ).returncode
    except (OSError, JournalError) as error:
        return f"on_sweep_end: {error}"
    if status == 0:
        return None
    how = (
        f"was killed by {signal_name(-status)}" if status < 0 else f"ended with exit code {status}"
    )
    return f"on_sweep_end: {command[0]} {how}"


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
