"""What dotted paths name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hsm.core.study.importing import import_path

pytestmark = pytest.mark.thorough


def test_modules_in_the_working_directory_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("named_here.py").write_text("class Mine:\n    part = 7\n")
    before = list(sys.path)
    assert import_path("named_here.Mine.part") == 7
    assert sys.path == before


@pytest.mark.parametrize("path", ["nothing_here.Mine", "nothing_here"])
def test_others_are_not(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    with pytest.raises(ImportError):
        import_path(path)
    assert sys.path == before
