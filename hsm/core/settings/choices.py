"""The kinds of values that are one of a few words."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from enum import Enum
from typing import Any

from hsm.core.errors import did_you_mean
from hsm.core.job_numbers import parse_numbers, show_numbers
from hsm.core.settings.kinds import Kind, is_none


class Choice(Kind):
    """One of the members of an enum whose values are text.

    Args:
        members: the enum.
        optional: None, in text "none" or "null", is allowed.
    """

    def __init__(self, members: type[Enum], *, optional: bool = False) -> None:
        self.members, self.optional = members, optional
        self.names = [member.value for member in members]
        self.annotation = Any if optional or "true" in self.names else members
        self.metavar = "|".join(self.names)
        self.allowed = f"one of {', '.join([*self.names, *(['none'] if optional else [])])}"

    def check(self, value: Any) -> Enum | None:
        if value is None and self.optional:
            return None
        if isinstance(value, bool) and "true" in self.names:
            value = "true" if value else "false"
        if not isinstance(value, str):
            raise TypeError
        return None if self.optional and is_none(value) else self.members(value)

    def parse(self, text: str) -> Enum | None:
        return self.check(text.strip())

    def hint(self, value: object) -> str:
        return did_you_mean(value, self.names) if isinstance(value, str) else ""


class ChoiceOrJobs(Choice):
    """One of the members of an enum, or numbers of jobs: a list, or text such as 3,7 or 3-5.

    Numbers are held as a sorted tuple.
    """

    annotation = Any

    def __init__(self, members: type[Enum]) -> None:
        super().__init__(members)
        self.annotation = Any
        self.metavar = f"{self.metavar}|JOBS"
        self.allowed = f"{self.allowed}, or numbers of jobs, such as 3,7 or 3-5"

    def check(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.parse(value)
        numbers = value if isinstance(value, Sequence) else [value]
        if isinstance(value, bytes) or any(isinstance(number, bool) for number in numbers):
            raise TypeError
        chosen = sorted({operator.index(number) for number in numbers})
        if not chosen or chosen[0] < 0:
            raise ValueError
        return tuple(chosen)

    def parse(self, text: str) -> Any:
        text = text.strip()
        return parse_numbers(text) if text[:1].isdigit() else super().check(text)

    def show(self, value: Any) -> str:
        return str(value) if isinstance(value, Enum) else show_numbers(value)
