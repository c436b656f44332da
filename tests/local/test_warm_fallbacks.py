"""Where a script's imports do more than import, each of its jobs does them itself."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from helpers.cli import Project
from helpers.processes import first_fast, first_row_fast, wait_for
from hsm.core.errors import SettingsError
from hsm.core.local import LocalComputeSource
from hsm.core.local.scratch import Scratch
from hsm.core.local.warm_start import WarmStart
from hsm.core.program.kept_script import KeptScript
from hsm.core.record.sweep import read_sweep

_PRINTS_HOW = """\
import os, sys
print("warm" if "hsm.core.local.warm_server" in sys.modules else "cold")
"""
_STARTS_A_THREAD = """\
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def _note(script: str, *, insists: bool = False, limit: float | None = None) -> str:
    """What people are told about the start of a script; "warm" for nothing, if it is."""
    Path("fit.py").write_text(script)
    scratch = Scratch(keep=False)
    start = WarmStart(KeptScript("fit.py"), os.getcwd(), insists=insists, limit=limit)
    told: list[str] = []
    try:
        start.start(scratch, 1024)
        start.wait(lambda: True, told.append)
        return start.note if start.server is None else "warm"
    finally:
        start.close()
        scratch.close()


@pytest.mark.parametrize(
    ("module", "note"),
    first_row_fast(
        ("print('hello')", "its imports print: hello"),
        ("import sys; print('oh', file=sys.stderr)", "its imports print: oh"),
        ("import os; os.write(1, b'raw')", "its imports print: raw"),
        ("import os; os.system('echo below')", "its imports print: below"),
        ("import warnings; warnings.simplefilter('always'); warnings.warn('old')", "warn('old')"),
        ("import os; os._exit(0)", "its imports end the process"),
        ("import os; os.kill(os.getpid(), 9)", "its imports end the process"),
        ("import time; time.sleep(1000)", "its imports take more than 1.0 s"),
        ("import sys; args = sys.argv[1:]", "an import reads the command line"),
        ("import argparse; argparse.ArgumentParser().parse_args()", "reads the command line"),
        ("import sys; argv = sys.argv", "an import reads the command line"),
        ("import os; os.environ.get('HSM_JOB_NUM')", "an import reads HSM_JOB_NUM"),
        ("import os; os.getenv('CUDA_VISIBLE_DEVICES')", "an import reads CUDA_VISIBLE_DEVICES"),
        ("import tempfile; tempfile.gettempdir()", "an import reads TMPDIR"),
        ("import os; os.chdir('/')", "an import changes the working directory"),
        ("import subprocess as s; s.Popen(['sleep', '1000'])", "an import starts processes"),
        ("import signal; signal.alarm(1000)", "an import sets a timer"),
        ("import socket; pair = socket.socketpair()", "after its imports it has a pipe open"),
        ("import asyncio; loop = asyncio.new_event_loop()", "it has an event loop open"),
        (_STARTS_A_THREAD, "after its imports it has other threads"),
    ),
)
def test_imports_that_do_more_than_import(project: Project, module: str, note: str) -> None:
    project.write("site-packages/doing.py", module)
    told = _note("import doing\nprint(1)\n", limit=1 if "sleep(1000)" in module else None)
    assert told.startswith("no warm start of fit.py: ")
    assert note in told


@pytest.mark.parametrize(
    "script", first_fast("import broken", "print(1)", "def f(:", "import sys.x")
)
def test_nothing_is_said_where_jobs_show_it(project: Project, script: str) -> None:
    project.write("site-packages/broken.py", "1 / 0\n")
    assert not _note(script)


@pytest.mark.slow
def test_installed_packages_may_look_for_variables_of_their_own(project: Project) -> None:
    looks = "import os\nOWN = {name for name in os.environ if name.startswith('OWN_')}\n"
    project.write("site-packages/doing.py", looks)
    assert _note("import doing\n") == "warm"
    project.write("own.py", "import os\nALL = dict(os.environ)\n")
    assert _note("import own\n").endswith("an import reads the whole environment")


def test_a_module_beside_the_script_that_hides_another(project: Project) -> None:
    project.write("pickle.py", "dumps = loads = None\n")
    assert _note("import json\n") == (
        "no warm start of fit.py: pickle beside the script has the name of another module"
    )


@pytest.mark.slow
def test_who_insists_gets_a_warm_start_in_spite_of_doubts(project: Project) -> None:
    project.write("own.py", "import uuid\nRUN = uuid.uuid4()\n")
    project.write("site-packages/doing.py", _STARTS_A_THREAD)
    assert _note("import own\n").endswith("own.py does more than define things (line 2)")
    assert _note("import own\n", insists=True) == "warm"
    assert _note("import doing\n", insists=True) == "warm"
    assert _note("print(1)\n", insists=True) == "warm"
    project.write("site-packages/doing.py", "import socket; pair = socket.socketpair()")
    assert "a pipe open" in _note("import doing\n", insists=True)


