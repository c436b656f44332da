"""What the end of a Hydra sweep, and of a sweep of a Python program, says came out."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.hydra import run_sweep, succeed, write_files
from hsm import LocalManager
from hsm.core.record.sweep import read_sweep

_APP = """
    import hydra


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        if cfg.lr > 5:
            raise ValueError(f"the rate {cfg.lr} is too high")
        return {"loss": float(cfg.lr) ** 2, "epochs": 3}


    if __name__ == "__main__":
        main()
"""


@pytest.mark.slow
def test_a_hydra_sweep_says_which_job_was_best_and_a_resumed_one_of_all(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": _APP})
    done = run_sweep(tmp_path, "+lr=2,1,6,7", "hydra.launcher.direction=minimize")
    assert done.code == 1
    sweep_id = read_sweep(tmp_path / "sweep").sweep_id
    assert (
        "best by loss (lowest of 2):\n  job  lr  loss\n    1   1     1\n    0   2     4\n"
        "2 jobs FAILED: ValueError: the rate 6 is too high (2-3)\n"
        f"table:   hsm collect-results {sweep_id}\n"
        f"failure: hsm show {sweep_id} 2\n"
        "results: sweep\n"
    ) in done.out
    goal = ("hydra.launcher.direction=maximize", "hydra.launcher.metric=loss")
    again = succeed(run_sweep(tmp_path, "+lr=1,3", "hydra.launcher.resume=true", *goal))
    assert "best by loss (highest of 3):\n  job  lr  loss\n    4   3     9\n    0 " in again.out


def test_a_local_manager_takes_the_goal_like_any_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    points = [{"x": x} for x in (1, 3, 2)]
    with LocalManager(metric="square", direction="maximize", progress="plain") as manager:
        results = manager.run(points, function=lambda p: {"square": p["x"] ** 2, "x": 0})
    assert "best by square (highest of 3):\n  job  x  square\n    1  3       9\n" in (
        capsys.readouterr().out
    )
    assert results.best()["x"] == 3
    assert results.best(direction="minimize")["x"] == 1
