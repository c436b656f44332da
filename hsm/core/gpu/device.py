"""A GPU as jobs get it."""

from __future__ import annotations

from dataclasses import dataclass

from hsm.core.text_enum import TextEnum


class Family(TextEnum):
    """Who makes a GPU, and so which variable tells a job about it."""

    nvidia = "nvidia"
    amd = "amd"
    intel = "intel"


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a part of one (MIG), that jobs may be given.

    Attributes:
        token: what stands for it in a job's variable: an inherited token, or its index.
        family: who makes it.
        index: its number, as nvidia-smi shows it; None if that is unknown.
        uuid: its own name, also of a MIG part; empty if that is unknown.
        name: its model; empty if that is unknown.
        memory: bytes that it has in all; None if that is unknown.
        is_mig: whether it is a part of a GPU.
    """

    token: str
    family: Family = Family.nvidia
    index: int | None = None
    uuid: str = ""
    name: str = ""
    memory: int | None = None
    is_mig: bool = False

    @property
    def key(self) -> str:
        """What all sweeps on this machine call it."""
        if self.uuid:
            return self.uuid
        return f"{self.family}-{self.token if self.index is None else self.index}"

    @property
    def id(self) -> int | str:
        """What people and records call it: its index, or else its token."""
        if self.index is not None and not self.is_mig:
            return self.index
        return int(self.token) if self.token.isdecimal() else self.token

    def __str__(self) -> str:
        return f"GPU {self.id}"
