"""Whether a process may see GPUs at all: asked by every sweep, so it must cost nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: What is there where a driver of NVIDIA's, AMD's or Intel's is.
_TRACES = ("/proc/driver/nvidia", "/dev/kfd", "/dev/dri")
CUDA, HIP = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
ROCR, ZE = "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"
#: Every variable that says which GPUs a process sees: CUDA's, HIP's, ROCr's, Level Zero's.
VISIBLE = (CUDA, HIP, ROCR, ZE)


def may_see_gpus(environ: Mapping[str, str]) -> bool:
    """Whether there is any trace of GPUs; `hsm.core.gpu.visible` can tell more."""
    return any(name in environ for name in VISIBLE) or any(map(os.path.exists, _TRACES))
