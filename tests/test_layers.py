"""Which parts of hsm may know which: the engine runs jobs anywhere, and so knows no place."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hsm

SOURCE = Path(hsm.__file__).parent
#: What the modules of a folder may not import, not even lazily.
FORBIDDEN = {
    "core/program": ("engine", "local"),
    "core/engine": ("local", "job_manager"),
    "core/local": ("job_manager",),
}
DOORS = ("hsm.cli", "hsm.display", "hsm.hydra_app", "hydra_plugins")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_point_down(folder: str) -> None:
    forbidden = (*DOORS, *(f"hsm.core.{name}" for name in FORBIDDEN[folder]))
    found = {
        f"{path.name}: {name}"
        for path in (SOURCE / folder).glob("*.py")
        for name in imported(path)
        if any(name == other or name.startswith(f"{other}.") for other in forbidden)
    }
    assert len(list((SOURCE / folder).glob("*.py"))) > 5
    assert found == set()


def test_the_core_knows_no_door() -> None:
    for path in (SOURCE / "core").glob("*.py"):
        assert not [name for name in imported(path) if name.startswith(DOORS)], path


def test_what_serves_any_place_knows_the_settings_of_none() -> None:
    for folder in ("core/engine", "hydra_app", "display"):
        for path in (SOURCE / folder).glob("*.py"):
            assert "LocalConf" not in path.read_text(), path


def test_the_engine_loads_no_place() -> None:
    program = (
        "import sys, hsm.core.engine.sweep_source, hsm.core.program.payload; "
        "print(*(name for name in sys.modules if name.startswith('hsm.core.local')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []
