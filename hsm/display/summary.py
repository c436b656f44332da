"""What is said at the end of a sweep, on one screen.

digits: 96 jobs: 88 completed, 8 failed                     the counts
wall time 12 s, sum of job times 40 s (speed-up 3.3)
32 trials: 30 succeeded, 2 failed                           of a study, if that is not plain
best by loss (lowest of 88):                                the best jobs, and what varies
job  lr     model   loss
17  0.001  mlp    0.1234
8 jobs FAILED: ValueError: the rate is too high (80-87)     failures, those of a kind in one line
GPU memory: at most 6.0 GiB of 24 GiB was used: gpus=0.33 would run 3 on each
table:   hsm collect-results digits                         where to look further
failure: hsm show digits 80
results: outputs/digits
logs:    outputs/digits/.hsm/logs
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from hsm.core.command_line import join_command
from hsm.core.errors import HsmError
from hsm.core.job_numbers import show_numbers
from hsm.core.logger import get_logger
from hsm.core.printable import printable
from hsm.core.record.job import Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import find_sweep
from hsm.core.record.sweep import Sweep, read_sweep
from hsm.core.results.collect import ranked_results
from hsm.core.results.failure_groups import FailureGroup, failure_groups, kind_of_failure
from hsm.core.results.goal import Goal
from hsm.core.results.metric import Ranking
from hsm.core.results.repeats import Repeats
from hsm.core.results.trial_counts import trial_counts
from hsm.core.units import format_duration
from hsm.display.best_jobs import best_jobs
from hsm.display.counts import Counts
from hsm.display.failures import failure_details, failure_message, says_why
from hsm.display.gpu_hint import gpu_hint
from hsm.display.text import fit, from_here

_log = get_logger(__name__)

#: Lines of a whole summary: a screen of 24, less a prompt and what may be said beside it.
_MAX_LINES = 20
_MAX_GROUPS = 4
#: Columns of a list of jobs' numbers.
_MAX_NUMBERS = 16
#: Lines of a log that are worth showing, at least.
_MIN_TAIL = 3
#: Jobs whose logs are read to tell one exit code 1 from another.
_MAX_LOGS = 1000


class Shown(NamedTuple):
    """What a summary is made for.

    Attributes:
        title: the sweep's name; may be empty.
        width: columns.
        goal: by what jobs are ranked; None for what the sweep has on record.
        kinds: the kinds of failure whose logs were shown already.
        failures: whether to tell the failures.
    """

    title: str = ""
    width: int = 80
    goal: Goal | None = None
    kinds: Collection[str] = ()
    failures: bool = True


def summary(
    counts: Counts, paths: SweepPaths, now: float, shown: Shown, sweep: Sweep | None = None
) -> list[str]:
    """The lines of a summary; what cannot be read of the sweep is left out.

    Args:
        counts: the sweep's counts.
        paths: its paths.
        now: Unix seconds.
        shown: what the summary is made for.
        sweep: the sweep, if the caller has read it.
    """
    lines = [_head(counts, shown.title), _times(counts, now)]
    places = [
        f"results: {printable(from_here(paths.sweep_dir))}",
        f"logs:    {printable(from_here(paths.logs))}",
    ]
    try:
        sweep = sweep or read_sweep(paths.sweep_dir)
        return [*lines, *_outcome(sweep, shown, len(lines) + len(places)), *places]
    except Exception:  # whatever lies in the sweep's directory
        _log.debug("cannot summarize the sweep", exc_info=True)
    if counts.failed_jobs:
        more = counts.failed - len(counts.failed_jobs)
        names = show_numbers(counts.failed_jobs) + (f" and {more} more" if more else "")
        lines.insert(1, f"failed jobs: {names}")
    return [*lines, *places]


def _head(counts: Counts, title: str) -> str:
    states = [
        f"{count} {state.words}"
        for state in (
            JobState.COMPLETED,
            JobState.PRUNED,
            JobState.FAILED,
            JobState.TIMEOUT,
            JobState.OUT_OF_MEMORY,
            JobState.CANCELLED,
            JobState.RUNNING,
            JobState.PENDING,
        )
        if (count := counts.by_state[state])
    ]
    if counts.to_come:
        states.append(f"{counts.to_come} {'to come' if counts.unfinished else 'not begun'}")
    jobs = "1 job" if counts.total == 1 else f"{counts.total} jobs"
    head = f"{title}: " if title else ""
    return f"{head}{jobs}: {', '.join(states)}" if states else f"{head}no jobs"


def _times(counts: Counts, now: float) -> str:
    wall = counts.wall_seconds(now)
    times = (
        f"wall time {format_duration(wall)}, sum of job times {format_duration(counts.job_seconds)}"
    )
    if wall > 0 and counts.ended > 1:
        times += f" (speed-up {counts.job_seconds / wall:.1f})"
    return times


def _outcome(sweep: Sweep, shown: Shown, used: int) -> list[str]:
    """What came out: the best jobs, the failures, and how to look further."""
    results, ranking = ranked_results(sweep, shown.goal)
    name = _name(sweep)
    lines = [*_trials(sweep, ranking)]
    lines += best_jobs(results, ranking, shown.width) or _unranked(ranking, name, shown.width)
    groups = grouped_failures(sweep)
    hint = gpu_hint(sweep)
    used += bool(hint)
    further = [f"table:   {_command('collect-results', name)}"] if sweep.jobs else []
    if groups:
        further.append(f"failure: {_command('show', name, groups[0].jobs[0].num)}")
    if groups and shown.failures:
        lines += _failures(groups, shown.width)
        lines += _tail(groups[0], sweep.paths, shown, used + len(lines) + len(further))
    if hint:
        lines.append(fit(hint, shown.width))
    return [*lines, *further]


def _trials(sweep: Sweep, ranking: Ranking) -> Iterator[str]:
    """``12 trials: 9 succeeded, 3 failed``, if the states of a study's jobs do not say it."""
    if not Goal.recorded(sweep.latest).is_told:
        return
    succeeded, failed, pruned = trial_counts(sweep)
    is_plain = Repeats.recorded(sweep.latest) is None and succeeded == ranking.completed
    if not is_plain and (count := succeeded + failed + pruned):
        parts = [f"{succeeded} succeeded", *(f"{failed} failed",) * bool(failed)]
        parts += (f"{pruned} pruned",) * bool(pruned)
        yield f"{count} trial{'' if count == 1 else 's'}: {', '.join(parts)}"


