"""Every code block of the page that specifies the local module, run as it stands there.

The page's package `hpc_sweep_manager` is `hsm` here. Each block runs as a user would run it: as a
program of its own, in a project directory whose hsm.yaml names the script that jobs run.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from helpers.processes import PATIENCE, SOURCE
from hsm.core.engine.compute_source import ComputeSource
from hsm.core.job_manager import JobManager
from hsm.core.local import LocalComputeSource, LocalManager
from hsm.core.results.collect import collect_results
from hsm.core.settings.resolve import LocalConf, resolve_local

TRAIN = """\
import json, os, pathlib, sys

params = json.loads(os.environ["HSM_PARAMS"])
print("training with", *sys.argv[1:])
metrics = {"loss": params["lr"] / params["epochs"]}
pathlib.Path(os.environ["HSM_JOB_DIR"], "metrics.json").write_text(json.dumps(metrics))
"""

BASIC = """\
from hsm.core.local import LocalComputeSource

# Create local compute source
local_source = LocalComputeSource(
    max_parallel_jobs=4,
    show_output=True
)

# Submit jobs
job_ids = local_source.submit_jobs(
    param_combinations=[
        {"lr": 0.001, "epochs": 10},
        {"lr": 0.01, "epochs": 20},
    ],
    sweep_id="local_test",
    sweep_dir=Path("outputs/local_test")
)

# Monitor progress
for job_id in job_ids:
    status = local_source.get_job_status(job_id)
    print(f"Job {job_id}: {status}")
"""

WITH_JOB_MANAGER = """\
from hsm.core.job_manager import JobManager
from hsm.core.local import LocalComputeSource

manager = JobManager()
local_source = LocalComputeSource(max_parallel_jobs=2)

# Full sweep workflow
job_ids = manager.submit_sweep(
    param_combinations=params,
    compute_source=local_source,
    sweep_id="local_sweep",
    sweep_dir=Path("outputs/local_sweep")
)

# Monitor and collect
statuses = manager.monitor_jobs(job_ids, local_source)
results = manager.collect_results(Path("outputs/local_sweep"))
"""

ADVANCED = """\
# High-performance local execution
local_source = LocalComputeSource(
    max_parallel_jobs=8,  # Use all cores
    timeout=3600,         # 1 hour timeout
    show_output=False     # Silent execution
)

# Resource-constrained execution
local_source = LocalComputeSource(
    max_parallel_jobs=2,  # Limit parallelism
    timeout=1800,         # 30 minute timeout
    show_output=True      # Monitor progress
)
"""

HSM_CONFIG = """\
local:
  max_parallel_jobs: 4
  timeout: 3600
  show_output: false
  cleanup_on_exit: true
"""

ENVIRONMENT = """\
export HSM_LOCAL_MAX_JOBS=8
export HSM_LOCAL_TIMEOUT=7200
export HSM_LOCAL_SHOW_OUTPUT=true
"""

Run = Callable[[str], str]


@pytest.fixture
def run(project_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a program in the current directory; returns what it printed."""
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    (project_dir / "train.py").write_text(TRAIN)
    (project_dir / "hsm.yaml").write_text("script: train.py\n")

    def run_program(text: str) -> str:
        (project_dir / "program.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "program.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run_program


def parameters(kind: type) -> list[str]:
    return [name for name in inspect.signature(kind).parameters if name != "self"]


def test_local_compute_source(run: Run) -> None:
    assert issubclass(LocalComputeSource, ComputeSource)
    assert parameters(LocalComputeSource)[:3] == ["max_parallel_jobs", "timeout", "show_output"]
    conf = LocalComputeSource().conf
    assert (conf.max_parallel_jobs, conf.timeout, conf.show_output) == (4, None, False)


def test_local_manager(run: Run) -> None:
    assert parameters(LocalManager)[:4] == [
        *("max_parallel_jobs", "timeout", "show_output", "cleanup_on_exit"),
    ]
    conf = LocalManager().conf
    assert (conf.max_parallel_jobs, conf.timeout, conf.show_output) == (4, None, False)
    assert conf.cleanup_on_exit is True


def test_basic_local_execution(run: Run) -> None:
    screen = run("from pathlib import Path\n" + BASIC).splitlines()
    states = [line for line in screen if line.startswith("Job ")]
    assert [line.rpartition(":")[0] for line in states] == ["Job local_test_0", "Job local_test_1"]
    assert {line.rpartition(" ")[2] for line in states} <= {"PENDING", "RUNNING", "COMPLETED"}
    # The program's end waits for its jobs, and what they print is shown as they print it.
    assert sorted(line for line in screen if line.startswith("[")) == [
        "[0] training with lr=0.001 epochs=10",
        "[1] training with lr=0.01 epochs=20",
    ]
    results = collect_results("outputs/local_test")
    assert [row["state"] for row in results] == ["COMPLETED", "COMPLETED"]
    assert [row["loss"] for row in results] == [0.001 / 10, 0.01 / 20]


def test_with_job_manager_integration(run: Run) -> None:
    screen = run(
        "from pathlib import Path\n"
        "params = [{'lr': 0.1, 'epochs': n} for n in (1, 2, 4)]\n"
        f"{WITH_JOB_MANAGER}"
        "print({job_id: str(state) for job_id, state in statuses.items()})\n"
        "print([(row['epochs'], row['loss']) for row in results])\n"
        "print(results.columns)\n"
    )
    *shown, statuses, losses, columns = screen.splitlines()
    assert statuses == str({f"local_sweep_{n}": "COMPLETED" for n in range(3)})
    assert losses == str([(n, 0.1 / n) for n in (1, 2, 4)])
    assert columns.startswith("['job', 'state', 'lr', 'epochs', 'loss', 'attempts', 'duration'")
    assert "local_sweep: 3 jobs: 3 completed" in shown


def test_advanced_configuration(run: Run) -> None:
    screen = run(
        "from hsm.core.local import LocalComputeSource\n"
        f"{ADVANCED}"
        "conf = local_source.conf\n"
        "print(conf.max_parallel_jobs, conf.timeout, conf.show_output)\n"
    )
    assert screen == "2 1800.0 True\n"


def test_hsm_config_example(run: Run) -> None:
    Path("hsm.yaml").write_text(HSM_CONFIG)
    resolved = resolve_local()
    written = yaml.safe_load(HSM_CONFIG)["local"]
    for name, value in written.items():
        assert getattr(resolved.conf, name) == value
        assert "hsm.yaml" in resolved.origins[name]
    assert LocalManager().conf == LocalComputeSource().conf == resolved.conf
    assert LocalComputeSource(timeout=5).conf.timeout == 5


def test_environment_variables(run: Run) -> None:
    program = "from hsm import LocalManager\nconf = LocalManager().conf\nprint(conf)\n"
    (Path("program.sh")).write_text(f"{ENVIRONMENT}{sys.executable} program.py\n")
    Path("program.py").write_text(program)
    shown = subprocess.check_output(["sh", "program.sh"], text=True)
    expected = LocalConf(max_parallel_jobs=8, timeout=7200.0, show_output=True)
    assert shown == f"{expected}\n"


def test_the_public_names_are_those_of_their_modules() -> None:
    import hsm

    assert hsm.LocalComputeSource is LocalComputeSource
    assert hsm.LocalManager is LocalManager
    assert hsm.JobManager is JobManager
    assert hsm.collect_results is collect_results
    assert set(hsm.__all__) == set(dir(hsm))
    for name in hsm.__all__:
        assert getattr(hsm, name) is not None
