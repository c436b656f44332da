"""Sweeps on a machine whose driver is played: who uses a GPU, and what becomes of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from helpers.cli import Project, Ran
from helpers.fake_nvml.fake_gpus import GIB, FakeNvml
from helpers.gpus import needs_drivers_pids
from helpers.processes import wait_for
from hsm.core.record.job import JobState

#: Takes memory of its GPUs, and stays until it is told to go on, or for a moment.
_JOB = """\
import json, os, sys, time
from fake_gpus import GIB, FakeNvml

num, attempt = int(os.environ["HSM_JOB_NUM"]), int(os.environ["HSM_ATTEMPT"])
mine = json.loads(os.environ["HSM_GPUS"])
driver = FakeNvml()
with open("noted", "a") as file:
    print(json.dumps({"num": num, "gpus": os.environ["CUDA_VISIBLE_DEVICES"]}), file=file)
for gpu in mine:
    if gpu["index"] is not None and not gpu["uuid"].startswith("MIG"):
        stays = os.environ.get("STAYS") == str(num)
        driver.add_process(gpu["index"], os.getpid(), 6 * GIB, stays=stays)
until = time.monotonic() + float(os.environ.get("SECONDS_OF_JOBS", 0))
is_held = str(num) in os.environ.get("HELD", "").split()
while time.monotonic() < until or (is_held and not os.path.exists("go")):
    time.sleep(0.01)
if os.environ.get("OUT_OF_MEMORY") == f"{num} {attempt}":
    sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has")
if os.environ.get("BROKEN") == os.environ["CUDA_VISIBLE_DEVICES"]:
    sys.exit("RuntimeError: CUDA error: uncorrectable ECC error encountered")
"""


class Machine:
    """A machine with GPUs, and a project on it."""

    def __init__(self, project: Project, gpus: int) -> None:
        self.project = project
        self.driver = FakeNvml(project.folder / "nvml.json", gpus)
        project.write("job.py", _JOB)

    def env(self, **more: str) -> dict[str, str]:
        return {**self.driver.env(), "HSM_GPU_LOCKS": str(self.project.folder / "locks"), **more}

    def sweep(self, *words: str, code: int = 0, env: Mapping[str, str] | None = None) -> Ran:
        """Run a sweep of the job to its end."""
        return self.project.hsm(
            *("sweep", "--script", "job.py", "--sweep-id", "s", *words),
            code=code,
            **self.env(**(env or {})),
        )

    @contextmanager
    def running(self, *words: str, **env: str) -> Iterator[subprocess.Popen[str]]:
        words = ("sweep", "--script", "job.py", "--sweep-id", "s", *words)
        with self.project.start(*words, **self.env(**env)) as launcher:
            yield launcher

    def notes(self) -> list[dict[str, Any]]:
        path = self.project.folder / "noted"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def used(self) -> list[str]:
        return [note["gpus"] for note in self.notes()]

    def explain(self) -> str:
        return self.project.hsm("explain", "s", code=None).out


@pytest.fixture
def machine(project: Project) -> Machine:
    return Machine(project, 4)


@pytest.fixture
def colleague() -> Iterator[int]:
    """A process that is none of the sweep's."""
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()


@needs_drivers_pids
def test_a_colleagues_gpu_is_left_alone_until_it_is_free(machine: Machine, colleague: int) -> None:
    machine.driver.add_process(1, colleague, 18 * GIB)
    machine.sweep("--gpus", "1", "x=range(8)")
    assert set(machine.used()) == {"0", "2", "3"}


@needs_drivers_pids
def test_people_learn_whom_a_sweep_waits_for(machine: Machine, colleague: int) -> None:
    for index in range(4):
        machine.driver.add_process(index, colleague, 18 * GIB)
    with machine.running("--gpus", "1", "x=range(2)") as launcher:
        waits = f"pid {colleague} (sleep)"
        wait_for(lambda: f"{waits} with 18 GiB" in machine.explain(), "the reason")
        assert not machine.notes()
        for index in range(4):
            machine.driver.remove_process(index, colleague)
        out, _ = launcher.communicate()
        assert launcher.returncode == 0
    assert waits in out
    assert len(machine.notes()) == 2


