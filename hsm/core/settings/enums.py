"""The words that settings may be, and the sections of the help."""

from __future__ import annotations

from hsm.core.text_enum import TextEnum


class StartMethod(TextEnum):
    """How a job's process is made. The members' names are what Hydra's command line takes."""

    auto = "auto"
    fork = "fork"
    spawn = "spawn"


class Warm(TextEnum):
    """Whether what a script imports is imported once for all its jobs."""

    auto = "auto"
    true = "true"
    false = "false"


class CpuAffinity(TextEnum):
    """Which CPUs a job's processes may run on."""

    share = "share"


class GpuBusy(TextEnum):
    """What is done about a GPU on which somebody else computes."""

    wait = "wait"
    ignore = "ignore"


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


class Direction(TextEnum):
    """Which end of a metric is the good one."""

    minimize = "minimize"
    maximize = "maximize"


#: What `retry_on` may name: how an attempt ended.
FAILURES = ("failed", "timeout", "out_of_memory", "crashed")


class Group(TextEnum):
    """The sections in which the help shows settings, in its order."""

    sweep = "Sweep"
    limits = "Parallelism and limits"
    failures = "Failures and retries"
    resume = "Resume"
    output = "Output"
    gpus = "GPUs"
    machine = "This machine"
