from __future__ import annotations

from pathlib import Path

import pytest

from helpers.hydra import write_files
from helpers.noting_app import FILES


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The folder of an app whose jobs note what they are told."""
    write_files(tmp_path, FILES)
    return tmp_path
