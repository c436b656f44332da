"""The command lines of the page that specifies the local module, run as they stand there.

Each runs in a project directory made for it. (`hsm` is the program; the page's other blocks are in
test_spec_page.py.)
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest

from helpers.cli import Project
from helpers.processes import PATIENCE, SOURCE, wait_for

pytestmark = pytest.mark.thorough

SWEEP = "hsm sweep --mode local --parallel-jobs 4 --show-output"
MONITOR = "hsm monitor --mode local --sweep-id local_test"
COLLECT = "hsm collect-results --sweep-id local_test"
EXPORTS = """\
export HSM_LOCAL_MAX_JOBS=8
export HSM_LOCAL_TIMEOUT=7200
export HSM_LOCAL_SHOW_OUTPUT=true
"""
HSM_YAML = """\
local:
  max_parallel_jobs: 4
  timeout: 3600
  show_output: false
  cleanup_on_exit: true
"""
TRAIN = """\
import json, os, pathlib, time

params = json.loads(os.environ["HSM_PARAMS"])
print("training with", params)
job_dir = pathlib.Path(os.environ["HSM_JOB_DIR"])
(job_dir / "metrics.json").write_text(json.dumps({"loss": params["lr"] * params["epochs"]}))
if "WAIT" in os.environ:
    (job_dir / "runs").touch()
    while not (job_dir / "go").exists():
        time.sleep(0.05)
"""


def _arguments(line: str) -> list[str]:
    program, *arguments = shlex.split(line)
    assert program == "hsm"
    return arguments


@pytest.fixture
def ready(project: Project) -> Project:
    """A project with a script, the page's hsm.yaml and a sweep file."""
    project.write("train.py", TRAIN)
    project.write("hsm.yaml", f"{HSM_YAML}script: train.py\n")
    project.write("conf/sweep.yaml", "sweep:\n  grid: {lr: [0.001, 0.01], epochs: [10, 20]}\n")
    return project


def test_local_mode_execution(ready: Project) -> None:
    ran = ready.hsm(*_arguments(SWEEP))
    assert "4 jobs: 4 completed" in ran.out
    assert "[3] training with {'lr': 0.01, 'epochs': 20}" in ran.out
    [told] = ready.here("list", "--json").json
    sweep = ready.sweep(told["sweep_id"])
    assert sweep.header["settings"]["max_parallel_jobs"] == 4
    assert sweep.header["settings"]["timeout"] == 3600


@pytest.fixture
def local_test(ready: Project) -> Iterator[Project]:
    """That project, with a sweep of the page's id that runs."""
    with ready.start(*_arguments(SWEEP), "--sweep-id", "local_test", WAIT="1") as sweep:
        for num in range(4):
            ready.wait_for(f"outputs/local_test/{num}/runs")
        # A job may be further than its record, which is all that the page's commands see.
        running = ["RUNNING"] * 4
        wait_for(lambda: ready.states("local_test") == running, "the record of their starts")
        yield ready
        _let_go(ready)
        sweep.communicate(timeout=PATIENCE)


def _let_go(project: Project) -> None:
    for num in range(4):
        (project.folder / f"outputs/local_test/{num}/go").touch()


@pytest.mark.slow
def test_local_monitoring(local_test: Project) -> None:
    assert "4 running" in local_test.hsm(*_arguments(MONITOR), "--once").out
    with local_test.start(*_arguments(MONITOR)) as monitor:
        _let_go(local_test)
        out, _ = monitor.communicate(timeout=PATIENCE)
    assert monitor.returncode == 0
    assert "local_test: 4 jobs: 4 completed" in out


@pytest.mark.slow
def test_local_result_collection(local_test: Project) -> None:
    running = local_test.hsm(*_arguments(COLLECT), "--format", "json").json
    assert {row["state"] for row in running} == {"RUNNING"}
    _let_go(local_test)
    wait_for(lambda: local_test.sweep("local_test").closed, "the sweep's end")
    ran = local_test.hsm(*_arguments(COLLECT))
    heading, *rows = ran.out.splitlines()
    assert heading.split()[:5] == ["job", "state", "lr", "epochs", "loss"]
    assert [row.split()[1:5] for row in rows] == [
        ["COMPLETED", "0.001", "10", "0.01"],
        ["COMPLETED", "0.001", "20", "0.02"],
        ["COMPLETED", "0.01", "10", "0.1"],
        ["COMPLETED", "0.01", "20", "0.2"],
    ]


def test_environment_variables(project: Project) -> None:
    program = shlex.join([sys.executable, "-m", "hsm.cli.main", "config", "--json"])
    done = subprocess.run(
        ["sh", "-ec", f"{EXPORTS}exec {program}"],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    local = json.loads(done.stdout)["local"]
    values = {name: entry["value"] for name, entry in local.items()}
    assert values["max_parallel_jobs"] == 8
    assert values["timeout"] == 7200
    assert values["show_output"] is True
    assert local["timeout"]["from"] == "environment variable HSM_LOCAL_TIMEOUT"


def test_hsm_config_example(project: Project) -> None:
    project.write("hsm.yaml", HSM_YAML)
    local = project.here("config", "--json").json["local"]
    told = {name: entry["value"] for name, entry in local.items() if "hsm.yaml" in entry["from"]}
    assert told == {
        "max_parallel_jobs": 4,
        "timeout": 3600,
        "show_output": False,
        "cleanup_on_exit": True,
    }
