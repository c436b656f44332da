"""Whether jobs can ever have the GPUs that they are to get: asked before any of them starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hsm.core.errors import SettingsError
from hsm.core.gpu.device import Family, Gpu
from hsm.core.gpu.need import SPARE, GpuNeed, GpuNeeds, fits, gpu_need, gpu_places
from hsm.core.gpu.presence import CUDA, VISIBLE
from hsm.core.needs import GPU_NAMES, OwnNeeds
from hsm.core.settings.point_needs import origin_of
from hsm.core.settings.resolve import LocalConf
from hsm.core.units import format_size


def check_gpus(
    conf: LocalConf, gpus: Sequence[Gpu], environ: Mapping[str, str], silence: str = ""
) -> None:
    """Check that jobs can have what the settings `gpus` and `gpu_memory` say.

    Args:
        conf: the settings.
        gpus: the GPUs that jobs may have.
        environ: the environment in which they were found.
        silence: see `FoundGpus`.

    Raises:
        SettingsError: no job can ever have that.
    """
    need = gpu_need(conf.gpus, conf.gpu_memory)
    if need is None:
        return
    problem = _problem(need, gpus, _who_says(conf, environ), silence)
    if not problem:
        return
    if not gpus and (repeated := _repeated(environ)):
        problem += f" names {repeated} twice, and then CUDA shows none"
    is_number = conf.gpus is not None and _usable(need, gpus) < need.count
    name, value = ("gpus", conf.gpus) if is_number else ("gpu_memory", conf.gpu_memory)
    settings = [] if conf.gpus is None else [f"gpus={conf.gpus:g}"]
    settings += [] if conf.gpu_memory is None else [f"gpu_memory={format_size(conf.gpu_memory)}"]
    message = f"{', '.join(settings)}: {problem}"
    raise SettingsError(name, value, "settings", "what there is", message=message)


def check_own_gpus(
    points: Iterable[OwnNeeds],
    usual: GpuNeeds,
    gpus: Sequence[Gpu],
    first: int = 0,
    *,
    silence: str = "",
) -> None:
    """Check that the jobs of points which have needs of their own can have their GPUs.

    Args:
        points: the points' own needs.
        usual: what the jobs of the sweep need.
        gpus: the GPUs that jobs may have.
        first: the place of the first point, for errors.
        silence: see `FoundGpus`.

    Raises:
        SettingsError: one can never have that.
    """
    problems: dict[GpuNeed | None, str] = {None: ""}
    for index, own in enumerate(points, first):
        if not any(name in own for name in GPU_NAMES):
            continue
        need = usual.of(own)
        if need not in problems:
            assert need is not None
            problems[need] = _problem(need, gpus, "", silence)
        if problems[need]:
            origin = origin_of(index)
            message = f"{origin}: {problems[need]}"
            raise SettingsError("needs", str(need), origin, "what there is", message=message)


def check_left(
    ids: Sequence[int | str], gpus: Sequence[Gpu], needs: Iterable[GpuNeed | None]
) -> None:
    """Check that jobs can still have what they need of the GPUs that a running sweep is left.

    Args:
        ids: the setting `gpu_ids` that is asked for.
        gpus: those that it names.
        needs: what each job that is still to start needs; None for no GPU.

    Raises:
        SettingsError: one could never start.
    """
    for need in dict.fromkeys(needs):
        if need is not None and (problem := _problem(need, gpus, "", "")):
            shown = ",".join(map(str, ids))
            message = f"gpu_ids={shown} is too little for jobs that wait: {problem}"
            raise SettingsError("gpu_ids", ids, "settings", "enough for a job", message=message)


def _who_says(conf: LocalConf, environ: Mapping[str, str]) -> str:
    """What says which GPUs there are, as people wrote it; empty if nobody says anything."""
    said = [f"gpu_ids={','.join(map(str, conf.gpu_ids))}"] if conf.gpu_ids else []
    inherited = [name for name in VISIBLE if name in environ]
    said += [
        f"{name}={environ[name]}" if environ[name] else f"{name} is empty" for name in inherited
    ]
    return ", ".join(said)


def _repeated(environ: Mapping[str, str]) -> str:
    """The GPU that the variable of CUDA, which then shows none, names twice; empty if none."""
    named = [item.strip() for item in environ.get(CUDA, "").split(",")]
    return next((name for name in named if name and named.count(name) > 1), "")


def _usable(need: GpuNeed, gpus: Iterable[Gpu]) -> int:
    """How many GPUs there are for such a job, be their memory what it may."""
    return sum(1 for gpu in gpus if need.count == 1 or not gpu.is_mig)


def _problem(need: GpuNeed, gpus: Sequence[Gpu], where: str, silence: str) -> str:
    """Why no job can ever have this, in a few words; empty if one can.

    Args:
        need: what a job needs.
        gpus: the GPUs that there are.
        where: what says which, for people; empty if nothing does.
        silence: why no driver tells more of them; empty if one does.
    """
    if gpu_places(need, gpus):
        return ""
    if not gpus:
        asked = f"{silence}; " if silence else "the driver, "
        looked = f"{asked}/proc/driver/nvidia, /sys/class/kfd and /dev/dri name none"
        return f"there is no GPU here: {where or looked}"
    whole = _usable(need, gpus)
    if whole < need.count:
        there = f"a job cannot have {need.count} GPUs: there {_are(whole)} for it"
        of_parts = "; a part (MIG) of a GPU is one per job" if whole < len(gpus) else ""
        return f"{there}{f' ({where})' if where else ''}{of_parts}"
    assert need.memory is not None
    known = [gpu for gpu in gpus if gpu.memory is not None]
    if not known:
        return f"the memory of the GPUs is unknown here: {silence or _no_memory(gpus)}"
    if need.count > 1 and any(fits(need, gpu) for gpu in gpus):
        enough = sum(1 for gpu in gpus if fits(need, gpu))
        return f"a job cannot have {need}: of {len(gpus)}, {enough} {_have(enough)} so much"
    most = max(known, key=lambda gpu: gpu.memory or 0)
    has = f"{format_size(most.memory or 0)}, of which {format_size(SPARE)} are the driver's"
    return f"a job cannot have {format_size(need.memory)} of a GPU: {most} has {has}"


def _no_memory(gpus: Iterable[Gpu]) -> str:
    are_nvidias = any(gpu.family is Family.nvidia for gpu in gpus)
    return "the driver does not tell" if are_nvidias else "hsm asks NVIDIA's driver alone"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _are(count: int) -> str:
    return {0: "is none", 1: "is 1"}.get(count, f"are {count}")
