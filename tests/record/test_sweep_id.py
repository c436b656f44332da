from __future__ import annotations

from typing import Any

import pytest

from hsm.core.errors import SettingsError
from hsm.core.record.sweep_id import check_sweep_id, new_sweep_id


@pytest.mark.parametrize("good", ["s", "a b", "train-1.2_x", "über", "x" * 200])
def test_names_that_a_sweep_can_have(good: str) -> None:
    check_sweep_id(good, "argument sweep_id")


def test_a_new_id_is_one_that_a_sweep_can_have() -> None:
    check_sweep_id(new_sweep_id("?"), "argument sweep_id")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        *((bad, "a name for a directory") for bad in ("", "last", "a/b", "../../esc", "a\nb")),
        *((bad, "no . ~ or - in front") for bad in (".", "..", ".x", "~x", "-x")),
        *((bad, "a name for a directory") for bad in ("a\0b", "\x1b[2J", "\ud800")),
        *((bad, "must be a string") for bad in (None, 3, b"x", ["x"])),
        ("x" * 201, "at most 200 bytes, and this one 201"),
        ("ü" * 101, "at most 200 bytes, and this one 202"),
    ],
)
def test_names_that_no_sweep_can_have(bad: Any, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_sweep_id(bad, "argument sweep_id")
    assert str(caught.value).startswith("argument sweep_id")
    assert said in str(caught.value)
