from __future__ import annotations

from pathlib import Path

import pytest

from hsm.core.record.paths import SweepPaths


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    """Of a sweep that has just begun."""
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    return paths
