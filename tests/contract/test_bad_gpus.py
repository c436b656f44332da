"""A sweep on a machine of which one GPU is bad: its jobs run on the others, and none is wasted."""

from __future__ import annotations

from pathlib import Path

from helpers.reliability import Recorder, conf, points
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.locks import GpuLocks
from hsm.core.gpu.pool import GpuPool
from hsm.core.gpu.visible import FoundGpus
from hsm.core.record.job import JobState
from hsm.core.record.sweep import Sweep, read_sweep
from plain_backend import PlainBackend

ECC = "RuntimeError: CUDA error: uncorrectable ECC error encountered"
#: Waits until its start is on record, which says where it runs.
COMMAND = """
start='"start","job":'$HSM_JOB_NUM',"attempt":'$HSM_ATTEMPT,
until line=$(grep "$start" $HSM_SWEEP_DIR/.hsm/journal.jsonl); do sleep 0.02; done
case "$line" in *'"gpus":[1]'*) {says}; exit 1;; esac
sleep 0.3
"""


def swept(folder: Path, says: str, **settings: object) -> tuple[Sweep, list[str]]:
    """Twelve jobs on three GPUs, of which the one with number 1 is bad."""
    found = FoundGpus(tuple(Gpu(str(index), index=index) for index in range(3)))
    chosen = conf(gpus=1, max_parallel_jobs=3, **settings)
    backend, recorder = PlainBackend(), Recorder()
    held = GpuLocks(folder / "locks")
    gpus = backend.gpus = GpuPool(found, chosen, locks=held, choose=lambda ids: ())
    command = ["sh", "-c", COMMAND.replace("{says}", says)]
    with SweepSource(backend, chosen, observers=[recorder]) as made:
        made.submit_jobs(points(*range(12)), "s", folder / "sweep", command=command)
        made.wait()
    gpus.close()
    return read_sweep(folder / "sweep"), recorder.messages


def test_jobs_that_a_driver_kills_run_elsewhere(tmp_path: Path) -> None:
    sweep, messages = swept(tmp_path, f"echo '{ECC}' >&2")
    jobs = list(sweep.jobs.values())
    assert {job.state for job in jobs} == {JobState.COMPLETED}
    killed = [job for job in jobs if len(job.attempts) > 1]
    assert len(killed) == 2
    for job in killed:
        assert job.attempts[0].reason == f"driver error on GPU 1: {ECC}"
        assert [attempt.gpus for attempt in job.attempts[:1]] == [[1]]
    nums = ",".join(str(job.num) for job in killed)
    assert messages == [f"GPU 1 is left out: driver errors killed jobs {nums} on it ({ECC})"]


def test_a_gpu_on_which_jobs_fail_is_left_out(tmp_path: Path) -> None:
    """They fail after another one has completed, or there would be no telling."""
    completed = """grep -q '"state":"COMPLETED"' $HSM_SWEEP_DIR/.hsm/journal.jsonl"""
    sweep, messages = swept(tmp_path, f"until {completed}; do sleep 0.02; done")
    failed = [job for job in sweep.jobs.values() if job.state is JobState.FAILED]
    assert len(failed) == 2
    assert all(job.attempts[0].gpus == [1] for job in failed)
    (message,) = messages
    assert message.startswith("GPU 1 is left out: jobs ")
