"""Real GPUs, where there are any: start_method auto, and nothing left that holds GPU memory."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from helpers.processes import PATIENCE, App, wait_for

pytestmark = pytest.mark.skipif(
    not Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is None,
    reason="no NVIDIA GPU here",
)

USES_GPU = """
    import torch

    def job(cfg):
        return float(torch.full((1000,), cfg.job, device="cuda").sum().item())
"""
HOLDS_GPU = """
    import torch

    def job(cfg):
        if cfg.job in (0, 1):
            held = torch.zeros(1 << 31, dtype=torch.uint8, device="cuda")
            torch.cuda.synchronize()
            note(f"holds{cfg.job}")
            stay()
        return cfg.job
"""


@pytest.fixture(autouse=True)
def _needs_torch() -> None:
    torch = pytest.importorskip("torch")
    if not torch.version.cuda:
        pytest.skip("a build of torch without CUDA")


def memory_used() -> int:
    """MiB in use on all GPUs together."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sum(int(line) for line in output.split())


def test_jobs_are_forked_where_only_they_use_the_gpu(tmp_path: Path) -> None:
    done = App(tmp_path, USES_GPU).run("job=range(4)", seconds=2 * PATIENCE)
    assert done.states == ["COMPLETED"] * 4, done.screen
    assert done.values == [0.0, 1000.0, 2000.0, 3000.0]
    assert "start_method: spawn" not in done.screen


def test_jobs_are_spawned_where_the_script_has_initialised_the_driver(tmp_path: Path) -> None:
    body = USES_GPU.replace("import torch\n", "import torch\n    torch.ones(1, device='cuda')\n", 1)
    done = App(tmp_path, body).run("job=range(4)", seconds=2 * PATIENCE)
    assert done.states == ["COMPLETED"] * 4, done.screen
    assert done.values == [0.0, 1000.0, 2000.0, 3000.0]
    assert "start_method: spawn" in done.screen
    assert "GPU driver" in done.screen


def test_a_job_that_timed_out_holds_no_gpu_memory(tmp_path: Path) -> None:
    before = memory_used()
    done = App(tmp_path, HOLDS_GPU).run(timeout=20, kill_grace=1, seconds=2 * PATIENCE)
    assert done.states == ["TIMEOUT"] * 2 + ["COMPLETED"] * 4, done.screen
    wait_for(lambda: memory_used() <= before + 100, "the GPU's memory to be free again")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_ended_sweep_holds_no_gpu_memory(tmp_path: Path, number: int) -> None:
    before = memory_used()
    with App(tmp_path, HOLDS_GPU).start(kill_grace=1) as running:
        running.wait_for_files("holds0", "holds1")
        assert memory_used() > before + 4000
        running.process.send_signal(number)
        running.assert_all_gone()
    wait_for(lambda: memory_used() <= before + 100, "the GPU's memory to be free again")
