"""What `hsm monitor` does with a command line that has been read."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

from hsm.cli._find import few_problems, named_sweep, warn_of_problems
from hsm.cli._given import check_mode, given_settings
from hsm.cli._monitor_line import MonitorLine
from hsm.cli._outcome import outcome
from hsm.cli._printing import end_with_the_reader, print_json, print_table
from hsm.cli._stdout import say
from hsm.core.engine.watched import Watched
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import Sweep
from hsm.core.results.goal import Goal
from hsm.core.settings.resolve import SETTINGS

if TYPE_CHECKING:
    from hsm.core.engine.backend import Usage
    from hsm.core.engine.compute_source import RunningJob
    from hsm.core.local.usage import UsageSampler
    from hsm.display.counts import Counts

#: Seconds between reads of the journal.
_INTERVAL = 0.25

_PROGRESS = SETTINGS["progress"]


def run_line(line: MonitorLine) -> int:
    """Run a command line; return the exit code. Raises HsmError."""
    check_mode(line.mode)
    kind = str(_PROGRESS.parse(line.progress, "--progress"))
    given = given_settings(line.settings)
    paths = named_sweep(line.sweep, line.sweep_id, line.hsm_config)
    watched = _watched(paths, show_output=line.show_output)
    try:
        if line.once or line.as_json:
            end_with_the_reader()
            warn_of_problems(watched.sweep)
            goal = Goal.recorded(watched.sweep.latest).given(given)
            print_json(_document(watched, goal)) if line.as_json else _print(watched, goal)
            return 0
        signum = _watch(watched, kind, line.show_output, given)
    finally:
        watched.close()
    if signum is not None:
        return 128 + signum
    states = watched.sweep.jobs.by_state()
    return 0 if all(state.has_succeeded for state, count in states.items() if count) else 1


def _watched(paths: SweepPaths, *, show_output: bool) -> Watched:
    """The sweep; imports what samples its jobs, and psutil with it, only once there is one."""

    @cache
    def sampler() -> UsageSampler:
        from hsm.core.local.usage import UsageSampler

        return UsageSampler()

    def usage(pids: Collection[int]) -> Mapping[int, Usage]:
        return sampler().recent(pids) if pids else {}

    def elapsed(pid: int) -> float | None:
        from hsm.core.process_stat import running_seconds

        return running_seconds(pid)

    return Watched(paths, show_output=show_output, usage=usage, elapsed=elapsed)


def _watch(
    watched: Watched, progress: str, show_output: bool, given: Mapping[str, Any]
) -> int | None:
    """Show a sweep until it is over; return the signal that ended this earlier, if one did."""
    from hsm.core.engine.interrupts import Interrupts
    from hsm.display import make_display

    sweep = watched.sweep
    display = make_display(
        progress,
        show_output=show_output,
        paths=sweep.paths,
        running=watched.running,
        title=sweep.sweep_id,
    )
    watched.show_on(display)
    if not watched.is_over:
        with Interrupts().caught() as interrupts, display:
            while not watched.is_over:
                if interrupts.within(_INTERVAL) is not None:
                    return interrupts.first
                watched.advance()
    sweep = watched.sweep  # A different object if the journal was replaced.
    # Jobs of a launcher that died ended without a record.
    display.jobs_submitted(list(sweep.jobs.values()))
    for problem in few_problems(sweep):
        display.message(problem)
    if watched.status() != "finished":
        display.message(f"The sweep ended: {watched.status()}")
    display.goal = Goal.recorded(sweep.latest).given(given)
    display.summary()
    return None


def _print(watched: Watched, goal: Goal) -> None:
    from hsm.display.stream import SafeStream
    from hsm.display.summary import Shown, summary

    sweep = watched.sweep
    counts = _counts(sweep)
    now = sweep.last_time if watched.is_over else time.time()
    shown = Shown(sweep.sweep_id, SafeStream(sys.stdout).columns, goal)
    for line in summary(counts, sweep.paths, now, shown, sweep):
        say(line)
    say(f"status:  {watched.status()}")
    _print_running(watched.running())


def _print_running(running: Sequence[RunningJob]) -> None:
    from hsm.core.units import format_clock, format_size
    from hsm.display.text import gpu_text, reported_text

    if not running:
        return
    columns = {
        "job": [str(job.num) for job in running],
        "overrides": [job.label for job in running],
        "time": [format_clock(job.elapsed) for job in running],
        "memory": [format_size(job.memory or 0) for job in running],
        "gpu": [gpu_text(job) for job in running],
        "reported": [reported_text(job.step, job.reported) for job in running],
        "last output": [job.last_line for job in running],
    }
    for name in ("gpu", "reported"):
        if not any(columns[name]):
            del columns[name]
    say()
    print_table(
        list(columns),
        list(zip(*columns.values(), strict=True)),
        right=("job", "time", "memory"),
        wraps=("overrides", "reported", "last output"),
    )


def _counts(sweep: Sweep) -> Counts:
    from hsm.display.counts import Counts

    counts = Counts()
    counts.read(sweep.jobs, sweep.header["time"])
    counts.is_paused, counts.to_come = sweep.paused, sweep.to_come or 0
    if sweep.seconds is not None:
        counts.took(sweep.seconds)
    return counts


def _document(watched: Watched, goal: Goal) -> dict[str, Any]:
    sweep = watched.sweep
    ended_badly = sweep.jobs.where(lambda state: state.is_final and not state.has_succeeded)
    counts = _counts(sweep)
    running = watched.running()
    now = time.time()
    return {
        "sweep_id": sweep.sweep_id,
        "sweep_dir": sweep.paths.sweep_dir,
        "status": watched.status(),
        "jobs": len(sweep.jobs),
        "states": sweep.jobs.count_states(),
        "to_come": counts.to_come,
        "wall_seconds": counts.wall_seconds(now),
        "eta_seconds": counts.eta([job.elapsed for job in running], now),
        "running": [asdict(job) for job in running],
        "not_completed": [job.num for job in ended_badly],
        **outcome(sweep, goal),
        "problems": sweep.problems,
    }
