"""`hsm show` and `hsm monitor` on the GPUs of jobs: what is known, and that the rest is unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.cli import Project
from helpers.written_sweeps import Sweeps
from hsm.core.record.gpu_facts import RecordedGpu
from hsm.core.record.job import JobState

GIB = 1 << 30
FOUR = [RecordedGpu(num, "NVIDIA RTX A6000", 48 * GIB) for num in range(4)]
MIG = "MIG-8f1c2d3e-0000-5555-8888-123456789abc"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def shown(project: Project, *words: str) -> dict[str, str]:
    """What `hsm show` prints, by the names of its lines; further lines of one are added to it."""
    facts: dict[str, str] = {}
    name = ""
    for line in project.here("show", "s", *words).out.splitlines():
        name = line[:12].strip() or name
        facts[name] = f"{facts.get(name, '')}\n{line[13:]}".strip()
    return facts


def test_a_job_tells_of_each_attempt(project: Project) -> None:
    sweep = Sweeps(project.folder / "s", found=FOUR, gpus=2)
    sweep.submit({"x": 1})
    sweep.retry(0, [0, 1], state=JobState.FAILED, cpu_seconds=1.0)
    sweep.end(0, gpus=[2, MIG], cpu_seconds=1.0, gpu_memory=6 * GIB, gpu_load=83.25)
    sweep.journal.close("finished")
    told = shown(project, "0")
    assert told["attempt 1"].endswith("\nGPUs 0,1, peak GPU memory unknown, mean load unknown")
    assert told["attempt 2"].endswith(f"\nGPUs 2,{MIG}, peak GPU memory 6.0 GiB, mean load 83%")
    facts = ("gpus", "gpu_memory", "gpu_load")
    attempts = project.here("show", "s", "0", "--json").json["attempts"]
    assert [[attempt[fact] for fact in facts] for attempt in attempts] == [
        [[0, 1], None, None],
        [[2, MIG], 6 * GIB, 83.25],
    ]


def test_of_a_running_job_nothing_is_said_that_only_its_end_tells(project: Project) -> None:
    sweep = Sweeps(project.folder / "s", found=FOUR, gpus=1)
    sweep.submit({"x": 1}, {"x": 2})
    sweep.start(0, gpus=[3])
    sweep.start(1)
    assert shown(project, "0")["attempt 1"].endswith(", pid 42\nGPU 3")
    assert "GPU" not in shown(project, "1")["attempt 1"]
    once = project.here("monitor", "s", "--once").out.splitlines()
    assert once[-3].split() == ["job", "overrides", "time", "memory", "gpu", "last", "output"]
    assert once[-2].split()[-1] == "3"
    running = project.here("monitor", "s", "--json").json["running"]
    assert [(job["gpus"], job["gpu_memory"]) for job in running] == [([3], None), ([], None)]
    sweep.journal.close("finished")


def test_without_gpus_monitor_has_no_column(project: Project) -> None:
    sweep = Sweeps(project.folder / "s")
    sweep.submit({"x": 1})
    sweep.start(0)
    assert "gpu" not in project.here("monitor", "s", "--once").out
    sweep.journal.close("finished")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"gpus": 1}, "1 per job, of 4 GPUs (NVIDIA RTX A6000, 48 GiB): 0,1,2,3"),
        ({"gpus": 0.5}, "0.5 per job, of 4 GPUs (NVIDIA RTX A6000, 48 GiB): 0,1,2,3"),
        (
            {"gpu_memory": 10 * GIB},
            "1 per job with 10 GiB, of 4 GPUs (NVIDIA RTX A6000, 48 GiB): 0,1,2,3",
        ),
        (
            {"gpus": 2, "gpu_memory": 10 * GIB},
            "2 per job with 10 GiB on each, of 4 GPUs (NVIDIA RTX A6000, 48 GiB): 0,1,2,3",
        ),
        ({"gpus": 0}, "none: hidden from jobs"),
        ({}, None),
    ],
)
def test_a_sweep_tells_what_it_gave_its_jobs(
    project: Project, settings: dict[str, Any], told: str | None
) -> None:
    Sweeps(project.folder / "s", found=FOUR, **settings).journal.close("finished")
    assert shown(project).get("gpus") == told
    found = [{"id": num, "name": "NVIDIA RTX A6000", "memory": 48 * GIB} for num in range(4)]
    memory, per_job = settings.get("gpu_memory"), settings.get("gpus")
    as_json = {"per_job": per_job, "memory_per_job": memory, "found": found}
    assert project.here("show", "s", "--json").json["gpus"] == (as_json if settings else None)


def test_several_models_and_none_that_is_known(project: Project) -> None:
    found = [*FOUR[:2], RecordedGpu(2, "NVIDIA T4"), RecordedGpu(3)]
    Sweeps(project.folder / "s", found=found, gpus=1).journal.close("finished")
    models = "2 NVIDIA RTX A6000, 48 GiB; 1 NVIDIA T4; 1 unknown"
    assert shown(project)["gpus"] == f"1 per job, of 4 GPUs ({models}): 0,1,2,3"
    Sweeps(project.folder / "t", gpus=1).journal.close("finished")
    assert "gpus         1 per job\n" in project.here("show", "t").out


def test_a_sweep_says_with_its_own_flag_that_jobs_see_the_same_gpus(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    words = ("sweep", "x=1,2", "--progress", "plain", "--", "true")
    hint = "each job sees all 3 GPUs; --gpus 1 gives each its own"
    assert project.here(*words).out.count(hint) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "GPU" not in project.here(*words).out
