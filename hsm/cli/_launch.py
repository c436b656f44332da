"""Running a planned sweep in this process until it ends."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsm.cli._plan import Plan
from hsm.cli._printing import print_json
from hsm.cli._stdout import best_effort, say
from hsm.core.engine.display_hook import display_of
from hsm.core.engine.foreground import Jobs, run_to_end
from hsm.core.errors import HsmError
from hsm.core.local import LocalComputeSource
from hsm.core.own_command import command_to_paste, own_words
from hsm.core.record.job import Job
from hsm.core.record.journal_header import JournalError
from hsm.core.record.resume import SweepChanged
from hsm.core.record.sweep import read_sweep
from hsm.core.settings.resolve import LocalConf
from hsm.core.settings.spelling import as_flag
from hsm.display import wording

if TYPE_CHECKING:
    from hsm.core.engine.compute_source import SweepDisplay
    from hsm.core.engine.interrupts import Interruption
    from hsm.core.local.study_run import StudyRun


def run(
    plan: Plan,
    conf: LocalConf,
    *,
    as_json: bool = False,
    started: Callable[[], None] = lambda: None,
) -> int:
    """Run a sweep until it ends; return the exit code.

    Args:
        plan: the sweep.
        conf: its settings.
        as_json: print a JSON summary on stdout; the display goes to stderr.
        started: called once the sweep has begun.

    Raises:
        HsmError: the sweep cannot be started.
    """
    source = LocalComputeSource.from_conf(conf, origins=plan.origins)
    source.additions.again = plan.takes_over_added
    source.spelled = as_flag
    if as_json:
        import hsm.cli._outcome  # noqa: F401  # now, as another hsm may be installed at the end

        source.hook_stdout = 2
    stream = sys.stderr if as_json else sys.stdout
    display = display_of(source, plan.paths, plan.sweep_id, stream=stream)
    source.note(plan.paths, **plan.facts)
    study = _study_run(plan, source)
    with _explained(plan), _summarised(source, display), study or nullcontext():
        if study is not None:
            jobs_to_run: Jobs = study.jobs()
        else:
            sweep_dir = plan.paths.sweep_dir
            jobs_to_run = source.feed_jobs(plan.source, plan.sweep_id, sweep_dir, plan.program)
        interruption = run_to_end(source, jobs_to_run, display, started)
        if study is not None:
            study.finish()
    jobs = source.jobs()
    with best_effort():
        display.summary()
        if interruption is not None:
            words = [*own_words()[0], "sweep", "--resume", str(plan.paths.sweep_dir)]
            command = command_to_paste(words, str(Path.cwd()))
            for line in wording.interrupted(interruption, plan.paths, command):
                say(line, error=True)
        if as_json:
            print_json(_summary(plan, jobs, interruption))
    if interruption is not None:
        return interruption.exit_code
    if study is not None:
        return 0 if study.has_succeeded else 1
    return 0 if all(job.state.has_succeeded for job in jobs) else 1


def _study_run(plan: Plan, source: LocalComputeSource) -> StudyRun | None:
    """What runs the study, if the sweep is one."""
    if plan.study is None:
        return None
    from hsm.core.local.study_run import StudyRun  # which sweeps of points do without

    return StudyRun(plan.study_plan(), source, plan.program, plan.paths, plan.sweep_id)


@contextmanager
def _explained(plan: Plan) -> Iterator[None]:
    """Say what can be done about errors of the sweep's start, and what cannot."""
    try:
        yield
    except SweepChanged as error:
        error.remedy = "--accept-changes"
        raise
    except OSError as error:  # a full disk, no more processes
        where = f"cannot write {error.filename}: " if error.filename else ""
        reason = f"{where}{error.strerror or error}"
        raise HsmError(f"cannot start {plan.sweep_id}: {reason}") from error


@contextmanager
def _summarised(source: LocalComputeSource, display: SweepDisplay) -> Iterator[None]:
    """Before an error of a later point, show what became of the jobs before it."""
    try:
        yield
    except (HsmError, OSError):
        if source.jobs():
            with best_effort():
                display.summary()
        raise


def _summary(plan: Plan, jobs: Sequence[Job], interruption: Interruption | None) -> dict[str, Any]:
    return {
        "sweep_id": plan.sweep_id,
        "sweep_dir": plan.paths.sweep_dir,
        "jobs": len(jobs),
        "states": Counter(str(job.state) for job in jobs),
        "not_completed": [job.num for job in jobs if not job.state.has_succeeded],
        **_outcome(plan),
        "interrupted_by": None if interruption is None else interruption.cause,
    }


def _outcome(plan: Plan) -> dict[str, Any]:
    from hsm.cli._outcome import outcome  # as `run` has it

    try:
        return outcome(read_sweep(plan.paths.sweep_dir))
    except JournalError:  # somebody has removed it meanwhile
        return {}
