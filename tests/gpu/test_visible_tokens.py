"""Which GPUs a variable names, as the runtimes read it that obey it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.sweeps import PROFILE
from hsm.core.gpu.presence import CUDA, HIP, ROCR, ZE
from hsm.core.gpu.probe import GpuReading
from hsm.core.gpu.visible_tokens import KnownGpus, read_tokens

NAMES = (
    "GPU-9942190a-aa31-4ff1-4aa9-c388d80f85f1",
    "GPU-9e8d35e3-a134-0fdd-0e01-23811fdbd293",
    "GPU-e429a63e-c61c-4795-b757-5132caeb8e70",
    "GPU-eee1dfbc-0a0f-6ad8-5ff6-dc942a8b9d98",
)
PARTS = ("MIG-89c850dc-0000-0000-0000-000000000000", "MIG-GPU-9942190a/1/0")
GPUS = [GpuReading(index, name) for index, name in enumerate(NAMES)]
SPLIT = [GpuReading(0, name, is_mig=True) for name in PARTS]
#: Four GPUs, of which everything is known.
ALL = KnownGpus({gpu.index: gpu for gpu in GPUS}, [*GPUS, *SPLIT], are_all=True)
NOTHING = KnownGpus()


def texts(variable: str, value: str, known: KnownGpus = NOTHING) -> list[str]:
    return [token.text for token in read_tokens(variable, value, known)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        (" ", []),
        ("0", ["0"]),
        ("3,1", ["3", "1"]),
        (" 0 ,\t1\n", ["0", "1"]),
        ("0,2,-1,1", ["0", "2"]),  # from the Programming Guide
        ("-1", []),
        ("0,1,2,1", []),
        ("0,x,0", ["0"]),  # what stands behind an invalid one is not read
        ("1gpu2,2ampere", ["1gpu2", "2ampere"]),
        ("1,1gpu2", []),
        ("2, +3, -0, 5", ["2", "+3", "-0", "5"]),
        ("0,-0", []),
        ("007,7", []),
        ("one,two,3,4", []),
        ("4,3,two,one", ["4", "3"]),
        ("0,,1", ["0"]),
        (",0", []),
        ("0,", ["0"]),
        ("0;1", ["0;1"]),
        ("0 1,2", ["0 1", "2"]),
        ("0x1,2", ["0x1", "2"]),  # strtol of base 10 stops at the x
        ("+-1", []),
        ("٣,0", []),  # digits that C does not know
        ("0,\N{NO-BREAK SPACE}1", ["0"]),
        ("99999999999999999999", []),
        ("9" * 5000, []),
        ("0" * 5000 + "1", ["0" * 5000 + "1"]),
        ("NoDevFiles", []),
        ("all", []),
        ("GPU-9e8d35e3", ["GPU-9e8d35e3"]),
        ("GPU-9e8d,GPU-e42, GPU-99", ["GPU-9e8d", "GPU-e42", "GPU-99"]),
        ("GPU-123, 2", ["GPU-123"]),
        ("0,GPU-123", ["0"]),
        ("GPU-123,MIG-5", ["GPU-123"]),
        ("MIG-5,GPU-123", ["MIG-5"]),
        ("GPU-", []),
        ("gpu-9e8d", []),
        ("GPU-9e8d,GPU-9e8d", []),
        ("GPU-9e8d,GPU-9", []),  # ambiguous, or the same
        (
            "MIG-GPU-9942190a/1/0,MIG-GPU-9942190a/2/0",
            ["MIG-GPU-9942190a/1/0", "MIG-GPU-9942190a/2/0"],
        ),
    ],
)
def test_cudas_variable_when_nothing_is_known(value: str, expected: list[str]) -> None:
    assert texts(CUDA, value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1,0", [1, 0]),
        ("1,5,0", [1]),
        ("4", []),
        ("2147483648", []),
        ("GPU-9e8d35e3", [1]),
        ("GPU-E4", [2]),
        ("GPU-e4,GPU-9e8d35e3", [2, 1]),
        ("GPU-123,GPU-9e8d35e3", []),
        ("GPU-9e8d35e3,GPU-123,GPU-e4", [1]),
        ("GPU-9e8d35e3,GPU-e,GPU-e4", [1]),  # the second is ambiguous
        ("GPU-9e8d35e3,GPU-e4,GPU-9e8", []),  # one under two names
        (f"{NAMES[3]},{NAMES[0]}", [3, 0]),
        (f"{NAMES[3]}0", []),
    ],
)
def test_cudas_variable_when_all_gpus_are_known(value: str, expected: list[int]) -> None:
    found = read_tokens(CUDA, value, ALL)
    assert [token.gpu and token.gpu.index for token in found] == expected


def test_parts_are_named_by_either_kind_of_name() -> None:
    named = ",".join((PARTS[0], PARTS[1], "MIG-89c9"))
    assert [token.gpu for token in read_tokens(CUDA, named, ALL)] == SPLIT
    # A driver that has names of its own for parts takes the older form as well.
    [older] = read_tokens(CUDA, "MIG-GPU-e429a63e/3/0", ALL)
    assert older.gpu is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        ("2,0", ["2", "0"]),
        (" 2 , 0 ", ["2", "0"]),
        ("2,0,2,1", ["2", "0"]),
        ("0x1,02", ["0x1", "02"]),
        ("1,0x1", ["1"]),
        ("08", []),
        ("1gpu", []),
        ("0,-1,1", ["0"]),
        ("-0", ["-0"]),
        ("0,,1", ["0"]),
        ("9" * 5000, []),
        ("GPU-0123456789abcdef", ["GPU-0123456789abcdef"]),
        ("gpu-0123,1", ["gpu-0123", "1"]),
        ("GPU-", []),
        ("GPU-0123456789abcdef0", []),
        ("GPU-01,GPU-01", ["GPU-01"]),
        ("GX-01", []),
    ],
)
def test_rocrs_variable_when_nothing_is_known(value: str, expected: list[str]) -> None:
    assert texts(ROCR, value) == expected


AMD = [GpuReading(index, f"GPU-00000000000000{index}f") for index in range(3)]
OF_AMD = KnownGpus({gpu.index: gpu for gpu in AMD}, AMD, are_all=True)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        (ROCR, "2,3,0", [2]),
        (ROCR, "GPU-000000000000001F,0", [1, 0]),
        (ROCR, "1,GPU-000000000000001f,0", [1]),
        (ROCR, "GPU-0000,0", []),
        (ROCR, "GPU-ffff", []),
        (HIP, "2,3,0", [2]),
        (HIP, "1,GPU-000000000000001f,0", [1, 0]),
        (HIP, "GPU-ffff,0", []),
    ],
)
def test_amds_variables_when_all_gpus_are_known(
    variable: str, value: str, expected: list[int]
) -> None:
    found = read_tokens(variable, value, OF_AMD)
    assert [token.gpu and token.gpu.index for token in found] == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        ("1,0,1,2", ["1", "0", "2"]),
        ("1, 0", ["1"]),  # HIP takes no spaces
        ("01", []),
        ("+1", []),
        ("0,-1,1", ["0"]),
        ("1gpu", []),
        ("GPU-0123456789abcdef,1", ["GPU-0123456789abcdef", "1"]),
        ("9" * 5000, []),
    ],
)
def test_hips_variable(value: str, expected: list[str]) -> None:
    assert texts(HIP, value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0,1", ["0", "1"]),
        ("1.0,0,1.1", ["1.0", "0", "1.1"]),
        ("0.1.2", ["0.1.2"]),
        ("0,0", ["0"]),
        ("0,x,1", ["0"]),
        ("0,,1", ["0"]),
        (".1", []),
        ("-1", []),
        ("4294967296,1", ["1"]),
    ],
)
def test_intels_variable(value: str, expected: list[str]) -> None:
    assert texts(ZE, value) == expected


# --- against CUDA's rules, told plainly ---

ITEMS = st.one_of(
    st.integers(-1, 6).map(str),
    st.sampled_from(["+2", "-0", "1x", "", " ", "x", "GPU-", "MIG-", "٣", "9" * 30]),
    st.sampled_from([name[:end] for name in NAMES for end in (5, 6, 12, 40)]),
    st.sampled_from([name[:end] for name in PARTS for end in (6, 12, 40)]),
    st.text(max_size=4).filter(lambda text: "," not in text and "\0" not in text),
)
SPACES = st.text(" \t\n", max_size=2)


def by_the_rules(value: str) -> list[int | str]:
    """What CUDA sees of `ALL`: numbers of GPUs, or names of parts."""
    visible: list[int | str] = []
    items = [re.sub(r"^[ \t\n\v\f\r]+|[ \t\n\v\f\r]+$", "", item) for item in value.split(",")]
    kinds = [item[:4] if item[:4] in ("GPU-", "MIG-") else "number" for item in items]
    for item, kind in zip(items, kinds, strict=True):
        meant: list[int | str]
        if kind == "number":
            digits = re.match(r"[+-]?[0-9]+", item)
            meant = [number for number in range(4) if digits and number == int(digits[0])]
        elif kind == "GPU-":
            meant = [at for at, name in enumerate(NAMES) if name.startswith(item)]
        else:
            meant = [name for name in PARTS if name.startswith(item)]
        if kind != kinds[0] or item == kind or len(meant) != 1:
            return visible
        if meant[0] in visible:
            return []
        visible += meant
    return visible


@settings(PROFILE, max_examples=400)
@given(st.lists(st.tuples(SPACES, ITEMS, SPACES).map("".join), max_size=5))
def test_cudas_variable_is_read_by_cudas_rules(items: list[str]) -> None:
    value = ",".join(items)
    found = read_tokens(CUDA, value, ALL)
    seen = [
        token.gpu.uuid
        if token.gpu is not None and token.gpu.is_mig
        else token.number
        if token.number is not None
        else token.gpu and token.gpu.index
        for token in found
    ]
    assert seen == by_the_rules(value)


@settings(PROFILE, max_examples=200)
@given(
    st.sampled_from([CUDA, ROCR, HIP, ZE]),
    st.lists(st.tuples(SPACES, ITEMS, SPACES).map("".join), max_size=5).map(",".join),
    st.sampled_from([NOTHING, ALL, OF_AMD]),
)
def test_each_token_alone_stands_for_the_same_gpu(
    variable: str, value: str, known: KnownGpus
) -> None:
    """So a job's subset of the tokens means what it means where it was inherited."""
    for token in read_tokens(variable, value, known):
        assert read_tokens(variable, token.text, known) == (token,)
