"""The variables that tell a job which GPUs it has, and where processes that share them meet.

gpus: 2     CUDA_VISIBLE_DEVICES=1,3, or another maker's; HSM_GPUS; MASTER_ADDR, MASTER_PORT
gpus: 0     the variables of all makers, so that the job sees none; HSM_GPUS=[]
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hsm.core.errors import SettingsError
from hsm.core.gpu.device import Family, Gpu
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.presence import CUDA, HIP, ROCR, VISIBLE, ZE
from hsm.core.gpu.visible import ORDER, PCI_ORDER, FoundGpus

#: A JSON list of the job's GPUs.
GPUS = "HSM_GPUS"
_ADDRESS, _PORT = "MASTER_ADDR", "MASTER_PORT"
_LOOPBACK = "127.0.0.1"
#: A GPU that no machine has: of HIP and Intel's runtime, an empty text means all.
_NO_HIP_GPU, _NO_ZE_GPU = "-1", "9999"
#: What is there where a GPU of that maker may be.
_AMD_DEVICE, _RENDER_NODES = "dev/kfd", "dev/dri"


def tokens_of(grant: GpuGrant, found: FoundGpus) -> str:
    """A job's GPUs as its variable has them: ``1,3``, in the order of `found`."""
    return ",".join(gpu.token for gpu in _in_order(grant, found))


def _in_order(grant: GpuGrant, found: FoundGpus) -> list[Gpu]:
    places = {gpu.token: place for place, gpu in enumerate(found.gpus)}
    return sorted(grant.gpus, key=lambda gpu: places.get(gpu.token, len(places)))


def gpu_variables(grant: GpuGrant, found: FoundGpus, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables for a job that has GPUs.

    Args:
        grant: which.
        found: the GPUs from which they are.
        environ: what the job inherits, the setting `env` included.
    """
    tokens = tokens_of(grant, found)
    variables = {found.variable: tokens}
    if found.family is Family.nvidia and not found.is_inherited and not environ.get(ORDER):
        # Inherited numbers keep the meaning that they have where they come from.
        variables[ORDER] = PCI_ORDER
    if found.variable == HIP and environ.get(CUDA) == environ.get(HIP):
        variables[CUDA] = tokens  # Libraries that know both refuse two different ones.
    variables[GPUS] = json.dumps([_facts(gpu) for gpu in _in_order(grant, found)])
    return variables


def _facts(gpu: Gpu) -> dict[str, Any]:
    return {
        "index": gpu.index,
        "uuid": gpu.uuid or None,
        "name": gpu.name or None,
        "memory": gpu.memory,
    }


def no_gpu_variables(environ: Mapping[str, str], *, root: Path = Path("/")) -> dict[str, str]:
    """The variables for a job that shall see no GPU.

    Those of AMD and Intel are set where they are inherited, or such a GPU may be there: some
    programs for GPUs of NVIDIA take the mere presence of AMD's for an error.

    Args:
        environ: what the job inherits, the setting `env` included.
        root: where /dev is.
    """
    variables = {CUDA: "", GPUS: "[]"}
    if HIP in environ or ROCR in environ or os.path.exists(root / _AMD_DEVICE):
        variables |= {HIP: _NO_HIP_GPU, ROCR: ""}
    if ZE in environ or os.path.exists(root / _RENDER_NODES):
        variables[ZE] = _NO_ZE_GPU
    return variables


def master_variables(port: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Where the processes of a job with GPUs meet, unless the user has said so.

    Args:
        port: a free one, of this job alone.
        environ: what the job inherits, the setting `env` included.
    """
    if _ADDRESS in environ or _PORT in environ:
        return {}
    return {_ADDRESS: _LOOPBACK, _PORT: str(port)}


def check_env(env: Iterable[str], setting: str) -> None:
    """Check that the setting `env` does not say, too, which GPUs jobs see.

    Args:
        env: the names that it sets.
        setting: the one by which hsm gives jobs their GPUs.

    Raises:
        SettingsError: it does.
    """
    for name in env:
        if name in VISIBLE:
            hint = f"{setting} sets it for each job; gpu_ids chooses GPUs"
            message = f"env sets {name}, but {hint}"
            allowed = f"without {name}"
            raise SettingsError("env", name, "settings", allowed, hint, message=message)
