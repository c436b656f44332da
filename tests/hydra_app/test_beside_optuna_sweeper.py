"""hsm_optuna and hydra-optuna-sweeper in one environment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.hydra import launcher_args, run_python, succeed, write_files
from helpers.optuna_sweeper import OPTUNA, needs_optuna_sweeper
from helpers.processes import start_program
from hsm.core.record.sweep import read_sweep

pytestmark = [pytest.mark.slow, pytest.mark.thorough, *needs_optuna_sweeper]
is_old = pytest.mark.skipif(OPTUNA >= (4, 9), reason="Optuna is new enough for hsm")
is_new = pytest.mark.skipif(OPTUNA < (4, 9), reason="Optuna is too old for hsm")

_APP = """
    import hydra


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        return (cfg.x - 1) ** 2


    if __name__ == "__main__":
        main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, {"app.py": _APP})
    return tmp_path


def words(sweeper: str, *more: str) -> list[str]:
    study = ("hydra.sweeper.n_trials=4", "+x=interval(-5, 5)", "hydra.sweep.dir=sweep")
    return ["app.py", "-m", *launcher_args(), f"hydra/sweeper={sweeper}", *study, *more]


@is_old
def test_an_optuna_that_is_too_old_is_refused_in_a_line(folder: Path) -> None:
    done = run_python(folder, *words("hsm_optuna"))
    assert done.code == 1
    first, *others = done.err.strip().splitlines()
    assert first.startswith("hydra.sweeper: Optuna ")
    assert "needs 4.9 to 5: pip install 'hpc-sweep-manager[optuna]'" in first
    assert [line for line in others if line and "HYDRA_FULL_ERROR" not in line] == []
    assert not (folder / "sweep" / ".hsm").exists()


@is_old
def test_the_command_refuses_it_as_well(folder: Path) -> None:
    hsm = [sys.executable, "-m", "hsm.cli.main", "sweep", "--sweep-dir", "sweep"]
    study = ["--method", "optuna", "x=interval(0, 1)", "--", "echo", "{x}"]
    with start_program(folder, [*hsm, *study]) as running:
        done = running.process.wait(60)
    assert done == 2
    assert not (folder / "sweep").exists()


@is_new
@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "nsgaii"])
def test_the_other_sweepers_samplers_are_taken(folder: Path, sampler: str) -> None:
    """Its nodes have these names, so hsm does not register its own; but some lack a seed."""
    more = [f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.sampler.seed=3"]
    succeed(run_python(folder, *words("hsm_optuna", *more)))
    jobs = read_sweep(folder / "sweep").jobs
    assert [str(job.state) for job in jobs.values()] == ["COMPLETED"] * 4
    assert len({job.params["x"] for job in jobs.values()}) == 4


@is_new
def test_the_other_sweeper_still_runs(folder: Path) -> None:
    succeed(run_python(folder, *words("optuna", "hydra.sweeper.n_jobs=2")))
    assert len(read_sweep(folder / "sweep").jobs) == 4
