"""Why a job cannot start on a GPU now."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple


class Why(Enum):
    """What is in the way."""

    ours = auto()  #: Jobs of this sweep have it, or too much of it.
    delay = auto()  #: Another job has just started there.
    settles = auto()  #: A job's memory has not come back.
    stuck = auto()  #: ... though it should have by now.
    unseen = auto()  #: The next look will tell.
    foreign = auto()  #: Somebody else uses it.
    tight = auto()  #: Somebody else uses it, too, and so jobs of this sweep have too much of it.
    kept = auto()  #: It is kept for another job.
    locked = auto()  #: Another sweep has it.
    promised = auto()  #: Another sweep gets it next.

    @property
    def is_outside(self) -> bool:
        """Whether it may go without the end of a job of this sweep."""
        return self not in (Why.ours, Why.kept)


class Block(NamedTuple):
    """Why a job cannot start on a GPU now.

    Attributes:
        why: what is in the way.
        after: the same for people, to follow the name of the GPU.
        before: what precedes the name.
        is_old: whether this was so at an old look, and another one is needed to know.
    """

    why: Why
    after: str
    before: str = ""
    is_old: bool = False

    def described(self) -> str:
        """The same without the name of the GPU."""
        return f"{self.before}it{self.after}" if self.before else self.after.lstrip(":, ")
