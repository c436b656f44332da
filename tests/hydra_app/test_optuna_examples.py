"""Configs as hydra-optuna-sweeper's examples have them run with another name of the sweeper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from helpers.hydra import launcher_args, run_python, succeed, write_files
from hsm.core.record.sweep import read_sweep

_OBJECTIVES = """
    import hydra


    @hydra.main(version_base=None, config_path="conf", config_name="config")
    def sphere(cfg):
        if cfg.get("error", False):
            raise RuntimeError("error is true")
        return cfg.x**2 + cfg.y**2


    if __name__ == "__main__":
        sphere()
"""
_SPHERE = """
    defaults:
      - override hydra/sweeper: hsm_optuna
      - override hydra/sweeper/sampler: tpe

    hydra:
      sweeper:
        sampler:
          seed: 123
        direction: minimize
        study_name: sphere
        storage: null
        n_trials: 20
        n_jobs: 1
        max_failure_rate: 0.0
        params:
          x: range(-5.5, 5.5, step=0.5)
          y: choice(-5 ,0 ,5)

    x: 1
    y: 1
    z: 1
    error: false
"""
_SEVERAL = """
    import hydra


    @hydra.main(version_base=None, config_path="several", config_name="config")
    def binh_and_korn(cfg):
        return 4 * cfg.x**2 + 4 * cfg.y**2, (cfg.x - 5) ** 2 + (cfg.y - 5) ** 2


    if __name__ == "__main__":
        binh_and_korn()
"""
_SEVERAL_CONFIG = """
    defaults:
      - override hydra/sweeper: hsm_optuna
      - override hydra/sweeper/sampler: nsgaii

    hydra:
      sweeper:
        sampler:
          seed: 123
        direction: [minimize, minimize]
        study_name: several
        storage: null
        n_trials: 20
        n_jobs: 1
        params:
          x: range(0, 5, step=0.5)
          y: range(0, 3, step=0.5)

    x: 1
    y: 1
"""
_CUSTOM = """
    import hydra
    from optuna.trial import Trial


    @hydra.main(version_base=None, config_path="custom", config_name="config")
    def sphere(cfg):
        return cfg.w**2 + cfg.x**2 + cfg.y**2 + cfg.z**2


    def configure(cfg, trial: Trial) -> None:
        x, most = trial.params["x"], cfg.max_z_difference_from_x
        trial.suggest_float("z", x - most, x + most)
        trial.suggest_float("+w", 0.0, 1.0)


    if __name__ == "__main__":
        sphere()
"""
_CUSTOM_CONFIG = """
    defaults:
      - override hydra/sweeper: hsm_optuna

    hydra:
      sweeper:
        sampler:
          seed: 123
        direction: minimize
        study_name: custom-search-space
        storage: null
        n_trials: 20
        n_jobs: 1
        params:
          x: range(-5.5, 5.5, 0.5)
          y: choice(-5, 0, 5)
        # A module whose name is no identifier.
        custom_search_space: custom-objective.configure

    x: 1
    y: 1
    z: 100
    max_z_difference_from_x: 0.5
