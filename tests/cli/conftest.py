"""Each test has a project of its own, and a list of sweeps of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli_support import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in [name for name in os.environ if name.startswith("HSM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HSM_STATE_DIR", str(tmp_path / "state"))
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder)
