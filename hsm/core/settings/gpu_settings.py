"""What the settings of GPUs mean for each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hsm.core.errors import SettingsError
from hsm.core.settings.kinds import AUTO
from hsm.core.units import format_size

#: Settings that say something of GPUs which jobs get.
_OF_GPUS = ("gpu_memory", "gpu_ids")


def gives_gpus(values: Mapping[str, Any]) -> bool:
    """Whether jobs get GPUs of hsm, by the settings `gpus` and `gpu_memory` among these."""
    gpus = values.get("gpus")
    return gpus != 0 and (gpus is not None or values.get("gpu_memory") is not None)


def still_wanted(
    recorded: Mapping[str, Any], named: Mapping[str, Any], usual_jobs: int
) -> dict[str, Any]:
    """Those of a sweep's settings that whoever resumes it still wants.

    What followed from the sweep's GPUs follows from the new ones, and without GPUs, what was said
    of them has no use.

    Args:
        recorded: the settings of the sweep.
        named: those that whoever resumes it has named, and so wants otherwise.
        usual_jobs: the built-in max_parallel_jobs.
    """
    wanted = dict(recorded)
    if "gpus" in named or "gpu_memory" in named:
        followed = AUTO if gives_gpus(recorded) else usual_jobs
        if wanted.get("max_parallel_jobs") == followed:
            del wanted["max_parallel_jobs"]
        if not gives_gpus({**recorded, **named}):
            wanted = {name: value for name, value in wanted.items() if name not in _OF_GPUS}
    return wanted


def check_gpu_settings(
    values: Mapping[str, Any], origins: Mapping[str, str], ranks: Mapping[str, int]
) -> None:
    """Raise SettingsError if these settings make no sense together.

    ``gpus=0`` hides all GPUs, whatever a source of less weight says of them: so it may be given for
    one sweep of a project whose hsm.yaml sets gpu_memory.

    Args:
        values: settings.
        origins: where each came from.
        ranks: of the source of each: higher ones win.
    """
    memory, ids = values["gpu_memory"], values["gpu_ids"]
    if values["gpus"] == 0 and memory is not None and ranks["gpu_memory"] >= ranks["gpus"]:
        message = (
            f"{origins['gpu_memory']}: gpu_memory={format_size(memory)} makes no sense with gpus=0 "
            f"({origins['gpus']}), which hides all GPUs from jobs: leave out one of the two"
        )
        raise SettingsError("gpu_memory", memory, origins["gpu_memory"], "none", message=message)
    if ids is not None and values["gpus"] is None and memory is None:
        shown = ",".join(map(str, ids))
        message = (
            f"{origins['gpu_ids']}: gpu_ids={shown} says which GPUs jobs may have, and nothing how "
            "many each gets: set gpus, too, such as gpus=1, or 0.5 for two jobs on each GPU"
        )
        raise SettingsError("gpu_ids", ids, origins["gpu_ids"], "none", message=message)
