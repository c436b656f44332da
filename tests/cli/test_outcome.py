"""What came out of a sweep, as `hsm sweep` and `hsm monitor` say it."""

from __future__ import annotations

import json

import pytest

from helpers.cli import Project

_SCRIPT = """\
import argparse, json, os

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--seed", type=int)
asked = parser.parse_args()
if asked.lr > 1:
    raise ValueError(f"the rate {asked.lr} of seed {asked.seed} is too high")
with open(os.environ["HSM_JOB_DIR"] + "/metrics.json", "w") as file:
    json.dump({"val": {"loss": asked.lr + asked.seed}, "epochs": 10}, file)
"""


@pytest.fixture
def swept(project: Project) -> str:
    """A sweep of a script whose every second job fails; returns what was printed."""
    project.write("train.py", _SCRIPT)
    points = ("lr=0.5,10", "seed=range(4)")
    options = ("--sweep-id", "s", "--metric", "val.loss", "--minimize")
    command = ("--", "python", "train.py", "--lr={lr}", "--seed={seed}")
    return project.here("sweep", *points, *options, *command, code=1).out


_BEST = """\
best by val.loss (lowest of 4):
  job   lr  seed  val.loss
    0  0.5     0       0.5
    1  0.5     1       1.5
    2  0.5     2       2.5
    3  0.5     3       3.5
4 jobs FAILED: exit code 1: ValueError: the rate 10.0 of seed 0 is too high (4-7)
"""


def test_the_best_jobs_and_one_line_for_failures_of_a_kind(swept: str) -> None:
    assert swept.count("Traceback (most recent call last)") == 1
    head, _, end = swept.partition("s: 8 jobs: 4 completed, 4 failed\n")
    assert head.count("FAILED after") == 4
    assert end.partition("\n")[2] == (
        f"{_BEST}table:   hsm collect-results s\nfailure: hsm show s 4\n"
        "results: outputs/s\nlogs:    outputs/s/.hsm/logs\n"
    )


@pytest.mark.slow
def test_hsm_monitor_ranks_by_the_record_or_as_it_is_told(swept: str, project: Project) -> None:
    for once in ((), ("--once",)):
        told = project.here("monitor", "s", *once, code=None).out
        assert _BEST in told
        assert told.count("Traceback (most recent call last)") == 1
        told = project.here("monitor", "s", *once, "--maximize", code=None).out
        assert "best by val.loss (highest of 4):\n  job   lr  seed  val.loss\n    3 " in told
        told = project.here("monitor", "s", *once, "--metric", "epochs", code=None).out
        assert "best by epochs (lowest of 4):\n" in told
    told = project.here("monitor", "s", "--once", "--metric", "val.los").out
    assert "'val.los' (did you mean val.loss?); there are: val.loss, epochs\n" in told
    refused = project.here("monitor", "s", "--metric", "", code=2).err
    assert refused == "hsm: --metric must be a name, or none, not ''\n"


@pytest.mark.slow
def test_json_has_both_ends_and_the_failures(swept: str, project: Project) -> None:
    document = project.here("monitor", "s", "--json").json
    first = {"job": 0, "value": 0.5, "params": {"lr": 0.5, "seed": 0}}
    last = {"job": 3, "value": 3.5, "params": {"lr": 0.5, "seed": 3}}
    assert (document["metric"], document["direction"]) == ("val.loss", "minimize")
    assert (document["best"], document["lowest"], document["highest"]) == (first, first, last)
    (failure,) = document["failures"]
    assert (failure["state"], failure["jobs"]) == ("FAILED", [4, 5, 6, 7])
    assert failure["message"].startswith("exit code 1: ValueError: the rate 10.0")
    document = project.here("monitor", "s", "--json", "--maximize").json
    assert (document["best"], document["lowest"], document["highest"]) == (last, first, last)


@pytest.mark.slow
def test_a_resumed_sweep_keeps_its_goal_and_ranks_all_its_jobs(
    swept: str, project: Project
) -> None:
    told = project.here("sweep", "--resume", "s", "lr=0.25,0.5", "seed=0").out
    assert "best by val.loss (lowest of 5):\n  job    lr  seed  val.loss\n    8  0.25 " in told
    told = project.here("sweep", "--resume", "s", "lr=0.25", "seed=0", "--maximize").out
    assert "best by val.loss (highest of 5):\n" in told
    assert "best by val.loss (highest of 5):\n" in project.here("monitor", "s", "--once").out


@pytest.mark.parametrize("direction", ["minimize", None])
def test_the_command_at_the_end_knows_the_best_job(project: Project, direction: str | None) -> None:
    project.write("hsm.yaml", json.dumps({"local": {"direction": direction, "metric": "x"}}))
    tell = "sh -c 'echo \"best: $HSM_BEST_JOB $HSM_BEST_VALUE.\" > best.txt'"
    write = ("--", "sh", "-c", "echo '{{\"x\": {x}}}' > {job_dir}/results.json")
    project.here("sweep", "x=3,0.5,2", "--on-sweep-end", tell, *write)
    told = (project.folder / "best.txt").read_text()
    assert told == ("best: 1 0.5.\n" if direction else "best:  .\n")
