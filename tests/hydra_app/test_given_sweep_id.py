"""`hydra.launcher.sweep_id`: a sweep of Hydra's gets its id, as with `hsm sweep --sweep-id`."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.hydra import Finished, read_journal, run_sweep, succeed, write_files
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

_APP = """
    import hydra

    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        return cfg.x

    if __name__ == "__main__":
        main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, {"train.py": _APP})
    return tmp_path


def _refused(done: Finished, said: str) -> None:
    assert done.code == 1
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_sweep_has_the_id_that_it_is_given(folder: Path) -> None:
    named = ("+x=1,2", "hydra.launcher.sweep_id=mine")
    done = succeed(run_sweep(folder, *named, "hydra.sweeper.max_batch_size=1"))
    assert "mine: 2 jobs: 2 completed" in done.out
    sweep = read_sweep(folder / "sweep")
    assert sweep.sweep_id == "mine"
    assert sweep.jobs[1].job_id == "mine_1"
    _refused(
        run_sweep(folder, *named, sweep_dir="other"),
        f"hydra.launcher.sweep_id 'mine' is taken by the sweep in {folder}/sweep; hydra.sweep.dir="
        f"{folder}/sweep hydra.launcher.resume=true resumes it",
    )
    assert not (folder / "other").exists()


@pytest.mark.slow
def test_a_resumed_sweep_keeps_its_id(folder: Path) -> None:
    succeed(run_sweep(folder, "+x=1", "hydra.launcher.sweep_id=mine"))
    before = read_journal(folder / "sweep")
    resume = ("+x=1,2", "hydra.launcher.resume=true")
    _refused(
        run_sweep(folder, *resume, "hydra.launcher.sweep_id=other"),
        f"hydra.launcher.sweep_id 'other': the sweep in {folder}/sweep has the id 'mine' and keeps "
        "it; leave hydra.launcher.sweep_id out",
    )
    assert read_journal(folder / "sweep") == before
    for name in ((), ("hydra.launcher.sweep_id=mine",)):
        assert "mine: 1 job: 1 completed" in succeed(run_sweep(folder, *resume, *name)).out
        resume = ("+x=1,2,3", "hydra.launcher.resume=true")


@pytest.mark.slow
@pytest.mark.parametrize("sweep_id", ["last", "a/b", ".hidden", "'-x'", "''"])
def test_what_is_no_id(folder: Path, sweep_id: str) -> None:
    done = run_sweep(folder, "+x=1", f"hydra.launcher.sweep_id={sweep_id}")
    _refused(done, "hydra.launcher.sweep_id must be a name for a directory other than 'last'")
    assert not (folder / "sweep").exists()
