"""What can go wrong with the GPU of a program, as `hsm.core.gpu.driver_errors` finds it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class GpuErrorKind(Enum):
    """What went wrong with a GPU."""

    OUT_OF_MEMORY = "out of GPU memory"
    DRIVER = "driver error"


class GpuError(NamedTuple):
    """Why a program failed, if its GPU is why.

    Attributes:
        kind: what went wrong.
        text: the program's own words, in one line.
    """

    kind: GpuErrorKind
    text: str

    @property
    def is_out_of_memory(self) -> bool:
        """Whether the GPU had no memory left."""
        return self.kind is GpuErrorKind.OUT_OF_MEMORY
