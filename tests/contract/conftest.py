from __future__ import annotations

import os
from pathlib import Path

import pytest

from contract_support import Place


@pytest.fixture(params=["local", "plain"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each place where jobs run."""
    return Place(request.param)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: a project without settings."""
    for name in [name for name in os.environ if name.startswith("HSM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HSM_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"