@needs_drivers_pids
def test_what_is_ignored_keeps_nobody_away(machine: Machine, colleague: int) -> None:
    machine.driver.add_process(0, colleague, 18 * GIB)
    machine.sweep("--gpus", "1", "--gpu-ids", "0", "--gpu-busy", "ignore", "x=range(2)")
    assert machine.used() == ["0", "0"]


@needs_drivers_pids
def test_a_sweep_gives_up_in_time(machine: Machine, colleague: int) -> None:
    machine.driver.add_process(2, colleague, 18 * GIB)
    ran = machine.sweep("--gpus", "1", "--gpu-ids", "2", "--gpu-wait", "1", "x=range(2)", code=1)
    assert "gpu_wait" in ran.out + ran.err
    assert f"pid {colleague}" in ran.out + ran.err
    assert machine.project.states("s") == ["CANCELLED", "CANCELLED"]


@needs_drivers_pids
def test_memory_that_stays_behind_keeps_the_next_job_away(machine: Machine) -> None:
    settings = ("--gpus", "1", "--gpu-ids", "0", "--gpu-settle", "0.2", "x=range(2)")
    with machine.running(*settings, STAYS="0") as launcher:
        wait_for(lambda: "GPU 0" in machine.explain() and len(machine.notes()) == 1, "the wait")
        job = machine.project.sweep("s").jobs[0]
        # Of 6 GiB, or of the process if there was a look while it ran.
        wait_for(lambda: "of job 0 " in machine.explain(), "what still holds it")
        pid = json.loads(machine.driver.path.read_text())["gpus"][0]["processes"][0]["pid"]
        assert job.attempts
        machine.driver.remove_process(0, pid)
        out, err = launcher.communicate()
        assert launcher.returncode == 0, out + err
    assert machine.used() == ["0", "0"]


@pytest.mark.parametrize("is_split", [False, True])
def test_numbers_that_may_be_those_of_any_gpu_are_told(machine: Machine, is_split: bool) -> None:
    machine.driver.set_gpu(1, name="a faster one")
    if is_split:
        machine.driver.split(2, 2)
    inherited = {"CUDA_VISIBLE_DEVICES": "0,1"}
    ran = machine.sweep("--gpus", "1", "x=range(2)", env=inherited)
    remedy = "name them GPU-… or MIG-…" if is_split else "set CUDA_DEVICE_ORDER=PCI_BUS_ID"
    text = "CUDA numbers GPUs in an order of its own, so that nobody knows these"
    assert f"CUDA_VISIBLE_DEVICES=0,1: {text}: {remedy}; hsm counts GPUs" in ran.out
    words = ("--gpu-memory", "1GiB", "--sweep-id", "t", "x=1")
    assert f"unknown here: CUDA_VISIBLE_DEVICES=0,1: {text}" in (
        machine.sweep(*words, env=inherited, code=2).err
    )


