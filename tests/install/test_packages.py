"""What is released: `make package` in a clean clone, looked into and installed."""

from __future__ import annotations

import re
import subprocess
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from helpers.address import address
from helpers.docs import Page
from helpers.processes import REPOSITORY
from hsm import __version__

pytestmark = pytest.mark.install
#: Top-level names of the source package, besides what the build adds.
PARTS = {"hsm", "hydra_plugins", "tests", "examples", "conf", "benchmarks", "docs", ".ci"}
FILES = {"Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "pyproject.toml"}


def run(*command: str | Path, cwd: Path, env: dict[str, str], code: int = 0) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_packages(clean_env: dict[str, str], tmp_path: Path) -> None:
    """One test: what it builds is looked at, then installed."""
    run("git", "clone", "--quiet", address(), "clone", cwd=tmp_path, env=clean_env)
    clone = tmp_path / "clone"
    (clone / "multirun").mkdir()  # what sweeps leave is not packed
    (clone / "multirun" / "stray").touch()
    (clone / "hsm" / "stray.pyc").touch()
    (clone / ".hsm").mkdir()
    (clone / ".hsm" / "journal.jsonl").touch()
    make = ["make", "package", "PYTHON=python3"]
    assert run(*make, cwd=clone, env=clean_env).count("PASSED") == 2  # twine check --strict
    (wheel,) = clone.glob("dist/*.whl")
    (sdist,) = clone.glob("dist/*.tar.gz")
    look_at_the_wheel(wheel)
    look_at_the_sdist(sdist)
    venv = tmp_path / "venv"
    run("python3", "-m", "venv", venv, cwd=tmp_path, env=clean_env)
    pip = venv / "bin" / "pip"
    run(pip, "install", "--quiet", sdist, cwd=tmp_path, env=clean_env)
    assert run(venv / "bin" / "hsm", "--version", cwd=tmp_path, env=clean_env) == (
        f"hsm {__version__}\n"
    )
    follow_the_hint(venv, tmp_path, clean_env)


def follow_the_hint(venv: Path, folder: Path, env: dict[str, str]) -> None:
    """What hsm says to type when an extra is missing works, though no index has hsm."""
    sweep = ["sweep", "x=1", "--sweep-id", "s", "--", "true"]
    run(venv / "bin" / "hsm", *sweep, cwd=folder, env=env)
    collect: list[str | Path] = [
        venv / "bin" / "hsm",
        "collect-results",
        "s",
        "-o",
        "table.parquet",
    ]
    told = run(*collect, cwd=folder, env=env, code=2)
    (extra,) = re.findall(r"pip install '(.+)'$", told, re.MULTILINE)
    run(venv / "bin" / "pip", "install", "--quiet", "--dry-run", extra, cwd=folder, env=env)


def look_at_the_wheel(path: Path) -> None:
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        info = f"hpc_sweep_manager-{__version__}.dist-info"
        metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
        assert {name.split("/")[0] for name in names} == {"hsm", "hydra_plugins", info}
        assert f"{info}/licenses/LICENSE" in names
    packed = {name for name in names if not name.startswith(info)}
    assert packed == {
        path.relative_to(REPOSITORY).as_posix()
        for part in ("hsm", "hydra_plugins")
        for path in (REPOSITORY / part).rglob("*")
        if path.suffix in {".py", ".typed"}
    }
    look_at_the_metadata(metadata)


def look_at_the_metadata(metadata: Message) -> None:
    assert metadata["Version"] == __version__
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
    assert urls.keys() == {"Homepage", "Documentation", "Changelog", "Issues"}
    assert all(url.startswith(address()) for url in urls.values())
    readme = str(metadata.get_payload())
    links = re.findall(r"\]\(([^)\s]+)\)", readme)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", readme)
    assert len(pictures) == 2
    # Every link of the README leads to the file that it names, at the version's tag.
    for link in Page(REPOSITORY / "README.md").links():
        if not link.startswith(("https://", "#")):
            kind = "raw" if link.endswith(".svg") else "blob"
            assert f"({address()}/{kind}/v{__version__}/{link})" in readme


def look_at_the_sdist(path: Path) -> None:
    with tarfile.open(path) as sdist:
        names = [name.split("/", 1)[1] for name in sdist.getnames()]
    assert {name.split("/")[0] for name in names} == PARTS | FILES | {"PKG-INFO", ".gitignore"}
    strays = [name for name in names if re.search(r"stray|\.pyc$|__pycache__|\.hsm/", name)]
    assert strays == []
    assert {"tests/conftest.py", "docs/pictures/running.svg", "conf/config.yaml"} <= set(names)
