"""What proposes points: Optuna, or a user's class, as `hsm.core.study.trials` sees it.

    ask(index) --> Proposal    measured(id, step, value) --> whether to prune    tell(id, TrialEnd)

All but `measured` are called from one thread; `measured` may come from another one meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from hsm.core.errors import HsmError
from hsm.core.text_enum import TextEnum


class TrialState(TextEnum):
    """How a trial ended."""

    complete = "complete"
    pruned = "pruned"
    failed = "failed"


class ProposerFailed(HsmError):
    """What proposes points has raised an error, so no more points come."""


class Proposal(NamedTuple):
    """A point to run.

    Attributes:
        trial_id: what the proposer calls the trial.
        point: the parameters, without those of repeats.
    """

    trial_id: Any
    point: dict[str, Any]


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended.

    Attributes:
        state: complete only with `values`.
        values: one number for each objective, all finite; None if there are none.
        reason: why it failed or was pruned, in one line.
        constraints: one number for each constraint, which is kept if it is 0 or less.
    """

    state: TrialState
    values: tuple[float, ...] | None = None
    reason: str = ""
    constraints: tuple[float, ...] | None = None


@dataclass(frozen=True)
class EarlierTrial:
    """A trial of an earlier launcher of the sweep, as its journal has it.

    Attributes:
        index: its index in the sweep.
        point: its parameters, without those of repeats.
        end: how it ended; None if some of its jobs are to run (again).
        may_be_pruned: whether it may have been pruned before it had all of its jobs, none of which
            runs again.
    """

    index: int
    point: dict[str, Any]
    end: TrialEnd | None
    may_be_pruned: bool = False


@dataclass(frozen=True)
class Restored:
    """What a proposer knew of a sweep that goes on.

    Attributes:
        ids: the ids of the earlier trials, by index.
        asked: trials that had been asked for, but for which no job was submitted, by index.
        pruned: trials that were pruned before they had all of their jobs.
    """

    ids: Mapping[int, Any] = field(default_factory=dict)
    pruned: frozenset[int] = frozenset()
    asked: Mapping[int, Proposal] = field(default_factory=dict)


class KnownTrial(NamedTuple):
    """A point whose outcome is known from elsewhere.

    Attributes:
        point: the parameters.
        values: one number for each objective.
        name: where it comes from, such as ``<sweep id>_<job>``; unique.
    """

    point: Mapping[str, Any]
    values: tuple[float, ...]
    name: str


class Proposer(Protocol):
    """Proposes points, and is told how they went."""

    @property
    def max_trials(self) -> int | None:
        """How many different points there are to propose; None if that is not known."""

    def restore(self, earlier: Sequence[EarlierTrial]) -> Restored:
        """Take over the trials of a sweep that goes on; called once, before anything else.

        Those that have ended and of which it does not know that are told to it.
        """

    def add_known(self, known: Sequence[KnownTrial]) -> int:
        """Take over outcomes from elsewhere; returns how many fitted its space."""

    def check(self, fixed: Mapping[str, Any]) -> None:
        """Check values that `ask` is to be given; may be called from any thread.

        Raises:
            SettingsError: one of them is not in the space.
        """

    def ask(self, index: int, fixed: Mapping[str, Any] | None = None) -> Proposal | None:
        """The next point. None: none now; and none at all if no trial is under way.

        Args:
            index: the trial's index in this sweep.
            fixed: values that some or all of its parameters must have.

        Raises:
            SettingsError: a value of `fixed` is not in the space.
            ProposerFailed: it cannot propose one.
        """

    def tell(self, trial_id: Any, end: TrialEnd) -> None:
        """A trial has ended. Each is told once.

        Raises:
            ProposerFailed: it cannot go on after this.
        """

    def measured(self, trial_id: Any, step: int, value: float) -> bool:
        """A running trial has measured this; returns whether to prune it. Raises nothing."""

    def close(self) -> None:
        """No more calls will come."""
