"""A Hydra sweep in another place takes a launcher class of a few lines."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract_support import start_python
from helpers.processes import RunningSweep, first_fast
from hsm import read_sweep

LAUNCHER = """
from hydra.core.config_store import ConfigStore
from hydra_plugins.hsm_local_launcher.launcher import HsmLocalLauncher


class PlainLauncher(HsmLocalLauncher):
    @staticmethod
    def make_source(conf):
        from hsm.core.engine.sweep_source import SweepSource
        from plain_backend import PlainBackend

        return SweepSource(PlainBackend(), conf)


target = f"{PlainLauncher.__module__}.PlainLauncher"
node = {"_target_": target, "max_parallel_jobs": 2, "max_retries": 0, "timeout": None}
ConfigStore.instance().store(group="hydra/launcher", name="plain", node=node)
"""
APP = """
import os, sys, time
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig


@hydra.main(version_base=None, config_path=None)
def main(cfg):
    print("x is", cfg.x)
    Path("here").touch()
    if cfg.x == 99:
        raise ValueError(f"no {cfg.x}")
    if cfg.x == 60:
        Path(os.environ["HSM_SWEEP_DIR"], "pid").write_text(str(os.getpid()))
        time.sleep(60)
    num = HydraConfig.get().job.num
    return {"x": cfg.x, "num": num, "argv": sys.argv[0], "parent": os.getppid()}


if __name__ == "__main__":
    main()
"""


@pytest.fixture
def app(project_dir: Path) -> Path:
    """A Hydra app with a plugin of its own."""
    plugin = project_dir / "hydra_plugins" / "plain_launcher" / "__init__.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(LAUNCHER)
    (project_dir / "app.py").write_text(APP)
    return project_dir


@contextmanager
def sweep(app: Path, launcher: str, *overrides: str) -> Iterator[RunningSweep]:
    """A multirun of the app that runs into ``sweep``."""
    words = ["app.py", "-m", f"hydra/launcher={launcher}", "hydra.sweep.dir=sweep", *overrides]
    with start_python(app, words, [Path(__file__).parent]) as running:
        yield running


@pytest.mark.parametrize("launcher", first_fast("plain", "hsm_local"))
def test_a_sweep_runs_there_as_here(app: Path, launcher: str) -> None:
    with sweep(app, launcher, "+x=1,2,3") as running:
        done = running.finish()
        running.assert_all_gone()
        assert os.listdir(running.temporary) == []
    assert done.code == 0, done.screen
    assert done.states == ["COMPLETED"] * 3
    known = [(value["x"], value["num"], value["argv"]) for value in done.values]
    assert known == [(x, x - 1, "app.py") for x in (1, 2, 3)]
    assert [done.log(num, "stdout") for num in range(3)] == [f"x is {x}\n" for x in (1, 2, 3)]
    assert done.sweep.closed == "finished"
    assert [job.params for job in done.jobs.values()] == [{"x": x} for x in (1, 2, 3)]
    for num in range(3):
        assert (app / "sweep" / str(num) / ".hydra" / "overrides.yaml").exists()
        assert (app / "sweep" / str(num) / "stdout.log").read_text() == f"x is {num + 1}\n"
    assert "3 jobs: 3 completed" in done.screen
    # Only here a keeper is between the two.
    is_child = done.sweep.header["pid"] == int(done.values[0]["parent"])
    assert is_child == (launcher == "plain")


@pytest.mark.slow
def test_a_job_that_fails_there_fails_the_sweep(app: Path) -> None:
    with sweep(app, "plain", "+x=1,99") as running:
        done = running.finish()
    assert done.code == 1
    assert done.states == ["COMPLETED", "FAILED"]
    assert done.jobs[1].ending() == "ValueError: no 99"
    assert "ValueError: no 99" in done.screen
    assert done.jobs[0].value["parent"] == done.sweep.header["pid"]


@pytest.mark.slow
def test_its_settings_are_those_of_hsm_local(app: Path) -> None:
    settings = ("hydra.launcher.timeout=2", "hydra.launcher.max_parallel_jobs=1")
    with sweep(app, "plain", "+x=60", *settings) as running:
        done = running.finish()
        running.assert_all_gone()
    assert done.states == ["TIMEOUT"]
    assert done.jobs[0].ending() == "timeout after 2 s"
    first = json.loads((app / "sweep" / ".hsm" / "journal.jsonl").read_text().splitlines()[0])
    assert (first["settings"]["timeout"], first["settings"]["max_parallel_jobs"]) == (2, 1)


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_there(app: Path) -> None:
    with sweep(app, "plain", "+x=60,1") as running:
        running.wait_for_files("sweep/pid")
        running.process.send_signal(signal.SIGINT)
        done = running.finish()
        running.assert_all_gone()
        assert os.listdir(running.temporary) == []
    assert done.code == 130, done.screen
    assert read_sweep(app / "sweep").closed == "interrupted by SIGINT"
