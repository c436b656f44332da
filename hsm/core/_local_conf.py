"""LocalConf, the one definition of the settings of local sweeps, and the types of its fields.

    max_parallel_jobs: int = _setting(4, Count(at_least=1), "Jobs that run at the same time.")
         |                            |   |                  `- help: one sentence, with the unit
         |                            |   `- what is allowed
         |                            `- built-in value
         `- name of the argument, of the key in hsm.yaml and of hydra.launcher.*

Apart from config.py, which says what is done with it, because Hydra's plugin discovery imports this
module at the start of every Hydra app: it imports nothing that Hydra has not loaded by then.
"""
# ruff: noqa: RUF009 -- _setting is dataclasses.field in other words

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hsm.core._setting_kinds import Choice, Count, Kind, Seconds, Switch


class Unset(Enum):
    """The type of `UNSET`, which stays the one object when it is copied or pickled."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


#: An argument that was not given, where None is a value. Any: it is a default for every type.
UNSET: Any = Unset.UNSET


class StartMethod(str, Enum):
    """How a job's process is made. The members' names are what Hydra's command line takes."""

    auto = "auto"
    fork = "fork"
    spawn = "spawn"

    __str__ = str.__str__
    __format__ = str.__format__  # type: ignore[assignment]


class ProgressMode(str, Enum):
    """How progress is shown; `auto` is rich on a terminal and plain elsewhere."""

    auto = "auto"
    rich = "rich"
    plain = "plain"
    none = "none"

    __str__ = str.__str__
    __format__ = str.__format__  # type: ignore[assignment]


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
