"""`hsm init`, `hsm config`, and the example project in this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from helpers.cli import Project
from helpers.processes import PATIENCE, REPOSITORY, SOURCE
from hsm.core.settings.resolve import SETTINGS, resolve_local
from hsm.core.space.definition import read_sweep_file

pytestmark = pytest.mark.thorough

_APP = """\
import hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    print("model", cfg.model.name, cfg.seed)

if __name__ == "__main__":
    main()
"""


def _app(project: Project) -> None:
    project.write("app.py", _APP)
    project.write("conf/config.yaml", "defaults: [_self_, model: a]\nseed: 0\nrate: 0.5\nname: n\n")
    for name in "ab":
        project.write(f"conf/model/{name}.yaml", f"name: {name}\n")


# --- init


def test_init_in_an_empty_directory(project: Project) -> None:
    out = project.here("init").out
    assert "wrote hsm.yaml" in out
    assert "wrote sweeps/sweep.yaml" in out
    assert "no script found here" in out
    assert (
        resolve_local(hsm_config=project.folder / "hsm.yaml", environ={}).hsm_config.script is None
    )
    assert read_sweep_file(project.folder / "sweeps/sweep.yaml").count() > 1


@pytest.mark.slow
def test_init_makes_files_for_the_app_that_is_there(project: Project) -> None:
    _app(project)
    assert "wrote conf/sweep.yaml" in project.here("init").out
    points = list(read_sweep_file(project.folder / "conf/sweep.yaml"))
    assert len(points) == 12
    assert points[-1] == {"model": "b", "rate": 0.05, "seed": 2}
    ran = project.here("sweep", "--sweep-id", "s", "model=b", "--config", "conf/sweep.yaml")
    assert "6 jobs: 6 completed" in ran.out
    assert project.hsm("logs", "s", "1").out == "model b 1\n"


def test_init_overwrites_nothing(project: Project) -> None:
    for name in ("conf/hsm.yaml", "sweeps/sweep.yaml"):
        project.write(name, f"# mine: {name}")
    out = project.here("init").out
    assert "conf/hsm.yaml exists already: not changed" in out
    assert "sweeps/sweep.yaml exists already: not changed" in out
    assert not (project.folder / "hsm.yaml").exists()
    assert (project.folder / "conf/hsm.yaml").read_text() == "# mine: conf/hsm.yaml"


def test_init_says_where_it_cannot_write(project: Project) -> None:
    project.write("sweeps", "a file")
    ran = project.here("init", code=2)
    assert ran.err == "hsm: cannot write sweeps/sweep.yaml: File exists\n"


def test_init_leaves_no_half_of_a_file_on_a_full_disk(project: Project) -> None:
    """A limit on the size of files stands for it."""
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 1; exec {sys.executable} -m hsm.cli.main init"],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert done.stderr == "hsm: cannot write hsm.yaml: File too large\n"
    assert not (project.folder / "hsm.yaml").exists()
    assert "wrote hsm.yaml" in project.here("init").out


def test_what_init_leaves_as_comments_is_what_holds_anyway(project: Project) -> None:
    project.here("init")
    text = (project.folder / "hsm.yaml").read_text()
    for name in SETTINGS:
        text = text.replace(f"  # {name}: ", f"  {name}: ")
    project.write("all.yaml", text)
    resolved = resolve_local(hsm_config=project.folder / "all.yaml", environ={})
    assert resolved.conf == resolve_local(hsm_config=project.folder / "hsm.yaml", environ={}).conf
    assert (
        resolved.conf == resolve_local(hsm_config=project.write("none.yaml", ""), environ={}).conf
    )
    told = [name for name, origin in resolved.origins.items() if "all.yaml" in origin]
    assert set(SETTINGS) - set(told) == {"resume", "rerun", "accept_changes"}


# --- config


def test_config_tells_every_setting_and_where_it_came_from(project: Project) -> None:
    project.write("hsm.yaml", "script: app.py\nlocal:\n  timeout: 90s\n")
    ran = project.hsm("config", HSM_LOCAL_MAX_JOBS="7", HSM_LOCAL_TIMEOUT="3")
    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in ran.out.splitlines()}
    assert set(lines) >= {f"local.{name}" for name in SETTINGS}
    assert lines["local.timeout"][0] == "90"
    assert "hsm.yaml, line 3" in lines["local.timeout"][1]
    assert lines["local.max_parallel_jobs"][0] == "7"
    assert "environment variable HSM_LOCAL_MAX_JOBS" in lines["local.max_parallel_jobs"][1]
    assert lines["local.kill_grace"][1].startswith("built-in default")
    assert lines["script"][0] == "app.py"
    assert lines["output_dir"] == ["outputs", "built-in default"]


def test_config_as_json(project: Project) -> None:
    path = project.write("mine.yaml", "local: {timeout: 90s}\noutput_dir: there\n")
    told = project.here("config", "--hsm-config", "mine.yaml", "--json").json
    assert told["hsm_config"] == str(path)
    assert told["local"]["timeout"]["value"] == 90
    assert told["output_dir"] == "there"
    assert told["script"] is None


# --- the example


@pytest.fixture
def example(project: Project) -> Project:
    for name in ("conf", "examples"):
        shutil.copytree(REPOSITORY / name, project.folder / name)
    return project


def test_the_example_sweep_is_what_its_comments_say(example: Project) -> None:
    text = (example.folder / "conf/sweep.yaml").read_text()
    assert "2 x 3 x 2 = 12 jobs" in text
    assert example.here("sweep", "--count-only").out == "14\n"
    [first, *_, last] = example.here("sweep", "--dry-run").out.splitlines()
    assert "examples/train.py model=svm model.C=0.1 seed=0 hydra.run.dir=" in first
    assert "model=random_forest model.n_estimators=200 model.max_depth=8 seed=0" in last


def test_the_example_project_is_what_hsm_config_shows(example: Project) -> None:
    told = example.here("config", "--json").json
    assert told["script"] == "examples/train.py"
    assert told["local"]["timeout"]["value"] == 600


@pytest.mark.long
def test_the_example_sweep_runs(example: Project) -> None:
    pytest.importorskip("sklearn")
    ran = example.hsm("sweep", "--mode", "local", "--parallel-jobs", "2", "--show-output")
    assert "14 jobs: 14 completed" in ran.out
    assert "validation accuracy 0.9" in ran.out
    results = example.here(
        "collect-results", "--sort-by", "-validation_accuracy", "--format", "json"
    )
    assert results.json[0]["validation_accuracy"] > 0.9
    assert {row["model"] for row in results.json} == {"svm", "logistic", "random_forest"}


def test_the_interpreter_that_runs_hsm_runs_the_script(example: Project) -> None:
    [first, *_] = example.here("sweep", "--dry-run", "--json").out.splitlines()
    assert f'"{sys.executable}"' in first
