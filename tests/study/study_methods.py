"""Classes and functions that studies of the tests name by their dotted paths."""

from __future__ import annotations

from typing import Any

from optuna.samplers import BaseSampler, RandomSampler


class Counting:
    """Proposes 0, 1, 2, … and notes what it is told."""

    def __init__(self) -> None:
        self.asked = 0
        self.told: list[tuple[Any, Any]] = []

    def ask(self) -> Any:
        if self.asked == 5:
            return None
        self.asked += 1
        return {"id": self.asked - 1}, [f"x={self.asked - 1}", "name=a b"]

    def tell(self, trial_id: Any, outcome: Any) -> None:
        self.told.append((trial_id["id"], outcome))


class Dicts(Counting):
    def ask(self) -> Any:
        asked = super().ask()
        return asked and (asked[0], {"x": asked[0]["id"], "more": [1, {"a": None}]})


class Sequential(Counting):
    """Waits for each outcome, so it has no point while a job is under way."""

    def ask(self) -> Any:
        return super().ask() if self.asked == len(self.told) else None


class WithoutTell:
    def ask(self) -> None:
        return None


class NeedsArguments(Counting):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Raises(Counting):
    def ask(self) -> Any:
        raise ValueError("no idea")


class RaisesLater(Counting):
    def tell(self, trial_id: Any, outcome: Any) -> None:
        raise ValueError("no idea")


class Answers(Counting):
    answer: Any = None

    def ask(self) -> Any:
        return type(self).answer


def make_random(seed: int | None = None) -> BaseSampler:
    return RandomSampler(seed=seed)


def make_nothing() -> None:
    return None
