"""How many jobs this machine runs at once: as far as there are GPUs and CPUs for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hsm.core.gpu.need import gpu_need, gpu_places
from hsm.core.local.available_cpus import available_cpus
from hsm.core.settings.resolve import AUTO, LocalConf

if TYPE_CHECKING:
    from hsm.core.gpu.device import Gpu


def with_places(conf: LocalConf, gpus: Sequence[Gpu] = ()) -> LocalConf:
    """`conf` with the number of jobs that run at once as its `max_parallel_jobs`.

    That is an integer, whatever was asked for. Jobs that are promised GPUs, or CPUs, by a number or
    as a share of their own, are never more than there are of these.

    Args:
        conf: the settings.
        gpus: the GPUs that jobs may have; without any, GPUs limit nothing.
    """
    asked = conf.max_parallel_jobs
    bounds = [] if asked == AUTO else [asked]
    need = gpu_need(conf.gpus, conf.gpu_memory)
    if need is not None and gpus:
        bounds.append(max(1, gpu_places(need, gpus)))
    if isinstance(conf.cpus, int):
        bounds.append(max(1, available_cpus() // conf.cpus))
    elif conf.cpu_affinity is not None or not bounds:
        bounds.append(available_cpus())
    return replace(conf, max_parallel_jobs=min(bounds))
