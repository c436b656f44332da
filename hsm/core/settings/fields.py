"""The one definition of the settings, and the types of their values.

    SweepConf      what any place that runs jobs has
      `-- LocalConf    and what this machine has besides: the `local:` settings

    max_retries: int = setting(0, Count(at_least=0), "Retries of a job.", group=Group.failures)
         |                     |   |                  |                    its section -'
         |                     |   |                  `- help: one sentence, with the unit
         |                     |   `- what is allowed
         |                     `- built-in value
         `- name of the argument, of the key in hsm.yaml and of hydra.launcher.*

All else follows from such a line: checks, errors, flags, variables, Hydra's config, the help. What
is done with the settings (precedence, origins) is in resolve.py, their public home.
"""
# ruff: noqa: RUF009 -- setting is dataclasses.field in other words

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

from hsm.core.settings.choices import Choice, ChoiceOrJobs
from hsm.core.settings.enums import (
    FAILURES,
    CpuAffinity,
    Direction,
    GpuBusy,
    Group,
    ProgressMode,
    Rerun,
    StartMethod,
    Warm,
)
from hsm.core.settings.gpu_kinds import GpuCount, GpuIds
from hsm.core.settings.kinds import (
    AUTO,
    Count,
    CountOrAuto,
    Factor,
    Kind,
    Name,
    Seconds,
    Size,
    Subset,
    Switch,
    Words,
)
from hsm.core.settings.mappings import Counts, Variables


