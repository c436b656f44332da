"""What people are told of GPUs before jobs run, and while they do.

8 jobs at once: 2 on each of 4 GPUs (NVIDIA RTX A6000, 48 GiB)     how many jobs get what
each job sees all 4 GPUs; gpus=1 gives each its own                if hsm gives them none
GPU  model                    used by                              who has them
  0  NVIDIA RTX A6000, 48 GiB  job 3 (6.2 GiB), job 4
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from hsm.core.gpu.device import Gpu
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.need import GpuNeed
from hsm.core.gpu.presence import VISIBLE
from hsm.core.record.gpu_facts import FIELD, RecordedGpu, count_text, gpus_text
from hsm.core.settings.spelling import Spelling
from hsm.core.table_layout import Column, plain_lines
from hsm.core.units import format_size

#: Variables that tell a program which GPUs it may use.
_VARIABLES = frozenset({*VISIBLE, "NVIDIA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"})
#: Names of parameters that do so, with what may stand before them: trainer.devices, --gpu-id.
_PARAMETER = r"(.*[./_-])?(gpus?|cuda|devices?)([_-]?(ids?|index|num))?"


def facts_of(gpus: Iterable[Gpu]) -> list[RecordedGpu]:
    """These GPUs, as a record has them."""
    return [RecordedGpu(gpu.id, gpu.name, gpu.memory) for gpu in gpus]


def launch_facts(gpus: Sequence[Gpu]) -> dict[str, Any]:
    """What the launch record of a sweep says of the GPUs that its jobs may be given, if any."""
    return {FIELD: [fact.record() for fact in facts_of(gpus)]} if gpus else {}


def describe_gpus(gpus: Sequence[Gpu], need: GpuNeed, places: int) -> str:
    """``8 jobs at once: 2 on each of 4 GPUs (NVIDIA RTX A6000, 48 GiB)``, one line for people.

    Args:
        gpus: those that there are for the jobs.
        need: what each job gets of them.
        places: how many jobs can run at once.
    """
    all_of_them = count_text(facts_of(gpus))
    jobs = f"{places} job{'' if places == 1 else 's'} at once"
    if need.memory is not None:
        jobs += f" with {format_size(need.memory)}{' each' if places > 1 else ''}"
    if places == 1 < len(gpus):
        return f"{jobs}, on {need.count} of {all_of_them}"
    if need.count > 1:
        return f"{jobs}: {need.count} of {all_of_them} for each"
    if len(gpus) == 1:
        return f"{jobs} on {gpus[0]}{all_of_them.removeprefix('1 GPU')}"
    most = -(-places // len(gpus)) if gpus else 0
    if places == most * len(gpus):
        return f"{jobs}: {most} on each of {all_of_them}"
    if most == 1:
        return f"{jobs}: 1 of {all_of_them} for each"
    return f"{jobs}, on {all_of_them}"


def unshared_hint(
    visible: int, env: Collection[str], params: Collection[str], spelled: Spelling
) -> str:
    """Say that jobs which run at once see the same GPUs; empty if there is no need to.

    Args:
        visible: how many GPUs there are for a program that is started here.
        env: the variables that jobs are given.
        params: the parameters that jobs are given: one of these may say which GPU a job uses.
        spelled: writes the setting.
    """
    if visible < 2 or not _VARIABLES.isdisjoint(env):
        return ""
    if any(re.fullmatch(_PARAMETER, name.lower()) for name in params):
        return ""
    all_of_them = "both" if visible == 2 else f"all {visible}"
    return f"each job sees {all_of_them} GPUs; {spelled('gpus', 1)} gives each its own"


def gpu_table(
    gpus: Sequence[Gpu], grants: Iterable[GpuGrant], others: Mapping[str, str] | None = None
) -> list[str]:
    """Who has which GPU, a line each.

    Args:
        gpus: those that there are.
        grants: those of the jobs that run.
        others: by `Gpu.key`, what else is to be said of a GPU: who else uses it, what is wrong.
    """
    users: dict[str, list[str]] = {gpu.key: [] for gpu in gpus}
    for grant in sorted(grants, key=lambda grant: grant.job):
        used = "" if grant.peak_memory is None else f" ({format_size(grant.peak_memory)})"
        for gpu in grant.gpus:
            users.setdefault(gpu.key, []).append(f"job {grant.job}{used}")
    for key, text in (others or {}).items():
        users.setdefault(key, []).append(text)
    names = [gpus_text([gpu.id]) for gpu in gpus]
    models = [fact.model for fact in facts_of(gpus)]
    columns = [
        Column("GPU", names, is_right=all(isinstance(gpu.id, int) for gpu in gpus)),
        *([Column("model", models)] if any(models) else []),
        Column("used by", [", ".join(users[gpu.key]) or "nobody" for gpu in gpus]),
    ]
    return list(plain_lines(columns))
