"""Numbers of jobs as people write them: ``3``, ``3,7``, ``3-5,8``."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LISTED = r"[0-9]{1,15}(-[0-9]{1,15})?(,[0-9]{1,15}(-[0-9]{1,15})?)*"
#: Numbers that one text may mean.
_MAX_COUNT = 1_000_000
#: Numbers listed in a message.
_MAX_SHOWN = 10


def are_numbers(text: str) -> bool:
    """Whether `text` looks like numbers of jobs."""
    return re.fullmatch(_LISTED, text) is not None


def parse_numbers(text: str) -> tuple[int, ...]:
    """The numbers that `text` means, each once, in ascending order.

    Raises:
        ValueError: it is anything else, a range without a number in it, or too many numbers.
    """
    text = text.replace(" ", "")
    if not are_numbers(text):
        raise ValueError(f"not numbers of jobs: {text!r}")
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        span = range(int(first), int(last or first) + 1)
        if not span or len(numbers) + len(span) > _MAX_COUNT:
            raise ValueError(f"no numbers, or too many: {part!r}")
        numbers.update(span)
    return tuple(sorted(numbers))


def show_numbers(numbers: Iterable[int]) -> str:
    """Write numbers as `parse_numbers` reads them, as short as possible: ``3-5,8``."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ",".join("-".join(map(str, span)) for span in spans)


def describe_numbers(numbers: Iterable[int]) -> str:
    """Say what a job's number may be, where these are there: ``a number from 0 to 5``."""
    numbers = sorted(numbers)
    if not numbers:
        return "a job's number"
    if len(numbers) == 1:
        return str(numbers[0])
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"a number from {numbers[0]} to {numbers[-1]}"
    more = ", …" if len(numbers) > _MAX_SHOWN else ""
    return f"one of {', '.join(map(str, numbers[:_MAX_SHOWN]))}{more}"