def _unranked(ranking: Ranking, name: str, width: int) -> list[str]:
    """Why nothing is ranked, if there is anything that could be."""
    is_asked = ranking.known or ranking.goal.metric or ranking.left_out
    if not ranking.completed or not is_asked:
        return []
    lines = [fit(printable(ranking.problem), width)]
    if ranking.known:
        words = _command("monitor", name, "--metric", ranking.known[0])
        lines.append(f"ranked:  {words}")
    return lines


def grouped_failures(sweep: Sweep) -> list[FailureGroup]:
    """The sweep's failures by kind, the most frequent first."""
    jobs = sweep.jobs.where(lambda state: state.has_failed)
    reads = len(jobs) <= _MAX_LOGS

    def message(job: Job) -> str:
        asks_log = reads and not says_why(job)
        return failure_message(job, failure_details(job, sweep.paths) if asks_log else [])

    return failure_groups(jobs, message)


def _failures(groups: Sequence[FailureGroup], width: int) -> list[str]:
    """A line for each group, and one for those that are too many."""
    count = len(groups) if len(groups) <= _MAX_GROUPS else _MAX_GROUPS - 1
    lines = [_folded(group, width) for group in groups[:count]]
    if more := groups[count:]:
        jobs = sum(len(group.jobs) for group in more)
        lines.append(f"{jobs} jobs failed in {len(more)} other ways")
    return lines


def _folded(group: FailureGroup, width: int) -> str:
    """``8 jobs FAILED: ValueError: the rate is too high (0-7)``."""
    count = len(group.jobs)
    first = group.jobs[0].num
    who, which = (f"{count} jobs", f" ({_numbers(group)})") if count > 1 else (f"job {first}", "")
    text = f"{who} {group.state}"
    if group.message.upper() not in ("", group.state):
        text += f": {group.message}"
    return fit(text, width - len(which)) + which


def _numbers(group: FailureGroup) -> str:
    """The jobs' numbers, as `hsm rerun` takes them, as many as have room: ``3,10,17,…``."""
    numbers = show_numbers(job.num for job in group.jobs)
    if len(numbers) <= _MAX_NUMBERS:
        return numbers
    return numbers[: _MAX_NUMBERS - 1].rpartition(",")[0] + ",…"


def _tail(group: FailureGroup, paths: SweepPaths, shown: Shown, used: int) -> list[str]:
    """The end of the log of one job of the group, if it is news and there is room for it."""
    job = group.jobs[0]
    room = _MAX_LINES - used
    if room < _MIN_TAIL or kind_of_failure(job, group.message) in shown.kinds:
        return []
    details = failure_details(job, paths)
    lines = [fit(f"    {text}", shown.width) for text, is_note in details if not is_note]
    return lines[-room:]


def _name(sweep: Sweep) -> str:
    """What `hsm` finds the sweep by, from here: its id, else its directory."""
    try:
        found = find_sweep(sweep.sweep_id).sweep_dir
        if os.path.samefile(found, sweep.paths.sweep_dir):
            return sweep.sweep_id
    except (HsmError, OSError):
        pass
    path = from_here(sweep.paths.sweep_dir)
    return path if os.sep in path else os.path.join(os.curdir, path)


def _command(*words: object) -> str:
    return printable(join_command(["hsm", *map(str, words)]))
