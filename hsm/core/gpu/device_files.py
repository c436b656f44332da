"""What the files of /proc, /sys and /dev say of GPUs; no driver is asked.

Files that are not there, or cannot be read, say nothing.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from hsm.core.gpu.probe import GpuReading

_NVIDIA = "proc/driver/nvidia/gpus"
#: Such as 0000:3b:00.0.
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]")
_AMD = "sys/class/kfd/kfd/topology/nodes"
_RENDER_NODES = "dev/dri"
_INTEL = "0x8086"
#: The types of a node's memory that are on the GPU: kernel's kfd_topology, HSA_MEM_HEAP_TYPE_FB_*.
_OWN_MEMORY = ("1", "2")
#: The largest file of these that is read, in bytes.
_MOST = 1 << 16
_MOST_DIGITS = 20  # of 64 bits


def nvidia_count(root: Path) -> int:
    """How many GPUs of NVIDIA there are: without reading what they are, which is quicker."""
    return len(_pci_addresses(root))


def nvidia_gpus(root: Path) -> tuple[GpuReading, ...]:
    """The GPUs of NVIDIA, in the order of the PCI bus, in which nvidia-smi numbers them."""
    found: list[GpuReading] = []
    for name in sorted(_pci_addresses(root), key=_place):
        facts = _facts(root / _NVIDIA / name / "information", ":")
        if facts.get("GPU Excluded", "").lower() == "yes":
            continue
        uuid = facts.get("GPU UUID", "")
        if "?" in uuid:  # The driver has not set it up yet.
            uuid = ""
        found.append(GpuReading(len(found), uuid, facts.get("Model", "")))
    return tuple(found)


def _pci_addresses(root: Path) -> list[str]:
    return [name for name in _names(root / _NVIDIA) if _PCI_ADDRESS.fullmatch(name)]


def _place(address: str) -> list[int]:
    return [int(part, 16) for part in address.replace(".", ":").split(":")]


def amd_gpus(root: Path) -> tuple[GpuReading, ...]:
    """The GPUs of AMD that this process may use, in the order in which ROCr numbers them."""
    found: list[GpuReading] = []
    nodes = root / _AMD
    render_nodes = _names(root / _RENDER_NODES)
    for name in sorted(filter(_is_number, _names(nodes)), key=int):
        facts = _facts(nodes / name / "properties", " ")  # Unreadable where a cgroup forbids it.
        if not _whole(facts.get("simd_count")):
            continue
        minor = _whole(facts.get("drm_render_minor"))
        if minor and render_nodes and f"renderD{minor}" not in render_nodes:
            continue  # A container has other GPUs than this one: ROCr passes it over, too.
        unique = _whole(facts.get("unique_id"))
        uuid = f"GPU-{unique:016x}" if unique else ""  # of consumer cards it is 0
        model = _text(nodes / name / "name").strip()
        found.append(GpuReading(len(found), uuid, model, _own_memory(nodes / name)))
    return tuple(found)


def _own_memory(node: Path) -> int | None:
    banks = node / "mem_banks"
    each = [_facts(banks / name / "properties", " ") for name in _names(banks)]
    sizes = [_whole(bank.get("size_in_bytes")) for bank in each if _is_own(bank)]
    return sum(sizes) or None


def _is_own(bank: dict[str, str]) -> bool:
    return bank.get("heap_type") in _OWN_MEMORY


def intel_gpus(root: Path) -> tuple[GpuReading, ...]:
    """The GPUs of Intel that have a render node, in the order of these."""
    names = filter(_is_render_node, _names(root / _RENDER_NODES))
    vendors = (_text(root / "sys/class/drm" / name / "device/vendor") for name in names)
    count = sum(vendor.strip().lower() == _INTEL for vendor in vendors)
    return tuple(GpuReading(index, "") for index in range(count))


def _is_render_node(name: str) -> bool:
    return name.startswith("renderD") and _is_number(name.removeprefix("renderD"))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _text(file: Path) -> str:
    try:
        with open(file, "rb") as opened:
            return opened.read(_MOST).decode("utf-8", "replace")
    except OSError:
        return ""


def _facts(file: Path, separator: str) -> dict[str, str]:
    lines = (line.partition(separator) for line in _text(file).splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def _whole(text: str | None) -> int:
    return int(text) if text and _is_number(text) else 0
