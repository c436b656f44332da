"""The kinds of settings that are about GPUs.

gpus: 2        whole GPUs                gpu_ids: [0, 3]          as nvidia-smi numbers them
gpus: 0.5      a share of one            gpu_ids: GPU-8f1c,MIG-…  or their own names
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any

from hsm.core.settings.kinds import INTEGER, Kind, Refused, is_none, is_real

#: The smallest share of a GPU.
_SMALLEST = 0.01
#: More GPUs than any machine has.
_MOST = 1024

_NUMBER = r"[+-]?([0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})"
_NAME = r"(GPU|MIG)-[0-9A-Za-z_/-]{1,200}"


class GpuCount(Kind):
    """A number of whole GPUs, a share of one, or none. Held as an int, or a float below 1.

    Args:
        optional: None, in text "none" or "null", is allowed.
    """

    metavar = "N"

    def __init__(self, *, optional: bool = True) -> None:
        self.optional = optional
        none = ", or none" if optional else ""
        self.allowed = f"a number of GPUs, or a share of one from {_SMALLEST} to below 1{none}"

    def check(self, value: Any) -> float | None:
        if value is None and self.optional:
            return None
        if isinstance(value, str):
            return self.parse(value)
        if isinstance(value, bool) or not is_real(value):
            raise TypeError
        number = float(value)
        if _SMALLEST <= number < 1:
            return number
        if not 0 <= number <= _MOST:  # so written, it refuses nan
            raise ValueError
        if number != int(number):
            hint = (
                "" if number < 1 else "a share is of one GPU: a job has whole ones, or part of one"
            )
            raise Refused(hint)
        return int(number)

    def parse(self, text: str) -> float | None:
        if is_none(text) and self.optional:
            return None
        if not re.fullmatch(_NUMBER, text.strip()):
            raise ValueError
        return self.check(float(text))


class GpuIds(Kind):
    """Indices of GPUs, their own names or beginnings of these; or none. Held as a tuple."""

    allowed = (
        "GPUs as nvidia-smi numbers or names them (GPU-…, MIG-…), in a list or in text such as "
        "0,3; or none"
    )
    metavar = "IDS"

    def check(self, value: Any) -> tuple[int | str, ...] | None:
        if value is None:
            return None
        if isinstance(value, str):
            return self.parse(value)
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            return self._of(value)
        return self._of([value])

    def parse(self, text: str) -> tuple[int | str, ...] | None:
        return None if is_none(text) else self._of(text.split(","))

    def show(self, value: Any) -> str:
        return ",".join(map(str, value))

    def shareable(self, value: Any) -> Any:
        return None if value is None else list(value)

    def _of(self, items: Sequence[Any]) -> tuple[int | str, ...]:
        ids = tuple(map(self._id, items))
        if not ids:
            raise Refused("gpus=0 is for jobs without any")
        twice = next((each for place, each in enumerate(ids) if each in ids[:place]), None)
        if twice is not None:
            raise Refused(f"{twice} is named twice")
        return ids

    def _id(self, item: Any) -> int | str:
        if isinstance(item, bool):
            raise TypeError
        if isinstance(item, str):
            name = item.strip()
            if re.fullmatch(_NAME, name):
                return name
            if not re.fullmatch(INTEGER, name):
                raise ValueError
            item = int(name)
        number = operator.index(item)
        if not 0 <= number < _MOST:
            raise ValueError
        return number
