from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.written_sweeps import Sweeps


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweeps]:
    sweeps = Sweeps(tmp_path / "sweep")
    yield sweeps
    sweeps.journal.close("finished")
