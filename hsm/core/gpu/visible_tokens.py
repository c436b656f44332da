"""Reads the variables that say which GPUs a process sees, as the runtimes do that obey them.

    CUDA_VISIBLE_DEVICES=2,0        their numbers        CUDA_VISIBLE_DEVICES=GPU-8f1c,GPU-03aa
    CUDA_VISIBLE_DEVICES=2,0,-1,1   those before what is invalid: 2, 0
    CUDA_VISIBLE_DEVICES=2,0,2      none at all, as one is repeated
    ROCR_VISIBLE_DEVICES=2,0,2      2, 0: what is repeated ends the list
    HIP_VISIBLE_DEVICES=2,0,2       2, 0: what is repeated is passed over; a number is that of a GPU
                                    which ROCR_VISIBLE_DEVICES has left
    ZE_AFFINITY_MASK=0.1,1          a part of the first, and the second

The rules for CUDA are those of its Programming Guide and of PyTorch, which follows the driver; for
AMD those of RvdFilter in ROCr and Device::init in the HIP runtime; for Intel those of
ExecutionEnvironment::parseAffinityMask in its compute runtime.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hsm.core.gpu.presence import CUDA, HIP, ROCR, ZE
from hsm.core.gpu.probe import GpuReading

#: What C's isspace knows.
_SPACES = " \t\n\v\f\r"
#: As strtol reads a number: the rest of the text does not matter.
_LEADING_NUMBER = re.compile(r"[+-]?[0-9]+")
#: As strtol(…, 0) reads a number that is the whole text.
_C_NUMBER = re.compile(r"([+-]?)(?:0x([0-9a-f]+)|(0[0-7]*)|([1-9][0-9]*))", re.IGNORECASE)
_PLAIN_NUMBER = re.compile(r"0|[1-9][0-9]*")
_MASK = re.compile(r"([0-9]+)(?:\.[0-9]+){0,2}")
#: Digits of a number that is surely too large.
_TOO_MANY = 10
#: Characters of the names that ROCr takes, such as GPU-0123456789abcdef.
_SHORTEST_NAME, _LONGEST_NAME = 5, 20


@dataclass(frozen=True)
class KnownGpus:
    """What is known of the GPUs that a variable may name.

    Attributes:
        numbers: those that there are, by the numbers that the variable has for them; None for one
            that has such a number, but of which nothing else is known.
        named: those that may be meant by their own names.
        are_all: whether there are no others.
    """

    numbers: Mapping[int, GpuReading | None] = field(default_factory=dict)
    named: Sequence[GpuReading] = ()
    are_all: bool = False

    def has(self, number: int) -> bool:
        """Whether a GPU of that number may exist."""
        return number in self.numbers or not self.are_all

    def beginning(self, name: str) -> list[GpuReading]:
        """Those whose own names begin so."""
        return [gpu for gpu in self.named if gpu.uuid.lower().startswith(name.lower())]


class Token(NamedTuple):
    """A GPU that a variable names.

    Attributes:
        text: how, without spaces around.
        number: its number, if it is given as one.
        gpu: the GPU; None if it is not known which one that is.
    """

    text: str
    number: int | None = None
    gpu: GpuReading | None = None


def read_tokens(variable: str, value: str, known: KnownGpus) -> tuple[Token, ...]:
    """The GPUs that a process sees in which `variable` is set to `value`."""
    return _READERS[variable](value, known)


def parse_number(text: str) -> int | None:
    """The number with which a token begins, as strtol reads it; None if there is none."""
    match = _LEADING_NUMBER.match(text.strip(_SPACES))
    return None if match is None else _int(match[0])


def _int(text: str) -> int | None:
    """A number of at least 0 that a GPU may have."""
    digits = text.lstrip("+-").lstrip("0") or "0"
    if len(digits) >= _TOO_MANY or (text.startswith("-") and digits != "0"):
        return None
    return int(digits)


# --- NVIDIA ---


def _read_cuda(value: str, known: KnownGpus) -> tuple[Token, ...]:
    items = [item.strip(_SPACES) for item in value.split(",")]
    # The first one decides whether all are names of GPUs, names of parts, or numbers.
    prefix = next((each for each in ("GPU-", "MIG-") if items[0].startswith(each)), "")
    tokens: list[Token] = []
    for item in items:
        token = _named(item, prefix, known) if prefix else _numbered(item, known)
        if token is None:
            break
        if any(_is_same(token, other) for other in tokens):
            return ()
        tokens.append(token)
    return tuple(tokens)


def _numbered(item: str, known: KnownGpus) -> Token | None:
    number = parse_number(item)
    if number is None or not known.has(number):
        return None
    return Token(item, number, known.numbers.get(number))


def _named(item: str, prefix: str, known: KnownGpus) -> Token | None:
    if not item.startswith(prefix) or item == prefix:
        return None
    found = known.beginning(item)
    # MIG-GPU-<uuid>/<number>/<number>, which drivers still take, is not how newer ones name parts.
    if len(found) > 1 or (not found and known.are_all and "/" not in item):
        return None
    return Token(item, None, found[0] if found else None)


def _is_same(one: Token, other: Token) -> bool:
    if one.number is not None:
        return one.number == other.number
    if one.gpu is not None and other.gpu is not None:
        return one.gpu.uuid == other.gpu.uuid
    texts = one.text.lower(), other.text.lower()
    return texts[0].startswith(texts[1]) or texts[1].startswith(texts[0])


# --- AMD ---


def _read_rocr(value: str, known: KnownGpus) -> tuple[Token, ...]:
    tokens: list[Token] = []
    for item in value.split(","):
        token = _rocr_token(item.strip(_SPACES), known)
        if token is None or any(_is_same_amd(token, other) for other in tokens):
            break
        tokens.append(token)
    return tuple(tokens)


def _rocr_token(item: str, known: KnownGpus) -> Token | None:
    if item[:1] in ("G", "g"):
        if not _SHORTEST_NAME <= len(item) <= _LONGEST_NAME or item[:4].upper() != "GPU-":
            return None
        found = known.beginning(item)
        if len(found) > 1 or (not found and known.are_all):
            return None
        return Token(item, None, found[0] if found else None)
    number = _c_number(item)
    if number is None or not known.has(number):
        return None
    return Token(item, number, known.numbers.get(number))


def _c_number(item: str) -> int | None:
    match = _C_NUMBER.fullmatch(item)
    if match is None or len(item) > _TOO_MANY:
        return None
    sign, hexadecimal, octal, decimal = match.groups()
    number = int(hexadecimal, 16) if hexadecimal else int(octal, 8) if octal else int(decimal)
    return None if sign == "-" and number else number


def _read_hip(value: str, known: KnownGpus) -> tuple[Token, ...]:
    tokens: list[Token] = []
    for item in value.split(","):
        token = _hip_token(item, known)
        if token is None:
            break
        if not any(_is_same_amd(token, other) for other in tokens):
            tokens.append(token)
    return tuple(tokens)


def _hip_token(item: str, known: KnownGpus) -> Token | None:
    if item.startswith("GPU-"):
        found = known.beginning(item)
        if not found and known.are_all and known.named:  # There may be more numbers than names.
            return None
        return Token(item, None, found[0] if found else None)
    number = _int(item) if _PLAIN_NUMBER.fullmatch(item) else None
    if number is None or not known.has(number):
        return None
    return Token(item, number, known.numbers.get(number))


def _is_same_amd(one: Token, other: Token) -> bool:
    """Numbers and names may be mixed there."""
    if one.gpu is not None and other.gpu is not None:
        return one.gpu.index == other.gpu.index
    if one.number is None and other.number is None:
        return one.text.lower() == other.text.lower()
    return one.number == other.number


# --- Intel ---


def _read_ze(value: str, known: KnownGpus) -> tuple[Token, ...]:
    return tuple({token.text: token for token in _ze_tokens(value, known)}.values())


def _ze_tokens(value: str, known: KnownGpus) -> Iterator[Token]:
    for item in value.split(","):
        text = item.strip(_SPACES)
        match = _MASK.fullmatch(text)
        if match is None:
            return
        number = _int(match[1])
        if number is not None and known.has(number):
            yield Token(text, number if match[1] == text else None)


_READERS = {CUDA: _read_cuda, HIP: _read_hip, ROCR: _read_rocr, ZE: _read_ze}
