"""What a source needs of this machine, checked before any job starts."""

from __future__ import annotations

import resource

from hsm.core.errors import HsmError, SettingsError
from hsm.core.local.available_cpus import available_cpus
from hsm.core.local.descriptor_limit import needed_descriptors
from hsm.core.own_process import LINUX, sees_processes
from hsm.core.settings.resolve import LocalConf
from hsm.core.units import format_size


def check_machine(conf: LocalConf) -> None:
    """Check that this machine can run jobs with these settings.

    Raises:
        HsmError: it can run none.
        SettingsError: it can never meet one of the settings.
    """
    if not sees_processes():
        raise HsmError("hsm cannot run jobs without /proc: mount it (mount -t proc proc /proc)")
    _check_cpus(conf)
    _check_memory(conf)
    _check_descriptors(conf)
    if conf.gpus is not None or conf.gpu_memory is not None:
        from hsm.core.gpu.job_variables import check_env  # as few sweeps need it

        check_env(conf.env, "gpus" if conf.gpu_memory is None else "gpu_memory")


def _check_descriptors(conf: LocalConf) -> None:
    slots, need = conf.max_parallel_jobs, needed_descriptors(conf)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and need > hard:
        message = (
            f"max_parallel_jobs={slots} needs about {need} open files; "
            f"the limit is {hard} (ulimit -Hn)"
        )
        raise SettingsError("max_parallel_jobs", slots, "settings", "less", message=message)


def _check_cpus(conf: LocalConf) -> None:
    if isinstance(conf.cpus, int) and conf.cpus > (available := available_cpus()):
        message = f"cpus={conf.cpus} exceeds the {available} CPUs that are available here"
        raise SettingsError("cpus", conf.cpus, "settings", f"at most {available}", message=message)
    if conf.cpu_affinity is not None and not LINUX:
        message = "cpu_affinity=share needs Linux: this system ties no process to CPUs"
        raise SettingsError("cpu_affinity", "share", "settings", "none", message=message)


def _check_memory(conf: LocalConf) -> None:
    """Raise SettingsError for a limit that this machine can never meet."""
    if conf.min_free_memory is None:
        return
    import psutil  # slow to import: other sweeps do so while their fork server starts

    total = psutil.virtual_memory().total
    if conf.min_free_memory > total:
        has = f"this machine's {format_size(total)}"
        message = (
            f"min_free_memory={format_size(conf.min_free_memory)} exceeds {has}: "
            "no job could ever start"
        )
        raise SettingsError(
            "min_free_memory", conf.min_free_memory, "settings", f"at most {has}", message=message
        )
