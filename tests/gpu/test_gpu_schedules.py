"""Two launchers race for GPUs: nothing is given twice, nobody starves, nothing is left."""

from __future__ import annotations

import pytest

from helpers.gpu_schedules import run_races
from helpers.processes import first_fast


@pytest.mark.parametrize("races", first_fast(120, 1000))
def test_in_any_schedule_gpus_are_given_once_and_everybodys_turn_comes(races: int) -> None:
    figures = run_races(races)
    print(figures)
    assert figures["races"] >= races
    assert figures["starts with GPUs"] > 5 * races
    for rare in ("late starts", "crowds", "lose", "hang", "die", "restrict", "cancel"):
        assert figures[rare] > races / 10