class Unset(Enum):
    """The type of `UNSET`, which stays the one object when it is copied or pickled."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


#: An argument that was not given, where None is a value. Any: it is a default for every type.
UNSET: Any = Unset.UNSET


def setting(
    default: object,
    kind: Kind,
    help_text: str,
    *,
    group: Group,
    variable: str = "",
    flag: str = "",
    is_option: bool = True,
    per_sweep: bool = False,
) -> Any:
    """A field of a class of settings.

    Args:
        default: the built-in value; a dict is copied for each object.
        kind: what is allowed.
        help_text: one sentence, with the unit: a noun phrase, or an imperative.
        group: the section of the help.
        variable, flag: names that do not follow from the field's own.
        is_option: whether `hsm sweep` has a plain option for it; else the command has its own way.
        per_sweep: whether it says how to start one sweep: a resume does not take it over, and
            `hsm init` leaves it out of hsm.yaml.
    """
    described = {
        "default": default,
        "kind": kind,
        "help": help_text,
        "group": group,
        "variable": variable,
        "flag": flag,
        "is_option": is_option,
        "per_sweep": per_sweep,
    }
    # No log and no traceback shows a secret.
    more: dict[str, Any] = {"repr": not kind.is_secret, "metadata": {"hsm": described}}
    if isinstance(default, dict):
        return field(default_factory=partial(dict, default), **more)
    return field(default=default, **more)


@dataclass
class SweepConf:
    """The settings of a sweep, wherever it runs.

    It holds whatever it is given: `resolve_local` makes checked ones.
    """

    max_parallel_jobs: Any = setting(  # int; AUTO until the place for the jobs has made it one
        4,
        CountOrAuto(at_least=1),
        "Parallel jobs; auto: as many as there are CPUs for, or with gpus, GPUs.",
        group=Group.limits,
        variable="HSM_LOCAL_MAX_JOBS",
        flag="--parallel-jobs",
    )
    timeout: float | None = setting(
        None,
        Seconds(above=0, optional=True),
        "Time limit per job, in seconds or as 90s, 30m, 2h.",
        group=Group.limits,
    )
    timeout_factor: float | None = setting(
        None,
        Factor(),
        "End a job that takes this many times the median of completed ones (once there are three).",
        group=Group.limits,
    )
    memory_limit: int | None = setting(
        None,
        Size(),
        "Memory limit per job, all its processes together, such as 4GB.",
        group=Group.limits,
    )
    kill_grace: float = setting(
        5.0,
        Seconds(at_least=0),
        "Seconds between SIGTERM and SIGKILL when a job is stopped.",
        group=Group.limits,
    )
    resources: dict[str, int] = setting(
        {},
        Counts(at_least=1),
        "Countable things that jobs share, by name, such as licence=2.",
        group=Group.limits,
    )
    needs: dict[str, int] = setting(
        {},
        Counts(at_least=0),
        "What each job takes of the resources while it runs, such as licence=1.",
        group=Group.limits,
    )
    gpus: float | None = setting(
        None,
        GpuCount(),
        "GPUs per job: whole ones, or a share of one such as 0.5; 0 hides them from jobs; none "
        "leaves jobs all.",
        group=Group.gpus,
    )
    gpu_memory: int | None = setting(
        None,
        Size(),
        "Memory per job and GPU, such as 10GiB: as many jobs share a GPU as fit in its memory.",
        group=Group.gpus,
    )
    start_delay: float = setting(
        0.0,
        Seconds(at_least=0),
        "Seconds between any two starts of jobs.",
        group=Group.limits,
    )
    fail_fast: bool = setting(
        False,
        Switch(),
        "Stop the sweep at the first failure, running jobs included.",
        group=Group.failures,
    )
    max_failures: int | None = setting(
        None,
        Count(at_least=1, optional=True),
        "Stop the sweep after this many failures.",
        group=Group.failures,
    )
    max_consecutive_failures: int | None = setting(
        None,
        Count(at_least=1, optional=True),
        "Stop the sweep after this many failures in a row.",
        group=Group.failures,
    )
    max_retries: int = setting(
        0, Count(at_least=0), "Retries for a job that does not complete.", group=Group.failures
    )
    retry_delay: float = setting(
        1.0,
        Seconds(at_least=0),
        "Seconds before the first retry; doubled for each further one.",
        group=Group.failures,
    )
    retry_max_delay: float = setting(
        300.0,
        Seconds(at_least=0),
        "Longest wait before a retry, in seconds.",
        group=Group.failures,
    )
    retry_on: tuple[str, ...] = setting(
        FAILURES,
        Subset(*FAILURES),
        "Failures to retry: failed (exception, exit code), timeout, out_of_memory, crashed (died "
        "of a signal).",
        group=Group.failures,
    )
    resume: bool = setting(
        False,
        Switch(),
        "Go on with the sweep in the sweep directory; completed jobs do not run again.",
        group=Group.resume,
        is_option=False,  # `--resume` names a sweep
        per_sweep=True,
    )
    rerun: Any = setting(  # Rerun, or a tuple of numbers; OmegaConf knows no such union
        Rerun.unfinished,
        ChoiceOrJobs(Rerun),
        "Jobs to run again, besides those cancelled or never started: unfinished (all that did "
        "not complete), failed, timeout, or all; or numbers of jobs, such as 3,7: only these run.",
        group=Group.resume,
        per_sweep=True,
    )
    accept_changes: bool = setting(
        False,
        Switch(),
        "Resume although the script or config has changed.",
        group=Group.resume,
        per_sweep=True,
    )
    progress: ProgressMode = setting(
        ProgressMode.auto,
        Choice(ProgressMode),
        "Progress display: rich (live), plain (a line per start and end), none, or auto (rich on "
        "a terminal or in a notebook, else plain).",
        group=Group.output,
    )
    show_output: bool = setting(
        False, Switch(), "Show what jobs print, line by line.", group=Group.output
    )
    log_limit: int | None = setting(
        None,
        Size(at_least=64 << 10),
        "Limit on each log of an attempt, such as 10MB; beyond it the middle of the output is left "
        "out.",
        group=Group.output,
    )
    metric: str | None = setting(
        None,
        Name(),
        "Metric to rank jobs by; by default what they return, or the one number they write.",
        group=Group.output,
    )
    direction: Direction | None = setting(
        None,
        Choice(Direction, optional=True),
        "Which end of the metric is best: minimize or maximize; by default both ends are shown.",
        group=Group.output,
        flag="--minimize/--maximize",
    )
    env: dict[str, str] = setting(
        {},
        Variables(),
        "Variables for the environment of jobs; records hold only their names.",
        group=Group.sweep,
    )
    share_with_group: bool = setting(
        False,
        Switch(),
        "Let the sweep directory's group read logs and results, and cancel the sweep.",
        group=Group.sweep,
    )
    on_sweep_end: tuple[str, ...] | None = setting(
        None,
        Words(),
        "Command to run when the sweep has ended; its environment has the counts.",
        group=Group.sweep,
    )


@dataclass
class LocalConf(SweepConf):
    """The `local:` settings: those of any sweep, and those of this machine alone."""

    start_method: StartMethod = setting(
        StartMethod.auto,
        Choice(StartMethod),
        "How jobs start: fork (milliseconds), spawn (a fresh interpreter), or auto (fork where "
        "that is safe).",
        group=Group.machine,
    )
    warm: Warm = setting(
        Warm.auto,
        Choice(Warm),
        "Do the imports that a Python script begins with once, for all its jobs: true, false, or "
        "auto (where jobs cannot tell).",
        group=Group.machine,
    )
    cpus: Any = setting(  # int, AUTO or None
        AUTO,
        CountOrAuto(at_least=1, optional=True),
        "CPU threads per job: a number, of which no more jobs run at once than fit; auto: the CPUs "
        "divided by the parallel jobs; or none: as many as libraries start.",
        group=Group.limits,
    )
    cpu_affinity: CpuAffinity | None = setting(
        None,
        Choice(CpuAffinity, optional=True),
        "share: each job runs on CPUs that no other job of the sweep uses; none: on any.",
        group=Group.limits,
    )
    min_free_memory: int | None = setting(
        None,
        Size(),
        "Start no job while less memory than this is free, such as 2GB.",
        group=Group.machine,
    )
    gpu_ids: tuple[int | str, ...] | None = setting(
        None,
        GpuIds(),
        "GPUs that jobs may have, as nvidia-smi numbers or names them; by default all.",
        group=Group.gpus,
    )
    gpu_busy: GpuBusy = setting(
        GpuBusy.wait,
        Choice(GpuBusy),
        "A GPU on which somebody else computes: wait until it is free, or ignore that.",
        group=Group.gpus,
    )
    gpu_wait: float | None = setting(
        None,
        Seconds(above=0, optional=True),
        "End the sweep when its jobs have waited so long for a GPU while none ran.",
        group=Group.gpus,
    )
    gpu_settle: float = setting(
        30.0,
        Seconds(at_least=0),
        "Seconds in which a GPU's memory must be free again after a job; else it counts as busy.",
        group=Group.gpus,
    )
    cleanup_on_exit: bool = setting(
        True,
        Switch(),
        "Remove each job's temporary directory (its TMPDIR) when the job ends.",
        group=Group.machine,
    )
    exit_hooks: bool = setting(
        False, Switch(), "Run the script's exit hooks in each forked job.", group=Group.machine
    )