def test_to_insist_on_it_and_on_spawned_jobs_is_refused() -> None:
    with pytest.raises(SettingsError, match="start_method=spawn forbids it: give one of the two"):
        LocalComputeSource(warm=True, start_method="spawn")
    LocalComputeSource(start_method="spawn").close()


def test_a_failing_import_fails_each_job_with_its_own_traceback(project: Project) -> None:
    project.write("site-packages/broken.py", "raise OSError('no licence')\n")
    project.write("fit.py", "import sys\nimport broken\n")
    ran = project.hsm("sweep", "x=1,2", "--script", "fit.py", "--sweep-dir", "s", code=1)
    assert "warm" not in ran.out + ran.err
    for num in (0, 1):
        error = (project.folder / f"s/.hsm/logs/{num}.err").read_text()
        assert error.startswith('Traceback (most recent call last):\n  File "')
        assert 'fit.py", line 2, in <module>\n    import broken\n' in error
        assert error.endswith("OSError: no licence\n")


def test_a_killed_server_fails_its_jobs_and_others_start_without_it(project: Project) -> None:
    waits = "import pathlib, time\npathlib.Path(sys.argv[1]).touch()\ntime.sleep(60)\n"
    ends = "if sys.argv[1] != 'x=0': sys.exit()\n"
    Path("fit.py").write_text(f"{_PRINTS_HOW}{ends}{waits}")
    with LocalComputeSource(max_parallel_jobs=1) as source:
        points = [{"x": 0}, {"x": 1}]
        source.submit_jobs(points, "s", "s", script="fit.py", args_style="hydra")
        wait_for(Path("x=0").exists, "the first job")
        [start] = source._backend._servers._warm._starts.values()  # type: ignore[attr-defined]
        os.kill(start.server._pid, signal.SIGKILL)
        states = [str(state) for state in source.wait().values()]
    assert states == ["FAILED", "COMPLETED"]
    outputs = [Path(f"s/.hsm/logs/{num}.out").read_text() for num in (0, 1)]
    assert outputs == ["warm\n", "cold\n"]
    starts = [(each["start_method"], each["reason"]) for each in read_sweep("s").servers]
    assert starts == [
        ("warm", "the first imports of fit.py are done once"),
        ("cold", "the server with their imports is gone"),
    ]


@pytest.mark.slow
def test_jobs_in_another_directory_and_of_another_sweep_import_anew(project: Project) -> None:
    project.write("own.py", "VALUE = 1\n")
    project.write("fit.py", f"import own\n{_PRINTS_HOW}print(own.VALUE, os.getcwd())\n")
    script = Path("fit.py").absolute()
    with LocalComputeSource(max_parallel_jobs=1) as source:
        for name, value in (("a", 1), ("b", 22)):  # of another size, or byte code would serve
            project.write("own.py", f"VALUE = {value}\n")
            source.submit_jobs([{"x": 0}], name, project.folder / name, script=script)
            source.wait()
        os.chdir("/")
        source.submit_jobs([{"x": 1}], "b", project.folder / "b", script=script)
    out = [(project.folder / name / ".hsm/logs/0.out").read_text() for name in ("a", "b")]
    assert out == [f"warm\n{value} {project.folder}\n" for value in (1, 22)]
    assert (project.folder / "b/.hsm/logs/1.out").read_text() == "cold\n22 /\n"


def test_jobs_that_are_not_wanted_do_not_wait_for_imports(project: Project) -> None:
    project.write("site-packages/doing.py", "import time\ntime.sleep(1000)\n")
    Path("fit.py").write_text("import doing\n")
    with LocalComputeSource() as source:
        source.submit_jobs([{"x": 0}], "s", "s", script="fit.py")
        threading.Timer(0.2, source.stop, ["enough"]).start()
        assert [str(state) for state in source.wait().values()] == ["CANCELLED"]


def test_generators_that_a_package_makes_without_a_seed_differ_from_job_to_job(
    project: Project,
) -> None:
    pytest.importorskip("numpy")
    project.write("site-packages/drawing.py", _MAKES_GENERATORS)
    Path("fit.py").write_text(f"import drawing\n{_PRINTS_HOW}print(*drawing.draw())\n")
    with LocalComputeSource() as source:
        source.submit_jobs([{"x": 0}, {"x": 1}], "s", "s", script="fit.py")
    logs = [Path(f"s/.hsm/logs/{num}.out").read_text().splitlines() for num in (0, 1)]
    assert [how for how, _ in logs] == ["warm", "warm"]
    drawn = [line.split() for _, line in logs]
    assert [a == b for a, b in zip(*drawn, strict=True)] == [False] * 4 + [True] * 4


_MAKES_GENERATORS = """\
import random
import numpy as np
fresh = [random.Random(), np.random.default_rng(), np.random.RandomState(),
    np.random.Generator(np.random.PCG64())]
seeded = [random.Random(3), np.random.default_rng(3), np.random.RandomState(3),
    np.random.Generator(np.random.PCG64(3))]
def draw():
    return [generator.random() for generator in (*fresh, *seeded)]
"""
