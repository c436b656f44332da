"""What is found out about a job's use of its GPUs while it runs; unknown rather than guessed."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from hsm.core.gpu.device import Gpu
from hsm.core.gpu.gpu_view import GpuView
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.own_processes import process_words

#: Seconds for which a driver averages the load; what it says earlier is of the time before the job.
_LOAD_PERIOD = 1.0
#: How many neighbours of a job are named.
_MOST_NEIGHBOURS = 20


class Tally:
    """Sums up what looks find of one grant, in that grant.

    Args:
        grant: what a job has, which has just begun.
        began: when it did, of `time.monotonic()`.
        used_before: bytes that were in use just before on those of its GPUs on which no job was, by
            `Gpu.key`.
    """

    def __init__(self, grant: GpuGrant, began: float, used_before: Mapping[str, int]) -> None:
        self.grant = grant
        self._began = began
        self._used_before = used_before
        self._was_alone = True
        self._looks_at_load = 0

    def meets(self, name: str) -> None:
        """Note that somebody else is on one of its GPUs, too."""
        self._was_alone = False
        self.grant.mean_load = None
        if len(self.grant.neighbours) < _MOST_NEIGHBOURS:
            self.grant.neighbours.add(name)

    def note(self, view: GpuView) -> None:
        """Take in a look, if the job had begun before it."""
        if view.time < self._began:
            return
        for gpu in self.grant.gpus:
            for process in view.foreign(gpu):
                self.meets(process_words(process.pid))
        self._note_memory(view)
        self._note_load(view)

    def _note_memory(self, view: GpuView) -> None:
        found = [memory for gpu in self.grant.gpus if (memory := self._memory(view, gpu))]
        if found:
            self.grant.peak_memory = max(self.grant.peak_memory or 0, *found)

    def _memory(self, view: GpuView, gpu: Gpu) -> int | None:
        """Bytes that the job has on `gpu`; None or 0 if no process of its was seen there."""
        memory = view.memory_of(self.grant, gpu)
        if memory is not None or not self._was_alone:
            return memory
        reading, before = view.reading(gpu), self._used_before.get(gpu.key)
        if reading is None or reading.used is None or before is None:
            return None
        return max(0, reading.used - before)

    def _note_load(self, view: GpuView) -> None:
        if not self._was_alone or view.time < self._began + _LOAD_PERIOD:
            return
        readings = [view.reading(gpu) for gpu in self.grant.gpus]
        loads = [each.load for each in readings if each is not None and each.load is not None]
        if loads:
            self._looks_at_load += 1
            mean = self.grant.mean_load or 0.0
            self.grant.mean_load = mean + (fmean(loads) - mean) / self._looks_at_load
