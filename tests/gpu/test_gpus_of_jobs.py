"""Each job has GPUs of its own, through every door; retries and resumes included.

There is no driver here: GPUs are what an inherited CUDA_VISIBLE_DEVICES names, and jobs note what
their own one says, and when they ran.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import pytest

from helpers.cli import Project
from helpers.hydra import run_python, write_files
from helpers.processes import PATIENCE, first_row_fast, start_program, wait_for

#: Notes what this job sees and when it ran. The first attempts of odd jobs fail, and jobs from
#: HELD on stay until there is a file "go".
_NOTING = """
    import json
    import os
    import sys
    import time

    NAMES = (
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HSM_GPUS", "HSM_SLOT"),
        *("MASTER_ADDR", "MASTER_PORT"),
    )


    def note():
        begun = time.monotonic()
        num, attempt = int(os.environ["HSM_JOB_NUM"]), int(os.environ["HSM_ATTEMPT"])
        open(f"begun-{num}-{attempt}", "w").close()
        is_held = num >= int(os.environ.get("HELD", 1000))
        while time.monotonic() < begun + 0.2 or (is_held and not os.path.exists("go")):
            time.sleep(0.01)
        seen = {name: os.environ.get(name) for name in NAMES}
        line = {"num": num, "attempt": attempt, "begun": begun, "ended": time.monotonic(), **seen}
        with open("noted", "a") as file:
            file.write(json.dumps(line) + "\\n")
        if num % 2 and attempt == 1 and os.environ.get("FAILING"):
            sys.exit(3)
"""
_APP = """
    import hydra

    from noting import note


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        note()


    if __name__ == "__main__":
        main()
"""
_PYTHON = """
    import os
    import sys

    from hsm import LocalManager
    from noting import note


    def work(params):
        note()


    if __name__ == "__main__":
        settings = dict(pair.split("=") for pair in sys.argv[1:])
        manager = LocalManager(
            gpus=float(settings["gpus"]),
            max_retries=1,
            retry_delay=0,
            progress="plain",
            resume="resume" in settings,
        )
        manager.run([{"x": x} for x in range(8)], sweep_id="s", sweep_dir="swept", function=work)
