"""LocalConf, the one definition of the settings of local sweeps, and the types of its fields.

    max_parallel_jobs: int = _setting(4, Count(at_least=1), "Jobs that run at the same time.")
         |                            |   |                  `- help: one sentence, with the unit
         |                            |   `- what is allowed
         |                            `- built-in value
         `- name of the argument, of the key in hsm.yaml and of hydra.launcher.*

What is done with it (precedence, checks, origins) is in config.py, its public home.
"""
# ruff: noqa: RUF009 -- _setting is dataclasses.field in other words

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hsm.core.settings.kinds import (
    Choice,
    Count,
    Factor,
    Kind,
    Seconds,
    Size,
    Subset,
    Switch,
    Words,
)
from hsm.core.text_enum import TextEnum


class Unset(Enum):
    """The type of `UNSET`, which stays the one object when it is copied or pickled."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


#: An argument that was not given, where None is a value. Any: it is a default for every type.
UNSET: Any = Unset.UNSET


class StartMethod(TextEnum):
    """How a job's process is made. The members' names are what Hydra's command line takes."""

    auto = "auto"
    fork = "fork"
    spawn = "spawn"


class ProgressMode(TextEnum):
    """How progress is shown; `auto` is rich on a terminal and plain elsewhere."""

    auto = "auto"
    rich = "rich"
    plain = "plain"
    none = "none"


class Rerun(TextEnum):
    """Which jobs a resumed sweep runs again, beside those that were cancelled or never started."""

    unfinished = "unfinished"
    failed = "failed"
    timeout = "timeout"
    all = "all"


#: What `retry_on` may name: how an attempt ended.
FAILURES = ("failed", "timeout", "out_of_memory", "crashed")


def _setting(
    default: object, kind: Kind, help_text: str, *, variable: str = "", flag: str = ""
) -> Any:
    """A field of LocalConf. `variable` and `flag` are for names that do not follow from its own."""
    described = {"kind": kind, "help": help_text, "variable": variable, "flag": flag}
    return field(default=default, metadata={"hsm": described})


@dataclass
class LocalConf:
    """The `local:` settings. It holds whatever it is given: `resolve_local` makes checked ones."""

    max_parallel_jobs: int = _setting(
        4,
        Count(at_least=1),
        "Jobs that run at the same time.",
        variable="HSM_LOCAL_MAX_JOBS",
        flag="--parallel-jobs",
    )
    timeout: float | None = _setting(
        None, Seconds(above=0, optional=True), "Seconds that one job may run; none for no limit."
    )
    show_output: bool = _setting(
        False, Switch(), "Show every line that a job prints, as it prints it."
    )
    cleanup_on_exit: bool = _setting(
        True, Switch(), "Remove each job's temporary directory (its TMPDIR) when the job has ended."
    )
    start_method: StartMethod = _setting(
        StartMethod.auto,
        Choice(StartMethod),
        "How a job's process is made: fork (milliseconds), spawn (a fresh interpreter), "
        "or auto: fork where that is safe.",
    )
    kill_grace: float = _setting(
        5.0,
        Seconds(at_least=0),
        "Seconds that a job which is to end has between SIGTERM and SIGKILL.",
    )
    fail_fast: bool = _setting(
        False, Switch(), "When a job fails, start no more jobs and end those that run."
    )
    progress: ProgressMode = _setting(
        ProgressMode.auto,
        Choice(ProgressMode),
        "How progress is shown: rich (a live display), plain (a line per start and end), none, "
        "or auto: rich on a terminal, plain elsewhere.",
    )
    max_retries: int = _setting(
        0, Count(at_least=0), "Further attempts that a job gets which does not complete."
    )
    retry_delay: float = _setting(
        1.0,
        Seconds(at_least=0),
        "Seconds before the first retry; each further one waits twice as long as the one before.",
    )
    retry_max_delay: float = _setting(
        300.0, Seconds(at_least=0), "Seconds that a retry waits at most."
    )
    retry_on: tuple[str, ...] = _setting(
        FAILURES,
        Subset(*FAILURES),
        "What is retried: failed (an exception, an exit code), timeout, out_of_memory, "
        "crashed (died of a signal).",
    )
    max_failures: int | None = _setting(
        None,
        Count(at_least=1, optional=True),
        "Stop the sweep when so many of its jobs did not complete; none for never.",
    )
    max_consecutive_failures: int | None = _setting(
        None,
        Count(at_least=1, optional=True),
        "Stop the sweep when so many jobs in a row did not complete; none for never.",
    )
    resume: bool = _setting(
        False,
        Switch(),
        "Go on with the sweep in the sweep directory: jobs that completed are not run again.",
    )
    rerun: Rerun = _setting(
        Rerun.unfinished,
        Choice(Rerun),
        "What a resumed sweep runs again, beside what was cancelled or never started: "
        "unfinished (all that did not complete), failed, timeout, or all.",
    )
    accept_changes: bool = _setting(
        False, Switch(), "Resume a sweep although its script or config has changed."
    )
    timeout_factor: float | None = _setting(
        None,
        Factor(),
        "End a job that runs so many times longer than the median of the completed ones "
        "(once three have); none for no such limit.",
    )
    # Any: text such as 4GB where people write it, bytes once it is checked.
    memory_limit: Any = _setting(
        None, Size(), "Memory that one job's processes may use together, such as 4GB; none."
    )
    min_free_memory: Any = _setting(
        None, Size(), "Start no job while less memory than this is free, such as 2GB; none."
    )
    share_with_group: bool = _setting(
        False,
        Switch(),
        "Let the group of the sweep directory read the sweep's logs and results, and cancel it; "
        "they are the owner's alone otherwise.",
    )
    on_sweep_end: Any = _setting(
        None, Words(), "Command to run when the sweep has ended; its environment has the counts."
    )
    exit_hooks: bool = _setting(
        False, Switch(), "Run, in each forked job, the exit hooks that the script has registered."
    )
