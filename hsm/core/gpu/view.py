"""What those who give GPUs to jobs want to know of the GPUs: see `hsm.core.gpu.watch`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from hsm.core.gpu.device import Gpu
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.probe import GpuProcess, GpuReading


class Holding(Protocol):
    """A process that computes on a GPU, and the grant of the job to which it belongs, if to any."""

    @property
    def process(self) -> GpuProcess: ...
    @property
    def grant(self) -> GpuGrant | None: ...


class Seen(Protocol):
    """The GPUs at one look.

    Attributes:
        time: when the look began; monotonic.
        pids_are_ours: whether the driver's pids are those that this process sees. If not, nobody
            knows whose a process is.
        holders: the processes that compute on each, by `Gpu.key`.
        drawn: bytes of others' processes that only draw, by `Gpu.key`.
    """

    @property
    def time(self) -> float: ...
    @property
    def pids_are_ours(self) -> bool: ...
    @property
    def holders(self) -> Mapping[str, Sequence[Holding]]: ...
    @property
    def drawn(self) -> Mapping[str, int]: ...

    def reading(self, gpu: Gpu) -> GpuReading | None:
        """What the driver said of a GPU; None if it did not name it."""

    def foreign(self, gpu: Gpu) -> Sequence[GpuProcess]:
        """The processes on a GPU that are neither this launcher's nor below it."""


class Watching(Protocol):
    """Looks at the GPUs again and again, in a thread of its own. Thread-safe; does not block.

    Attributes:
        changed: called after each look, in that thread.
    """

    changed: Callable[[], object]

    @property
    def latest(self) -> Seen | None:
        """The latest look; None before the first, and once there are no more."""

    @property
    def gone(self) -> str:
        """Why there will be no more looks; empty while there may be."""

    def begin(self) -> None:
        """Start looking, unless that has begun already."""

    def ask(self) -> None:
        """Look soon, though no job has a GPU."""

    def job_began(self, grant: GpuGrant) -> None:
        """A job gets these GPUs."""

    def job_ended(self, grant: GpuGrant) -> None:
        """It has ended: what is known of its use of them is in the grant."""

    def close(self) -> None:
        """End the thread. Idempotent."""
