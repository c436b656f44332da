"""The short form of benchmarks/hostile.py: directories laid out to do harm, and what reads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helpers.processes import REPOSITORY

pytestmark = pytest.mark.thorough

#: The first input's seed: those that follow make 250 inputs. Any other will do as well.
_SEED, _INPUTS = 20_000, 250


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "SEEK_DATA"), reason="sparse files are read to their end")
def test_hostile_directories_harm_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    from hostile import Hunt, make_template, old_template

    (tmp_path / "template").mkdir()
    template = make_template(tmp_path / "template")
    hunt = Hunt(tmp_path / "hunt", [template, old_template(template)])
    for seed in range(_SEED, _SEED + _INPUTS):
        hunt.try_input(seed, commands=1)
    assert hunt.found.violations == []
    assert (hunt.found.inputs, hunt.found.commands) == (_INPUTS, _INPUTS)
    assert min(hunt.found.exit_codes[code] for code in (0, 1, 2)) > _INPUTS / 50
