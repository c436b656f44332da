"""Which GPUs there are for the jobs of a sweep: those that are inherited, else all.

The first that answers: CUDA_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES,
ZE_AFFINITY_MASK; NVML; /proc/driver/nvidia/gpus; /sys/class/kfd; /dev/dri.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hsm.core.errors import SettingsError
from hsm.core.gpu.device import Family, Gpu
from hsm.core.gpu.device_files import amd_gpus, intel_gpus, nvidia_count, nvidia_gpus
from hsm.core.gpu.presence import CUDA, HIP, ROCR, VISIBLE, ZE
from hsm.core.gpu.probe import GpuReading
from hsm.core.gpu.visible_tokens import KnownGpus, Token, parse_number, read_tokens

#: The variable with the order in which CUDA numbers GPUs, and the value for that of nvidia-smi. By
#: default the fastest one is the first.
ORDER, PCI_ORDER = "CUDA_DEVICE_ORDER", "PCI_BUS_ID"

_ROOT = Path("/")
#: Values with which Intel's runtime takes its variable as not set.
_NO_MASK = ("", "default")
_WHOLE_NAME = re.compile(r"(GPU|MIG)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class FoundGpus:
    """The GPUs that jobs may be given, and how a job is told of its own.

    Attributes:
        gpus: the GPUs, in the order of the variable that was inherited, or of their numbers.
        family: who makes them.
        variable: the one that tells a job which it may use, by the tokens of these.
        origin: what knew of them: that variable, if it was inherited, else NVML or a directory;
            empty if nothing knows of any.
        silence: why no driver tells more of them, or of some; empty if one does.
    """

    gpus: tuple[Gpu, ...]
    family: Family = Family.nvidia
    variable: str = CUDA
    origin: str = ""
    silence: str = ""

    @property
    def is_inherited(self) -> bool:
        """Whether the tokens are those of a variable that was inherited."""
        return self.origin == self.variable


#: What jobs are given with ``gpus=0``.
NO_GPUS = FoundGpus(())


def find_gpus(
    ids: Iterable[int | str] | None,
    environ: Mapping[str, str],
    readings: Sequence[GpuReading] | None,
    *,
    root: Path = _ROOT,
) -> FoundGpus:
    """Find the GPUs that jobs may be given. There may be none.

    Args:
        ids: the setting `gpu_ids`: numbers of nvidia-smi, own names or beginnings of these; None
            for all.
        environ: what jobs inherit, the setting `env` included.
        readings: what NVML says; None if it says nothing.
        root: where /proc, /sys and /dev are.

    Raises:
        SettingsError: `ids` has one that is not there, or was not inherited.
    """
    found = _inherited(environ, readings, root) or _existing(environ, readings, root)
    return found if ids is None else replace(found, gpus=choose_gpus(ids, found))


def count_visible(environ: Mapping[str, str], *, root: Path = _ROOT) -> int:
    """How many GPUs a process sees, as far as that shows without a driver; quick, never raises."""
    try:
        answer = _answering_variable(environ, None, root)
        if answer is not None:
            variable, family = answer
            return len(_tokens(environ, variable, family, KnownGpus()))
        return nvidia_count(root) or len(amd_gpus(root)) or len(intel_gpus(root))
    except (OSError, ValueError, TypeError):
        return 0


# --- what is inherited ---


def _inherited(
    environ: Mapping[str, str], readings: Sequence[GpuReading] | None, root: Path
) -> FoundGpus | None:
    answer = _answering_variable(environ, readings, root)
    if answer is None:
        return None
    variable, family = answer
    if family is Family.nvidia:
        known = _known_nvidia(environ, readings, root)
        are_own = environ.get(ORDER) == PCI_ORDER
    elif family is Family.amd:
        known = _known_amd(environ, variable, root)
        are_own = variable == ROCR or ROCR not in environ
    else:
        # A number may be that of a GPU or of a tile, as ZE_FLAT_DEVICE_HIERARCHY says or the
        # driver's default: what else is known of it stays open.
        known, are_own = KnownGpus(), False
    tokens = _tokens(environ, variable, family, known)
    gpus = tuple(_gpu(token, family, known, are_own=are_own) for token in tokens)
    return FoundGpus(gpus, family, variable, variable)


def _answering_variable(
    environ: Mapping[str, str], readings: Sequence[GpuReading] | None, root: Path
) -> tuple[str, Family] | None:
    """The inherited variable that says which GPUs there are, and who makes these."""
    given = [name for name in VISIBLE if _is_given(name, environ)]
    if not given:
        return None
    # Slurm may set the variables of all makers, whoever has made the GPUs.
    if given[0] == CUDA and not _has_nvidia(readings, root):
        if amd_gpus(root):
            # HIP reads CUDA's variable where its own is not set: the inner layer to ROCr's.
            return HIP if HIP in given else CUDA, Family.amd
        if ZE in given and intel_gpus(root):
            return ZE, Family.intel
    family = {CUDA: Family.nvidia, ZE: Family.intel}.get(given[0], Family.amd)
    return given[0], family


def _is_given(name: str, environ: Mapping[str, str]) -> bool:
    return name in environ and (name != ZE or environ[name] not in _NO_MASK)


def _has_nvidia(readings: Sequence[GpuReading] | None, root: Path) -> bool:
    return bool(readings) or nvidia_count(root) > 0 or os.path.exists(root / "dev/nvidiactl")


def _tokens(
    environ: Mapping[str, str], variable: str, family: Family, known: KnownGpus
) -> tuple[Token, ...]:
    is_hips = variable == CUDA and family is Family.amd
    return read_tokens(HIP if is_hips else variable, environ[variable], known)


def _known_nvidia(
    environ: Mapping[str, str], readings: Sequence[GpuReading] | None, root: Path
) -> KnownGpus:
    gpus = nvidia_gpus(root) if readings is None else readings
    # CUDA's own order is by speed: only where that cannot differ is its number that of nvidia-smi.
    # How it numbers GPUs some of which are split is not documented.
    in_order = environ.get(ORDER) == PCI_ORDER or _are_alike(gpus)
    are_sure = in_order and not any(gpu.is_mig for gpu in gpus)
    return KnownGpus(
        {gpu.index: gpu if are_sure else None for gpu in gpus},
        [gpu for gpu in gpus if gpu.uuid],
        are_all=readings is not None,
    )


def _are_alike(gpus: Sequence[GpuReading]) -> bool:
    """Whether all are of one model, so that none is faster than another."""
    return len(gpus) == 1 or (len({gpu.name for gpu in gpus}) == 1 and gpus[0].name != "")


def _known_amd(environ: Mapping[str, str], variable: str, root: Path) -> KnownGpus:
    gpus = amd_gpus(root)
    named = [gpu for gpu in gpus if gpu.uuid]
    of_machine = KnownGpus({gpu.index: gpu for gpu in gpus}, named)
    if variable == ROCR or ROCR not in environ:
        return of_machine
    # HIP numbers anew what ROCr has left.
    left = read_tokens(ROCR, environ[ROCR], of_machine)
    left_named = [token.gpu for token in left if token.gpu is not None and token.gpu.uuid]
    numbers = {number: token.gpu for number, token in enumerate(left)}
    return KnownGpus(numbers, left_named or named, are_all=True)


def _gpu(token: Token, family: Family, known: KnownGpus, *, are_own: bool) -> Gpu:
    """The GPU that a token stands for.

    Args:
        token: the token.
        family: who makes it.
        known: what is known of GPUs.
        are_own: whether the token's number, if it has one, is the machine's, whatever is known.
    """
    gpu = token.gpu
    if gpu is not None:
        return Gpu(token.text, family, gpu.index, gpu.uuid, gpu.name, gpu.memory, gpu.is_mig)
    is_name = _WHOLE_NAME.fullmatch(token.text) is not None
    return Gpu(
        token.text,
        family,
        index=token.number if are_own and token.number not in known.numbers else None,
        uuid=token.text if is_name else "",
        is_mig=token.text.startswith("MIG-"),
    )


# --- what exists ---


def _existing(
    environ: Mapping[str, str], readings: Sequence[GpuReading] | None, root: Path
) -> FoundGpus:
    """All GPUs of this machine, of the first maker that has any."""
    if gpus := readings:
        return _of_nvidia(gpus, environ, "NVML")
    if readings is None and (gpus := nvidia_gpus(root)):
        return _of_nvidia(gpus, environ, "/proc/driver/nvidia/gpus")
    if gpus := amd_gpus(root):
        return _numbered(gpus, Family.amd, ROCR, "/sys/class/kfd")
    if gpus := intel_gpus(root):
        return _numbered(gpus, Family.intel, ZE, "/dev/dri")
    return NO_GPUS


def _of_nvidia(
    readings: Sequence[GpuReading], environ: Mapping[str, str], origin: str
) -> FoundGpus:
    # Jobs get numbers, as many libraries cannot read names; but names where a number could be that
    # of another GPU: where parts are numbered too, or the user wants another order.
    order = environ.get(ORDER)
    is_sure = order in (None, "", PCI_ORDER) or _are_alike(readings)
    are_numbered = is_sure and not any(reading.is_mig for reading in readings)
    found = _numbered(readings, Family.nvidia, CUDA, origin)
    if are_numbered:
        return found
    return replace(
        found, gpus=tuple(replace(gpu, token=gpu.uuid or gpu.token) for gpu in found.gpus)
    )


def _numbered(gpus: Iterable[GpuReading], family: Family, variable: str, origin: str) -> FoundGpus:
    each = (
        Gpu(str(gpu.index), family, gpu.index, gpu.uuid, gpu.name, gpu.memory, gpu.is_mig)
        for gpu in gpus
    )
    return FoundGpus(tuple(each), family, variable, origin)


# --- what is chosen ---


def choose_gpus(ids: Iterable[int | str], found: FoundGpus) -> tuple[Gpu, ...]:
    """Those of `found` that `ids` name, in their order; see `find_gpus`. Raises SettingsError."""
    chosen: set[Gpu] = set()
    for name in ids:
        named = [gpu for gpu in found.gpus if _is_named(gpu, name)]
        if not named:
            raise _refusal(name, f"there is no GPU {name}", found)
        if isinstance(name, str) and len(named) > 1:
            named = [gpu for gpu in named if name.lower() in (gpu.uuid.lower(), gpu.token.lower())]
            if len(named) != 1:
                raise _refusal(name, f"{name} is the beginning of several names", found)
        chosen.update(named)  # The number of a GPU that is split names all its parts.
    return tuple(gpu for gpu in found.gpus if gpu in chosen)


def _is_named(gpu: Gpu, name: int | str) -> bool:
    if isinstance(name, int):
        return name == (parse_number(gpu.token) if gpu.index is None else gpu.index)
    name = name.lower()
    if gpu.uuid.lower().startswith(name) or gpu.token.lower().startswith(name):
        return True
    # Of an inherited beginning of a name no more may be known.
    return not gpu.uuid and name.startswith(gpu.token.lower())


def _refusal(name: int | str, what: str, found: FoundGpus) -> SettingsError:
    there = ", ".join(_described(gpu) for gpu in found.gpus) or "none"
    where = f"{found.variable} leaves" if found.is_inherited else "there are"
    hint = f"{where} {there}"
    return SettingsError(
        "gpu_ids", name, "settings", "GPUs that are there", hint, message=f"gpu_ids: {what}; {hint}"
    )


def _described(gpu: Gpu) -> str:
    facts = [fact for fact in (gpu.name, gpu.uuid) if fact and fact != gpu.id]
    return f"{gpu.id} ({', '.join(facts)})" if facts else str(gpu.id)
