"""What a sweep's record says of GPUs: which there were, what its jobs were to get of them.

RecordedGpu --record--> {"gpus": [{"id": 0, "name": …, "memory": …}]} --recorded_gpus--> them
{"settings": {"gpus": 0.5, "gpu_memory": null}} --asked_of_gpus--> AskedOfGpus

Anyone may have written a journal: what makes no sense in it is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hsm.core.printable import printable, shorten
from hsm.core.record.schema import is_count, is_size
from hsm.core.units import format_size

#: The name in a launch record.
FIELD = "gpus"
#: The beginning of a GPU's own name, which tells it from the others on a machine.
_SHORT = r"(?:GPU|MIG)-[0-9a-fA-F]{8}(?=-)"
#: Characters of a model's name.
_MAX_NAME = 60


class RecordedGpu(NamedTuple):
    """A GPU that the jobs of a sweep could have.

    Attributes:
        id: its number, or its own name, as the attempts of jobs have it.
        name: its model; empty if that is unknown.
        memory: bytes that it has in all; None if that is unknown.
    """

    id: int | str
    name: str = ""
    memory: int | None = None

    def record(self) -> dict[str, Any]:
        """It as a record has it, without what is unknown."""
        facts = {"id": self.id, "name": self.name or None, "memory": self.memory}
        return {name: fact for name, fact in facts.items() if fact is not None}

    @property
    def model(self) -> str:
        """``NVIDIA RTX A6000, 48 GiB``, as far as it is known."""
        size = "" if self.memory is None else format_size(self.memory)
        return ", ".join(filter(None, (shorten(printable(self.name), _MAX_NAME), size)))


class AskedOfGpus(NamedTuple):
    """What each job of a sweep was to get.

    Attributes:
        gpus: the setting `gpus`.
        memory: the setting `gpu_memory`, in bytes.
    """

    gpus: float | None = None
    memory: int | None = None


def recorded_gpus(launch: Mapping[str, Any]) -> list[RecordedGpu]:
    """The GPUs that a launch record names; none if hsm gave its jobs none."""
    entries = launch.get(FIELD)
    found = (_gpu(entry) for entry in entries) if isinstance(entries, list) else ()
    return [gpu for gpu in found if gpu is not None]


def asked_of_gpus(launch: Mapping[str, Any]) -> AskedOfGpus:
    """What a launch record has of the settings about GPUs."""
    settings = launch.get("settings")
    if not isinstance(settings, Mapping):
        return AskedOfGpus()
    gpus, memory = settings.get("gpus"), settings.get("gpu_memory")
    return AskedOfGpus(
        gpus if isinstance(gpus, (int, float)) and 0 <= gpus < math.inf else None,
        memory if is_size(memory) and memory else None,
    )


def _gpu(entry: Any) -> RecordedGpu | None:
    if not isinstance(entry, dict):
        return None
    own, name, memory = entry.get("id"), entry.get("name"), entry.get("memory")
    if own is None or not (is_count(own) or isinstance(own, str)):
        return None
    return RecordedGpu(
        own,
        name if isinstance(name, str) else "",
        memory if is_size(memory) and memory else None,
    )


def gpus_text(ids: Iterable[int | str], *, short: bool = False) -> str:
    """``2,3``: the GPUs of a job.

    Args:
        ids: their numbers or own names.
        short: write only the beginnings of the latter.
    """
    texts = (printable(str(each)) for each in ids)
    return ",".join(_shortened(text) if short else text for text in texts)


def _shortened(own_name: str) -> str:
    match = re.match(_SHORT, own_name)
    return own_name if match is None else match[0]


def count_text(gpus: Iterable[RecordedGpu]) -> str:
    """``4 GPUs (NVIDIA RTX A6000, 48 GiB)``; of several models how many there are of each."""
    counts: dict[str, int] = {}
    for gpu in gpus:
        counts[gpu.model] = counts.get(gpu.model, 0) + 1
    all_of_them = sum(counts.values())
    text = f"{all_of_them} GPU{'' if all_of_them == 1 else 's'}"
    if len(counts) > 1:
        parts = (f"{count} {model or 'unknown'}" for model, count in counts.items())
        return f"{text} ({'; '.join(parts)})"
    return f"{text} ({model})" if (model := next(iter(counts), "")) else text
