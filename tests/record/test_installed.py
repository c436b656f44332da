"""The versions that journals record are those that `importlib.metadata` tells."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hsm.core.record.installed import _open_version, installed_version


def installed_in(
    folder: Path, *names: str, text: str = "Name: pack\nVersion: 1.2rc3\n\nText\n"
) -> str:
    for name in names:
        path = folder / name
        path.mkdir(parents=True)
        (path / "METADATA").write_text(text)
    return str(folder)


def told(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@pytest.mark.parametrize("name", ["hydra-core", "omegaconf", "psutil", "no-such-package"])
def test_what_is_installed_here(name: str) -> None:
    assert installed_version(name) == told(name)


@pytest.mark.parametrize(
    "names",
    [
        ["pack_age-1.2rc3.dist-info"],
        ["Pack_Age-1.2rc3.dist-info"],
        ["pack_age-1.dist-info", "pack_age-2.dist-info"],
        ["pack_age.egg-info"],
        ["pack_ages-1.dist-info"],
        ["pack.age-1.dist-info"],
        ["pack_age", "pack_age-1.dist-info"],
        ["package-1.dist-info"],
        [],
    ],
    ids=" ".join,
)
def test_any_layout_along_the_path(
    names: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").mkdir()
    first = installed_in(tmp_path / "first", *names)
    last = installed_in(tmp_path / "last", "pack_age-9.dist-info", text="Version: 9\n")
    (tmp_path / "file").touch()
    missing, file = str(tmp_path / "missing"), str(tmp_path / "file")
    monkeypatch.setattr(sys, "path", [missing, first, last, *sys.path])
    assert installed_version("pack-age") == told("pack-age")
    monkeypatch.setattr(sys, "path", [file, first, last, *sys.path])
    assert installed_version("pack-age") == told("pack-age")
    assert _open_version("pack_age") is None  # the file may be an archive
    monkeypatch.chdir(first)
    monkeypatch.setattr(sys, "path", ["", last])
    assert installed_version("pack-age") == told("pack-age")


def test_metadata_without_a_version_or_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = installed_in(tmp_path, "pack-1.dist-info", text="Name: pack\n\nVersion: 2\n")
    monkeypatch.setattr(sys, "path", [place])
    assert _open_version("pack") is None
    (tmp_path / "pack-1.dist-info" / "METADATA").write_bytes(b"Version: \xff\n")
    assert _open_version("pack") is None
