"""The GPUs of this machine for the jobs of one source."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from hsm.core.gpu.device import Family
from hsm.core.gpu.gpu_checks import check_gpus
from hsm.core.gpu.gpu_view import reading_key
from hsm.core.gpu.locks import GpuLocks
from hsm.core.gpu.nvml_probe import NvmlProbe
from hsm.core.gpu.pool import GpuPool
from hsm.core.gpu.probe import GpuReading, ProbeGone
from hsm.core.gpu.visible import ORDER, PCI_ORDER, FoundGpus, choose_gpus, find_gpus
from hsm.core.gpu.watch import GpuWatch
from hsm.core.settings.resolve import LocalConf


def open_pool(conf: LocalConf) -> GpuPool:
    """Find the GPUs that jobs may have, for settings that say that they get some.

    Without an answer of a driver GPUs are only counted; people are told why.

    Raises:
        SettingsError: there are none, or not those that the settings name, or too few or too small
            ones.
    """
    environ = {**os.environ, **conf.env}
    news = deque[str]()
    probe, readings, why = NvmlProbe(), None, ""
    try:
        try:
            readings = probe.look()
        except ProbeGone as error:
            why = str(error)
        found = find_gpus(None, environ, readings)
        if readings is not None:
            why = _unknown(found, readings, environ)
        found = replace(found, silence=why)
        choose = partial(choose_gpus, found=found)
        gpus = found.gpus if conf.gpu_ids is None else choose(conf.gpu_ids)
        check_gpus(conf, gpus, environ, why)
        watch = None
        if readings is not None and found.family is Family.nvidia:
            watch = GpuWatch(probe, news.append)
        if why and found.family is Family.nvidia:
            news.append(f"{why}; hsm counts GPUs all the same, but cannot see what runs on them")
        return GpuPool(found, conf, watch=watch, locks=GpuLocks(), choose=choose, news=news)
    except BaseException:
        probe.close()
        raise


def _unknown(found: FoundGpus, readings: Sequence[GpuReading], environ: Mapping[str, str]) -> str:
    """Why a driver's readings are of none of the GPUs that were inherited; empty if they are."""
    keys = {reading_key(reading) for reading in readings}
    if not found.is_inherited or not found.gpus or any(gpu.key in keys for gpu in found.gpus):
        return ""
    is_split = any(reading.is_mig for reading in readings)
    remedy = "name them GPU-… or MIG-…" if is_split else f"set {ORDER}={PCI_ORDER}"
    why = "CUDA numbers GPUs in an order of its own, so that nobody knows these"
    return f"{found.variable}={environ[found.variable]}: {why}: {remedy}"