"""
_FILES = {
    "sphere.py": _OBJECTIVES,
    "conf/config.yaml": _SPHERE,
    "several.py": _SEVERAL,
    "several/config.yaml": _SEVERAL_CONFIG,
    "custom-objective.py": _CUSTOM,
    "custom/config.yaml": _CUSTOM_CONFIG,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, _FILES)
    return tmp_path


def run(folder: Path, script: str, *words: str, launcher: str = "hsm_local") -> Any:
    """Run an example; returns what is in optimization_results.yaml."""
    chosen = launcher_args() if launcher == "hsm_local" else []
    succeed(run_python(folder, script, "-m", "hydra.sweep.dir=sweep", *chosen, *words))
    results = OmegaConf.to_container(OmegaConf.load(folder / "sweep" / "optimization_results.yaml"))
    assert isinstance(results, dict)
    assert results["name"] == "optuna"
    return results


def points(folder: Path) -> list[dict[str, Any]]:
    found = read_sweep(folder / "sweep")
    assert found.problems == []
    assert {str(job.state) for job in found.jobs.values()} == {"COMPLETED"}
    return [job.params for _, job in sorted(found.jobs.items())]


def test_one_objective(folder: Path) -> None:
    results = run(folder, "sphere.py", "~z")
    asked = points(folder)
    assert len(asked) == 20
    assert all(-5.5 <= each["x"] < 5.5 and each["x"] * 2 % 1 == 0 for each in asked)
    assert {each["y"] for each in asked} <= {-5, 0, 5}
    best = min(asked, key=lambda each: each["x"] ** 2 + each["y"] ** 2)
    assert results["best_params"] == {key: best[key] for key in ("x", "y")}
    assert results["best_value"] == best["x"] ** 2 + best["y"] ** 2
    assert asked[results["best_job"]]["x"] ** 2 == best["x"] ** 2
    assert not (folder / "sweep" / "0" / ".hydra" / "config.yaml").read_text().count("z:")


@pytest.mark.slow
def test_the_command_line_fixes_one_parameter_and_changes_another(folder: Path) -> None:
    results = run(folder, "sphere.py", "x=choice(0, 1, 2)", "y=0", "hydra.sweeper.n_trials=8")
    assert results["best_params"].keys() == {"x"}
    assert {each["y"] for each in points(folder)} == {0}
    assert {each["x"] for each in points(folder)} <= {0, 1, 2}


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "nsgaii", "nsgaiii", "gp", "qmc"])
@pytest.mark.slow
def test_each_sampler(folder: Path, sampler: str) -> None:
    if sampler == "gp":
        pytest.importorskip("torch")
    n_trials = 4
    run(
        folder,
        "sphere.py",
        f"hydra/sweeper/sampler={sampler}",
        f"hydra.sweeper.n_trials={n_trials}",
    )
    assert len(points(folder)) == n_trials


@pytest.mark.slow
def test_the_grid_sampler_takes_each_point_once(folder: Path) -> None:
    words = ["hydra/sweeper/sampler=grid", "~hydra.sweeper.sampler.seed", "x=-1,0,1", "y=-1,0"]
    results = run(folder, "sphere.py", *words)
    assert sorted((each["x"], each["y"]) for each in points(folder)) == [
        (x, y) for x in (-1, 0, 1) for y in (-1, 0)
    ]
    assert results["best_value"] == 0


@pytest.mark.slow
def test_several_objectives(folder: Path) -> None:
    results = run(folder, "several.py")
    assert len(points(folder)) == 20
    values = [each["values"] for each in results["solutions"]]
    assert values
    for first in values:
        others = [each for each in values if each != first]
        assert not any(one <= first[0] and two <= first[1] for one, two in others)
    for each in results["solutions"]:
        x, y = each["params"]["x"], each["params"]["y"]
        assert each["values"] == [4 * x**2 + 4 * y**2, (x - 5) ** 2 + (y - 5) ** 2]


def test_a_custom_search_space(folder: Path) -> None:
    results = run(folder, "custom-objective.py", "max_z_difference_from_x=0.3")
    asked = points(folder)
    assert len(asked) == 20
    # The function gets the config of the app, without the command line's overrides of jobs.
    assert all(abs(each["x"] - each["z"]) <= 0.5 and 0 <= each["w"] <= 1 for each in asked)
    assert results["best_params"].keys() == {"x", "y", "z", "+w"}


@pytest.mark.slow
def test_a_storage_as_url_and_as_node(folder: Path) -> None:
    optuna = pytest.importorskip("optuna")
    url = f"sqlite:///{folder}/study.db"
    words = ["hydra.sweeper.n_trials=3", f"hydra.sweeper.storage={url}"]
    results = run(folder, "sphere.py", *words)
    study = optuna.load_study(study_name="sphere", storage=url)
    assert study.best_value == results["best_value"]
    assert len(study.trials) == 3
    node = "{_target_:optuna.storages.RDBStorage,url:'" + url + "'}"
    words[1] = f"hydra.sweeper.storage={node}"
    run(folder, "sphere.py", *words)
    assert len(optuna.load_study(study_name="sphere", storage=url).trials) == 6


@pytest.mark.slow
def test_every_trial_fails(folder: Path) -> None:
    words = ["hydra.sweep.dir=sweep", *launcher_args(), "error=true", "hydra.sweeper.n_trials=12"]
    done = run_python(folder, "sphere.py", "-m", *words, "hydra.sweeper.max_failure_rate=1")
    assert done.code == 1
    assert "no trial has succeeded" in done.text
    assert "Error executing job" not in done.text
    assert len(read_sweep(folder / "sweep").jobs) == 12


@pytest.mark.slow
def test_too_many_trials_fail(folder: Path) -> None:
    words = ["hydra.sweep.dir=sweep", *launcher_args(), "error=true"]
    done = run_python(folder, "sphere.py", "-m", *words)
    assert done.code == 1
    ended = [job for job in read_sweep(folder / "sweep").jobs.values() if job.state == "FAILED"]
    assert 10 <= len(ended) < 20
    assert "max_failure_rate" in done.text


@pytest.mark.parametrize("script", ["sphere.py", "several.py", "custom-objective.py"])
@pytest.mark.slow
def test_in_batches_under_another_launcher(folder: Path, script: str) -> None:
    words = ["hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=2"]
    done = succeed(run_python(folder, script, "-m", "hydra.sweep.dir=sweep", *words))
    assert done.text.count("BasicLauncher gets batches of 2 jobs (n_jobs)") == 1
    assert done.text.count("Launching 2 jobs") == 2
    assert done.text.count("Launching 1 jobs") == 1
    assert sorted(each.name for each in (folder / "sweep").iterdir()) == [
        *("0", "1", "2", "3", "4"),
        *("multirun.yaml", "optimization_results.yaml"),
    ]
