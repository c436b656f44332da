"""Two launchers race for GPUs: nothing is given twice, nobody starves, nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.gpu_schedules import run_race

SHORT = 30


@pytest.mark.parametrize("part", range(2))
def test_in_any_schedule_gpus_are_given_once_and_everybodys_turn_comes(
    part: int, tmp_path: Path
) -> None:
    starts = 0
    for seed in range(SHORT * part, SHORT * (part + 1)):
        starts += run_race(seed, tmp_path / str(seed)).starts
    assert starts > 10 * SHORT
