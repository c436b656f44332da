"""A script's own first line: what it names runs the script, unless that is just Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from helpers.cli import Project
from helpers.processes import first_fast
from hsm.core.program.program import find_program

_OWN = os.path.dirname(sys.executable)
_PEP_723 = '# /// script\n# dependencies = ["numpy"]\n# ///\n'
_MINOR = sys.version_info.minor


@pytest.fixture(autouse=True)
def _uv(project_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of the user's: a stand-in for uv, and the Python of another environment."""
    folder = project_dir / "bin"
    folder.mkdir()
    for name in ("uv", "pixi", "python3.1"):
        program = folder / name
        program.write_text('#!/bin/sh\nwhile [ ! -e "$1" ]; do shift; done\necho "own line: $*"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def _script(first: str, text: str = "", mode: int = 0o755) -> str:
    path = Path("tool.py")
    path.write_text(f"{first}\n{text}print('hsm')\n")
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    "first",
    [
        "#!/usr/bin/env -S uv run --script",
        "#!/usr/bin/env -Suv run --script",
        "#!/usr/bin/env -S -i PATH=/nowhere uv run",
        "#!/usr/bin/env pixi",
        "#! /bin/sh",
        "#!{here}/bin/python3.1",
        "#!/usr/bin/env python3.1",
    ],
)
def test_a_first_line_that_names_another_program(first: str) -> None:
    first = first.format(here=Path.cwd())
    program = find_program(script=_script(first))
    assert (program.script, program.kept_script, program.note) == (("./tool.py",), None, "")
    program = find_program(script=_script(first, mode=0o644))
    assert program.script == (sys.executable, "-u", "./tool.py")
    assert program.note.startswith("./tool.py: its first line names ")
    assert program.note.endswith(f", but it is not executable: it runs with {sys.executable}")


@pytest.mark.parametrize(
    "first",
    [
        "",
        "#!",
        "# a comment",
        "#!/usr/bin/env python",
        "#!/usr/bin/env python3",
        f"#!/usr/bin/env python3.{_MINOR}",
        "#!/usr/bin/env -S python3 -O",
        "#!/usr/bin/python3",
        f"#!{_OWN}/python3",
        f"#!/usr/bin/../..{_OWN}/python",
    ],
)
@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_a_first_line_that_names_just_python(first: str, mode: int) -> None:
    program = find_program(script=_script(first, mode=mode))
    assert program.script == (sys.executable, "-u", "./tool.py")
    assert program.note == ""
    assert program.kept_script is not None


@pytest.mark.parametrize(
    ("first", "text", "note"),
    [
        ("#!/usr/bin/env python3", _PEP_723, "it lists the packages that it needs (PEP 723)"),
        ("", _PEP_723, "it lists the packages that it needs (PEP 723)"),
        ("#!/gone/bin/python3", "", "its first line names '/gone/bin/python3', which is not there"),
    ],
)
def test_where_hsms_own_python_runs_it_people_are_told(first: str, text: str, note: str) -> None:
    program = find_program(script=_script(first, text))
    assert program.script == (sys.executable, "-u", "./tool.py")
    assert program.note.startswith(f"./tool.py: {note}")
    assert program.note.endswith(f"it runs with {sys.executable}")


@pytest.mark.parametrize("mode", first_fast(0o755, 0o644))
def test_a_script_whose_first_line_names_another_program_is_run_by_it(
    project: Project, mode: int
) -> None:
    script = _script("#!/usr/bin/env -S uv run --script", _PEP_723, mode)
    ran = project.here("sweep", "--script", script, "x=1", "--sweep-id", "s")
    own_line = mode == 0o755
    printed = project.sweep("s").paths.stdout(0).read_text()
    assert printed == ("own line: ./tool.py x=1\n" if own_line else "hsm\n")
    assert ("but it is not executable: it runs with" in ran.out) == (not own_line)
