"""How many jobs this machine runs at once: max_parallel_jobs, as far as there are CPUs for them."""

from __future__ import annotations

from dataclasses import replace

from hsm.core.local.available_cpus import available_cpus
from hsm.core.settings.resolve import AUTO, LocalConf


def with_places(conf: LocalConf) -> LocalConf:
    """`conf` with the number of jobs that run at once as its `max_parallel_jobs`.

    That is an integer, whatever was asked for. Jobs that are promised CPUs, by a number or as a
    share of their own, are never more than there are CPUs for.
    """
    asked, each = conf.max_parallel_jobs, 1
    if isinstance(conf.cpus, int):
        each = conf.cpus
    elif conf.cpu_affinity is None and asked != AUTO:
        return conf
    fitting = max(1, available_cpus() // each)
    return replace(conf, max_parallel_jobs=fitting if asked == AUTO else min(asked, fitting))
