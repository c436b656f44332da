"""What the code keeps to, beside the directions of imports, which `make lint` checks."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import hsm
from helpers.processes import REPOSITORY
from hsm.cli._commands import COMMANDS

MODULES = [
    path
    for root in (Path(hsm.__file__).parent, REPOSITORY / "hydra_plugins")
    for path in sorted(root.rglob("*.py"))
]
#: Lines of a module, and of a function less its docstring.
LONGEST_MODULE, LONGEST_FUNCTION = 400, 50

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def length(function: Function) -> int:
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        first = function.body[0]
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_no_module_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in MODULES}
    assert len(lengths) > 100
    assert {str(path): n for path, n in lengths.items() if n > LONGEST_MODULE} == {}


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{path}: {function.name}": length(function)
        for path in MODULES
        for function in functions(path)
    }
    assert len(lengths) > 1000
    assert {name: n for name, n in lengths.items() if n > LONGEST_FUNCTION} == {}


def test_no_two_modules_have_one_name() -> None:
    """But for commands, which are named as people type them, and what a Hydra plugin must have."""
    commands = {module for module, _ in COMMANDS.values()}
    named = defaultdict(list)
    for path in MODULES:
        is_command = path.parent.name == "cli" and path.stem in commands
        if path.stem != "__init__" and not is_command and "hydra_plugins" not in path.parts:
            named[path.stem.strip("_")].append(str(path))
    assert {name: paths for name, paths in named.items() if len(paths) > 1} == {}


def test_no_public_name_is_a_module() -> None:
    children = {path.stem for path in Path(hsm.__file__).parent.iterdir()}
    assert children & set(hsm.__all__) == set()


def test_what_serves_any_place_knows_the_settings_of_none() -> None:
    root = Path(hsm.__file__).parent
    for folder in ("core/engine", "hydra_app", "display"):
        for path in (root / folder).glob("*.py"):
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
