"""Why a job gets no GPUs now, in words for people, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hsm.core.gpu.block import Block, Why
from hsm.core.gpu.gpu_state import GpuState
from hsm.core.gpu.need import GpuNeed
from hsm.core.job_numbers import show_numbers
from hsm.core.units import format_duration, format_size

#: Seconds until people are told again that somebody else uses GPUs.
_INTERVAL = 60.0
#: GPUs whose reasons are told.
_MOST_TOLD = 3


class Refusal(NamedTuple):
    """Why a job gets no GPUs now.

    Attributes:
        text: the same for people, to follow "it waits for".
        looks_again: whether it may get some although no job of this sweep has ended.
        is_final: whether it can never get them.
        others: the keys of GPUs that somebody else uses.
    """

    text: str
    looks_again: bool = False
    is_final: bool = False
    others: frozenset[str] = frozenset()


class Refusals:
    """Those of the jobs that asked in the current round, and for how long it has been so.

    Args:
        longest_wait: seconds for which jobs may wait while none has any; None for ever.
    """

    def __init__(self, longest_wait: float | None) -> None:
        self._longest_wait = longest_wait
        self._found: list[Refusal] = []
        self._since: float | None = None  # since when jobs have waited and none has had any
        self._known: frozenset[str] = frozenset()  # keys of others' GPUs of which people know
        self._next_line = float("-inf")  # monotonic

    def clear(self) -> None:
        """Another round begins."""
        self._found.clear()

    def add(self, refusal: Refusal) -> None:
        """A job has got none."""
        self._found.append(refusal)

    def end(self, now: float, *, has_any: bool) -> str:
        """None of the jobs that asked can start.

        Args:
            now: the time; monotonic.
            has_any: whether any job has GPUs.

        Returns a line for people, if it is news that somebody else uses GPUs; else an empty text.
        """
        if not self._found or has_any:
            self._since = None
        elif self._since is None:
            self._since = now
        first = next((refusal for refusal in self._found if refusal.others), None)
        if first is None or first.others <= self._known or now < self._next_line:
            return ""
        self._known, self._next_line = first.others, now + _INTERVAL
        return f"jobs wait for {first.text}"

    def started(self) -> None:
        """A job has got GPUs."""
        self._since = None

    def looks_again(self) -> bool:
        """Whether one of the jobs may get GPUs although none has been given back."""
        return any(refusal.looks_again for refusal in self._found)

    def gives_up(self, now: float) -> str:
        """Why jobs are to wait no longer, in one line; empty if they may."""
        if self._since is None or not self._found:
            return ""
        text = self._found[0].text
        if all(refusal.is_final for refusal in self._found):
            return f"jobs wait for {text}"
        if self._longest_wait is None or now < self._since + self._longest_wait:
            return ""
        waited = format_duration(self._longest_wait)
        return f"no job has had a GPU for {waited} (gpu_wait), waiting for {text}"


def refuse(need: GpuNeed, blocks: Mapping[GpuState, Block | None]) -> Refusal:
    """Why GPUs are refused of which so many are not free; `blocks` says what is in the way."""
    found = [block for block in blocks.values() if block is not None]
    free = len(blocks) - len(found)
    outside = sum(block.why.is_outside for block in found)
    others = (
        state.gpu.key
        for state, block in blocks.items()
        if block is not None and block.why in (Why.foreign, Why.locked, Why.promised)
    )
    return Refusal(
        f"{_wanted(need, free)}: {_reasons(blocks)}",
        looks_again=free + outside >= need.count,
        others=frozenset(others),
    )


def too_few(need: GpuNeed, usable: int, states: Sequence[GpuState]) -> Refusal:
    """There are not enough GPUs that would do, whoever has them."""
    out = [f"{state} is left out: {state.out}" for state in states if state.out]
    few = "none is" if usable == 0 else f"only {usable} {'is' if usable == 1 else 'are'}"
    reasons = "; ".join([f"{few} there for it", *out[:_MOST_TOLD]])
    return Refusal(f"{_wanted(need, 0)}: {reasons}", is_final=True)


def _wanted(need: GpuNeed, free: int) -> str:
    what = "a GPU" if need.count == 1 else f"{need.count} GPUs"
    if need.memory is not None:
        what += f" with {format_size(need.memory)}"
    if need.alone:
        what += " without other jobs"
    if need.count > 1 and free:
        what += f" ({free} {'is' if free == 1 else 'are'} free)"
    return what


def _reasons(blocks: Mapping[GpuState, Block | None]) -> str:
    """What is in the way; GPUs with the same in the way are named together."""
    together: dict[Block, list[GpuState]] = {}
    for state, block in blocks.items():
        if block is not None:
            together.setdefault(block, []).append(state)
    told = [block.before + _names(states) + block.after for block, states in together.items()]
    if len(told) > _MOST_TOLD:
        told[_MOST_TOLD:] = [f"and {len(told) - _MOST_TOLD} more"]
    return "; ".join(told)


def _names(states: Sequence[GpuState]) -> str:
    """``GPU 0``, ``GPUs 0-2``."""
    if len(states) == 1:
        return str(states[0])
    ids = [state.gpu.id for state in states]
    nums = [each for each in ids if isinstance(each, int)]
    return f"GPUs {show_numbers(nums) if len(nums) == len(ids) else ', '.join(map(str, ids))}"
