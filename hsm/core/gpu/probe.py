"""The one seam to drivers: what GPUs there are, what runs on them, how much memory is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from hsm.core.errors import HsmError


class ProbeGone(HsmError):
    """The driver gives no answer (any more); the text says why, in one line."""


class GpuProcess(NamedTuple):
    """A process on a GPU.

    Attributes:
        pid: as the driver knows it, which in a container may be another one than here.
        memory: bytes that it has on the GPU; None if the driver does not tell.
    """

    pid: int
    memory: int | None = None


@dataclass(frozen=True)
class GpuReading:
    """What the driver says of one GPU, or of a part (MIG) of one, at a moment.

    Attributes:
        index: its number, in the order of the PCI bus; a part has that of its GPU.
        uuid: ``GPU-…``, or ``MIG-…`` for a part; empty for a GPU that was lost from the beginning.
        name: its model.
        memory: bytes in all.
        used: bytes in use, without what the driver keeps for itself.
        load: percent of the time in which something computed; None if unknown.
        processes: those that compute on it.
        drawing: those that only draw, such as a desktop's.
        is_mig: whether it is a part.
        fault: why it cannot be used (the driver has lost it), in a few words; empty if it can.
        processes_known: whether the driver tells of processes on it at all.
    """

    index: int
    uuid: str
    name: str = ""
    memory: int | None = None
    used: int | None = None
    load: int | None = None
    processes: tuple[GpuProcess, ...] = ()
    drawing: tuple[GpuProcess, ...] = ()
    is_mig: bool = False
    fault: str = ""
    processes_known: bool = True


class GpuProbe(Protocol):
    """Asks a driver. Thread-safe."""

    def look(self) -> tuple[GpuReading, ...]:
        """What the driver says now. A GPU that is split into parts is left out; its parts are not.

        Takes ten seconds at most for each GPU: those that nobody uses take the driver a while to
        wake.

        Raises:
            ProbeGone: there is no answer; nor will there be one to another call.
        """

    def close(self) -> None:
        """End what asks the driver. Idempotent; raises nothing."""