"""


class Box:
    """A project, on a machine whose GPUs are 3 and 5.

    Args:
        project: the project.
    """

    def __init__(self, project: Project) -> None:
        self.folder = project.folder
        write_files(self.folder, {"noting.py": _NOTING, "app.py": _APP, "sweep_it.py": _PYTHON})
        (self.folder / "job.py").write_text("from noting import note\nnote()\n")

    def env(self, **more: str) -> dict[str, str]:
        return {
            "CUDA_VISIBLE_DEVICES": "3,5",
            "HSM_GPU_LOCKS": str(self.folder / "locks"),
            "FAILING": "1",
            **more,
        }

    def notes(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "noted").read_text().splitlines()]


def _command(gpus: str, *, resume: bool) -> list[str]:
    which = ["--resume", "s"] if resume else ["--sweep-id", "s"]
    again = ["--gpus", gpus, "--max-retries", "1", "--retry-delay", "0"]
    points = [] if resume else ["--script", "job.py", "x=range(8)"]
    return ["-m", "hsm.cli.main", "sweep", *which, *again, *points]


def _hydra(gpus: str, *, resume: bool) -> list[str]:
    options = {"gpus": gpus, "max_retries": "1", "retry_delay": "0", "resume": str(resume).lower()}
    settings = [f"hydra.launcher.{name}={value}" for name, value in options.items()]
    return [
        *("app.py", "-m", "hydra/launcher=hsm_local", "hydra.sweep.dir=swept", "+x=range(8)"),
        *settings,
    ]


def _python(gpus: str, *, resume: bool) -> list[str]:
    return ["sweep_it.py", f"gpus={gpus}", *(["resume=1"] if resume else [])]


Door = Callable[..., Sequence[str]]
DOORS: Mapping[str, Door] = {"command": _command, "hydra": _hydra, "python": _python}


def overlapping(notes: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Any]]:
    """Pairs of attempts that ran at the same moment."""
    return [
        (one, other)
        for one, other in combinations(notes, 2)
        if one["begun"] < other["ended"] and other["begun"] < one["ended"]
    ]


def most_at_once(notes: Sequence[Mapping[str, Any]]) -> int:
    return max(
        len([other for other in notes if other["begun"] <= one["begun"] < other["ended"]])
        for one in notes
    )


def check(notes: Sequence[Mapping[str, Any]], gpus: str) -> None:
    """Check that jobs had what `gpus` promises."""
    if gpus == "2":
        assert {note["CUDA_VISIBLE_DEVICES"] for note in notes} == {"3,5"}
        assert not overlapping(notes)
        return
    assert {note["CUDA_VISIBLE_DEVICES"] for note in notes} == {"3", "5"}
    shares = 1 if gpus == "1" else 2
    for gpu in ("3", "5"):
        assert most_at_once([it for it in notes if it["CUDA_VISIBLE_DEVICES"] == gpu]) <= shares
    for one, other in overlapping(notes):
        assert one["MASTER_PORT"] != other["MASTER_PORT"]
        assert one["HSM_SLOT"] != other["HSM_SLOT"]


@pytest.fixture
def box(project: Project) -> Box:
    return Box(project)


@pytest.mark.parametrize(
    ("door", "gpus"),
    first_row_fast(
        ("command", "1"),
        *(row for row in product(DOORS, ("1", "0.5", "2")) if row != ("command", "1")),
    ),
)
def test_no_gpu_has_two_jobs(box: Box, door: str, gpus: str) -> None:
    done = run_python(box.folder, *DOORS[door](gpus, resume=False), env=box.env())
    assert done.code == 0, done.text
    notes = box.notes()
    assert sorted({(note["num"], note["attempt"]) for note in notes}) == sorted(
        [(num, 1) for num in range(8)] + [(num, 2) for num in range(1, 8, 2)]
    )
    check(notes, gpus)
    for note in notes:
        assert note["CUDA_DEVICE_ORDER"] is None  # The numbers are as whoever set them means them.
        # Nobody says in which order these numbers are meant, so nvidia-smi's are unknown.
        of_each = {"index": None, "uuid": None, "name": None, "memory": None}
        assert json.loads(note["HSM_GPUS"]) == [of_each] * len(
            note["CUDA_VISIBLE_DEVICES"].split(",")
        )
        assert note["MASTER_ADDR"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("door", "gpus"),
    first_row_fast(("hydra", "1"), ("command", "0.5"), ("python", "2"), ("python", "1")),
)
def test_a_killed_and_resumed_sweep(box: Box, door: str, gpus: str) -> None:
    first = list(DOORS[door](gpus, resume=False))
    with start_program(box.folder, [sys.executable, *first], env=box.env(HELD="4")) as running:
        wait_for((box.folder / "begun-4-1").exists, "a job that stays")
        running.process.kill()
        running.assert_all_gone()
    (box.folder / "go").touch()
    done = run_python(box.folder, *DOORS[door](gpus, resume=True), env=box.env())
    assert done.code == 0, done.text
    notes = box.notes()
    assert {note["num"] for note in notes} == set(range(8))
    check(notes, gpus)


def test_without_gpus_no_variable_is_touched(box: Box) -> None:
    env = box.env()
    done = run_python(
        box.folder,
        "-m",
        "hsm.cli.main",
        "sweep",
        "--script",
        "job.py",
        "x=range(2)",
        env={**env, "FAILING": ""},
    )
    assert done.code == 0, done.text
    for note in box.notes():
        assert note["CUDA_VISIBLE_DEVICES"] == "3,5"
        for name in ("CUDA_DEVICE_ORDER", "HSM_GPUS", "MASTER_ADDR", "MASTER_PORT"):
            assert note[name] == os.environ.get(name)
    assert not (box.folder / "locks").exists()


def test_gpus_0_hides_them(box: Box) -> None:
    done = run_python(
        box.folder,
        "-m",
        "hsm.cli.main",
        "sweep",
        "--gpus",
        "0",
        "--script",
        "job.py",
        "x=range(2)",
        env={**box.env(), "FAILING": ""},
    )
    assert done.code == 0, done.text
    assert [note["CUDA_VISIBLE_DEVICES"] for note in box.notes()] == ["", ""]


def test_two_sweeps_share_the_machine(box: Box) -> None:
    """Each has jobs for both GPUs; together they never have more than one on each."""
    sweep = [
        "-m",
        "hsm.cli.main",
        "sweep",
        "--gpus",
        "1",
        "--script",
        "job.py",
        "x=range(6)",
        "--sweep-id",
    ]
    env = {**box.env(), "FAILING": ""}
    with start_program(box.folder, [sys.executable, *sweep, "one"], env=env) as other:
        done = run_python(box.folder, *sweep, "two", env=env)
        assert other.process.wait(PATIENCE) == 0
    assert done.code == 0, done.text
    notes = box.notes()
    assert len(notes) == 12
    for gpu in ("3", "5"):
        assert most_at_once([it for it in notes if it["CUDA_VISIBLE_DEVICES"] == gpu]) == 1
