"""Settings of other Hydra launchers, and what hsm has in their place.

Who moves to hsm tries the names that they know: the error for such a name says what to write, from
the tables that docs/moving.md shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hsm.core.settings.enums import Direction


@dataclass(frozen=True)
class Counterpart:
    """What hsm has in place of some settings of another launcher.

    Attributes:
        theirs: the names there, dotted below a mapping.
        ours: the settings here; empty if there is none.
        remark: what differs, or what holds instead.
    """

    theirs: Sequence[str]
    ours: Sequence[str] = ()
    remark: str = ""


_ONE_MACHINE = "jobs run on this machine"

#: By the name of the launcher.
COUNTERPARTS: Mapping[str, Sequence[Counterpart]] = {
    "joblib": (
        Counterpart(["n_jobs"], ["max_parallel_jobs"], "by default 4; auto: one for each CPU"),
        Counterpart(["timeout"], ["timeout"], "always in seconds, and only that job is ended"),
        Counterpart(["verbose"], ["progress", "show_output"]),
        Counterpart(["backend", "prefer", "require"], ["start_method"]),
        Counterpart(["pre_dispatch", "batch_size"], remark="a job starts when a slot is free"),
        Counterpart(
            ["temp_folder", "max_nbytes", "mmap_mode"], remark="each job has its own TMPDIR"
        ),
    ),
    "submitit": (
        Counterpart(["array_parallelism"], ["max_parallel_jobs"], "by default 4"),
        Counterpart(["timeout_min"], ["timeout"], "in seconds; by default there is no limit"),
        Counterpart(["signal_delay_s"], ["kill_grace"], "SIGTERM comes at the time limit"),
        Counterpart(["max_num_timeout"], ["max_retries", "retry_on"], "such as retry_on=[timeout]"),
        Counterpart(
            ["mem_gb", "mem_per_cpu", "mem_per_gpu"], ["memory_limit"], "for a whole job, as in 4GB"
        ),
        Counterpart(["submitit_folder"], remark="logs are in .hsm/logs of the sweep's directory"),
        Counterpart(["stderr_to_stdout"], remark="the two are kept apart"),
        Counterpart(["name", "comment"], remark="a sweep's id is made from hydra.job.name"),
        Counterpart(["cpus_per_task"], ["cpus"], "by default, the CPUs are divided by the jobs"),
        Counterpart(
            ["gpus_per_node", "gpus_per_task", "gres"],
            ["gpus"],
            "per job, also a share such as 0.5; by default, jobs see all GPUs",
        ),
        Counterpart(["cpus_per_gpu"], ["cpus"], "per job, however many GPUs it has"),
        Counterpart(["tasks_per_node", "nodes"], remark="a job is one process, on this machine"),
        Counterpart(
            [
                *("partition", "qos", "account", "constraint", "exclude"),
                *("additional_parameters", "srun_args", "setup"),
            ],
            remark=_ONE_MACHINE,
        ),
    ),
    "ray": (
        Counterpart(["ray.init.num_cpus", "num_cpus"], ["max_parallel_jobs"], "by default 4"),
        Counterpart(["ray.remote.num_cpus"], ["cpus"], "threads are bounded, too"),
        Counterpart(
            ["ray.remote.num_gpus", "num_gpus"],
            ["gpus"],
            "also a share such as 0.5; by default, jobs see all GPUs",
        ),
        Counterpart(["ray.init.num_gpus"], ["gpu_ids"], "which ones, not how many"),
        Counterpart(["ray", "env_setup", "sync_up", "sync_down"], remark=_ONE_MACHINE),
    ),
}


#: Values of `direction`, which are switches on the command line only.
_ENDS = tuple(map(str, Direction))


def counterpart(name: object, value: object) -> str:
    """Say what hsm has in place of another launcher's setting; empty if it is nobody's.

    Args:
        name: the setting.
        value: what it was given; for a mapping, a setting below it may be known.
    """
    if name in _ENDS:
        return f"set direction to {name}"
    known = {
        theirs: (launcher, each)
        for launcher, all_of_it in COUNTERPARTS.items()
        for each in all_of_it
        for theirs in each.theirs
    }
    found = next((path for path in _paths(str(name), value) if path in known), None)
    if found is None:
        return ""
    launcher, theirs = known[found]
    remark = f" ({theirs.remark})" if theirs.remark else ""
    instead = f"write {' and '.join(theirs.ours)} for" if theirs.ours else "hsm has nothing like"
    return f"{instead} {launcher}'s {found}{remark}, see docs/moving.md"


def _paths(name: str, value: object) -> Iterator[str]:
    """Yield the dotted names below `name`, the longest first, then the name."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _paths(f"{name}.{key}", below)
    yield name
