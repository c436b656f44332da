"""`hsm sweep --config -`: the sweep comes through a pipe, in any format of sweep files."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cli import Project
from helpers.processes import PATIENCE, child_environment, wait_for
from hsm.core.errors import SettingsError
from hsm.core.space.definition import read_sweep_text

pytestmark = pytest.mark.thorough

_ECHO = ("--", "echo", "{x}")


def _pipe(project: Project, data: str | bytes, *words: str, code: int = 0) -> str:
    """Run `hsm sweep --config -` in this process with `data` for its stdin; return its output."""
    content = data if isinstance(data, bytes) else data.encode()
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(content))
    try:
        ran = project.here("sweep", "--config", "-", *words, code=code)
    finally:
        sys.stdin = before
    return ran.err if code else ran.out


@pytest.mark.parametrize(
    "text",
    [
        "x,y\n1,a\n2,b\n",
        "\ufeffx,y\r\n1,a\r\n2,b\r\n",
        '{"x": 1, "y": "a"}\n\n{"x": 2, "y": "b"}',
        "# a comment\nsweep:\n  jobs: [{x: 1, y: a}, {x: 2, y: b}]\n",
        "---\nsweep: {paired: [{g: {x: [1, 2], y: [a, b]}}]}\n",
        '"sweep": {"jobs": [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]}\n',
    ],
)
def test_every_format_is_known_by_its_beginning(text: str) -> None:
    points = list(read_sweep_text(text.encode(), "standard input"))
    assert points == [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "--config -: standard input is empty"),
        (b" \n\n", "--config -: standard input is empty"),
        (b"x\n1,2\n", "standard input, line 2: expected 1 cells (x), got 2"),
        (b"1\n2\n3\n", "not '1'; the first line names the parameters, separated by commas"),
        (b'{"x": 1}\n{"x": }\n', "standard input, line 2: not valid JSON"),
        (b"sweeps: {grid: {x: [1]}}\n", "did you mean sweep?"),
        (b"sweep:\n  grid:\n    x: [1\n", "standard input, line 4 is not valid YAML"),
        (b"x\n\xff\n", "cannot read the sweep file 'standard input': it is not UTF-8"),
    ],
)
def test_what_is_wrong_names_standard_input(project: Project, data: bytes, said: str) -> None:
    line = _pipe(project, data, *_ECHO, code=2)
    assert said in line
    assert line.count("\n") == 1
    assert list(project.folder.iterdir()) == []


def test_a_dry_run_a_count_and_overrides(project: Project) -> None:
    text = "x,seed\n1,1\n2,1\n"
    assert _pipe(project, text, "--count-only") == "2\n"
    assert _pipe(project, text, "seed=7,8", "--count-only") == "4\n"
    out = _pipe(project, text, "--dry-run", "--sweep-id", "s", "--", "echo", "{x}-{seed}")
    assert out.splitlines()[1] == "job 1 in outputs/s/1: echo 2-1"


def test_a_sweep_runs_and_is_resumed_without_its_points(project: Project) -> None:
    job = ("--", "sh", "-c", "echo {x}; test {x} = 1 || test -e fixed")
    _pipe(project, "x\n1\n2\n", "--sweep-id", "s", *job, code=1)
    project.write("fixed", "")
    project.here("sweep", "--resume", "s")
    assert project.states("s") == ["COMPLETED"] * 2
    # From another directory, too; and with more points.
    other = Project(project.folder.parent / "other")
    other.folder.mkdir()
    _pipe(other, "x\n1\n2\n3\n", "--resume", str(project.folder / "outputs/s"))
    assert project.states("s") == ["COMPLETED"] * 3


@pytest.mark.slow
def test_a_detached_sweep_has_read_it_all(project: Project) -> None:
    done = subprocess.run(
        [
            "sh",
            "-c",
            f"(echo x; seq 3) | {sys.executable} -m hsm.cli.main sweep --config - "
            "--detach --sweep-id s -- echo {x}",
        ],
        cwd=project.folder,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    wait_for(lambda: not project.sweep("s").alive, "the launcher's end")
    assert project.states("s") == ["COMPLETED"] * 3


def test_a_terminal_is_refused(project: Project) -> None:
    ours, theirs = pty.openpty()
    before = sys.stdin
    try:
        with open(theirs) as terminal:
            sys.stdin = terminal
            line = project.refused("sweep", "--config", "-", *_ECHO)
    finally:
        sys.stdin = before
        os.close(ours)
    assert "--config - reads standard input, which is a terminal here: pipe the sweep" in line


def test_without_any_stdin(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    line = project.refused("sweep", "--config", "-", *_ECHO)
    assert line == "hsm: --config -: there is no standard input\n"


def test_a_file_may_be_called_so(project: Project, tmp_path: Path) -> None:
    project.write("-.csv", "x\n1\n")
    assert project.here("sweep", "--config", "./-.csv", "--count-only").out == "1\n"
    with pytest.raises(SettingsError, match="standard input: the file must be a line of names"):
        list(read_sweep_text(b"x\n", "standard input"))