def test_numbers_of_the_driver_are_known(machine: Machine) -> None:
    machine.driver.set_gpu(1, name="a faster one")
    inherited = {"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    ran = machine.sweep("--gpus", "1", "x=range(2)", env=inherited)
    assert "a faster one" in ran.out
    assert "nobody knows" not in ran.out


def test_a_lost_gpu_is_left_out_and_named(machine: Machine) -> None:
    machine.driver.lose(2)
    ran = machine.sweep("--gpus", "1", "x=range(8)")
    assert set(machine.used()) == {"0", "1", "3"}
    assert "GPU 2 is left out" in ran.out + ran.err


def test_without_any_gpu_left_the_sweep_stops(machine: Machine) -> None:
    with machine.running("--gpus", "1", "x=range(8)", "--kill-grace", "0.1", HELD="0") as launcher:
        wait_for(machine.notes, "a job")
        for index in range(4):
            machine.driver.lose(index)
        (machine.project.folder / "go").touch()
        out, err = launcher.communicate()
    assert launcher.returncode == 1
    assert "no GPU is left" in out + err
    assert "CANCELLED" in machine.project.states("s")


def test_a_driver_error_moves_a_job_elsewhere_at_no_retry(machine: Machine) -> None:
    machine.sweep("--gpus", "1", "--gpu-ids", "0,1", "x=range(1)", env={"BROKEN": "0"})
    assert machine.used() == ["0", "1"]
    (first, second) = machine.project.sweep("s").jobs[0].attempts
    assert first.ending is not None
    assert "driver error on GPU 0" in str(first.ending.reason)
    assert second.gpus == [1]


def test_out_of_memory_is_told_and_the_retry_runs_alone(machine: Machine) -> None:
    words = ("--gpu-memory", "10GiB", "--gpu-ids", "3", "--max-retries", "1", "--retry-delay", "0")
    env = {"OUT_OF_MEMORY": "0 1", "SECONDS_OF_JOBS": "1"}
    machine.sweep(*words, "x=range(2)", env=env)
    first, second = machine.project.sweep("s").jobs[0].attempts
    other = machine.project.sweep("s").jobs[1].attempts[0]
    assert first.ending is not None
    assert first.ending.state is JobState.OUT_OF_MEMORY
    assert "tried to allocate 20.00 GiB; job 1 was on GPU 3 too" in str(first.ending.reason)
    assert second.started is not None
    assert other.ended is not None
    assert second.started >= other.ended


@needs_drivers_pids
def test_peaks_are_on_record(machine: Machine) -> None:
    ran = machine.sweep(
        "--gpus", "1", "--gpu-ids", "0,1", "x=range(4)", env={"SECONDS_OF_JOBS": "1.5"}
    )
    for job in machine.project.sweep("s").jobs.values():
        assert job.attempts[-1].gpu_memory == 6 * GIB
    assert "gpus=0.33 would run 3 on each" in ran.out
    table = machine.project.hsm("collect-results", "s", "--format", "json").json
    assert {row["gpu_memory"] for row in table} == {6 * GIB}


def test_jobs_share_by_memory(machine: Machine) -> None:
    words = ("--gpu-memory", "10GiB", "--gpu-ids", "0,1", "x=range(4)")
    ran = machine.sweep(*words, env={"SECONDS_OF_JOBS": "1"})
    assert "4 jobs at once with 10 GiB each: 2 on each of 2 GPUs" in ran.out + ran.err
    assert sorted(machine.used()) == ["0", "0", "1", "1"]


def test_parts_of_a_gpu_are_given_by_their_names(machine: Machine) -> None:
    machine.driver.split(1, 2)
    machine.sweep("--gpus", "1", "x=range(10)", env={"SECONDS_OF_JOBS": "0.3"})
    whole = {name for name in machine.used() if not name.startswith("MIG-")}
    assert len(set(machine.used()) - whole) == 2
    assert "1" not in whole


@pytest.mark.slow
def test_a_driver_that_hangs_stops_no_sweep(machine: Machine) -> None:
    with machine.running("--gpus", "1", "x=range(8)", HELD="0 1 2 3") as launcher:
        wait_for(lambda: len(machine.notes()) == 4, "jobs")
        machine.driver.hang("nvmlDeviceGetCount")
        (machine.project.folder / "go").touch()
        out, err = launcher.communicate()
    assert launcher.returncode == 0, out + err
    assert (out + err).count("has given no answer for 10 s") == 1
    assert len(machine.notes()) == 8


@needs_drivers_pids
def test_two_sweeps_see_each_other_as_sweeps(machine: Machine) -> None:
    with machine.running("--gpus", "1", "--gpu-ids", "0", "x=range(1)", HELD="0") as other:
        wait_for(machine.notes, "its job")
        words = (
            "--gpus",
            "1",
            "--gpu-ids",
            "0",
            "--sweep-id",
            "t",
            "--gpu-wait",
            "1",
            "x=range(1)",
        )
        ran = machine.sweep(*words, code=1)
        assert f"another sweep (pid {other.pid}" in ran.out + ran.err
        (machine.project.folder / "go").touch()
        other.communicate()
