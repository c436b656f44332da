"""The first submit of a function fixes what its jobs see of the program, as docs/api.md says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.processes import FORK_OR_SLOW_SPAWN
from helpers.reliability import points, source


@pytest.mark.parametrize("start_method", FORK_OR_SLOW_SPAWN)
def test_the_first_submit_of_a_function_fixes_its_globals(
    tmp_path: Path, start_method: str
) -> None:
    scale = [1]

    def first(params: dict[str, Any]) -> int:
        return scale[0]

    def another(params: dict[str, Any]) -> int:
        return scale[0]

    def values(made: Any, name: str, function: Any) -> list[Any]:
        ids = made.submit_jobs(points(0), name, tmp_path / name, function=function)
        return [made.result(job_id) for job_id in ids]

    with source(start_method=start_method) as made:
        assert values(made, "a", first) == [1]
        scale[0] = 10
        assert values(made, "b", first) == [1]
        assert values(made, "c", another) == [10]
    with source(start_method=start_method) as made:
        assert values(made, "d", first) == [10]
