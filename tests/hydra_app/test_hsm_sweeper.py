"""Sweeps with ``hydra/sweeper=hsm``: real apps, jobs and signals."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import Project
from helpers.hydra import Finished, launcher_args, run_python, succeed, write_files
from helpers.processes import App, RunningSweep, wait_for
from helpers.reliability import side_lines
from hsm.core.record.journal_header import has_begun
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep

_TRAIN = """
    from dataclasses import dataclass
    from typing import Any

    import hydra
    from hydra.core.config_store import ConfigStore


    @dataclass
    class Schema:
        n: int = 0
        seed: int = 0
        model: Any = None


    ConfigStore.instance().store(name="schema", node=Schema)


    @hydra.main(version_base=None, config_path="conf", config_name="config")
    def main(cfg):
        model = dict(cfg.model)
        if cfg.n == 13:
            raise ValueError("thirteen")
        return [cfg.n, cfg.seed, *model.values()]


    if __name__ == "__main__":
        main()
"""
_FILES = {
    "train.py": _TRAIN,
    "conf/config.yaml": "defaults: [schema, model: svm, _self_]\n",
    "conf/model/svm.yaml": "C: 1\n",
    "conf/model/forest.yaml": "trees: 10\n",
    "conf/model/broken.yaml": "C: ${\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, _FILES)
    return tmp_path


def sweep(folder: Path, *words: str, launcher: str = "hsm_local") -> Finished:
    args = launcher_args() if launcher == "hsm_local" else [f"hydra/launcher={launcher}"]
    given = ["hydra/sweeper=hsm", "hydra.sweep.dir=sweep", *args, *words]
    return run_python(folder, "train.py", "-m", *given)


def values(folder: Path) -> list[Any]:
    found = read_sweep(folder / "sweep")
    assert found.problems == []
    return [job.value for _, job in sorted(found.jobs.items())]


def labels(folder: Path) -> list[str]:
    return [job.label for _, job in sorted(read_sweep(folder / "sweep").jobs.items())]


def test_the_union_of_grids_a_zip_and_points(folder: Path) -> None:
    (folder / "conf" / "hydra" / "sweeper").mkdir(parents=True)
    (folder / "conf" / "hydra" / "sweeper" / "mine.yaml").write_text(
        "defaults: [hsm]\n"
        "params:\n- {model: svm, model.C: '1,10'}\n- {model: forest, model.trees: 5}\n"
        "zip: {pair: {n: '1,2', seed: [10, 20]}}\n"
        "points: [{n: 7}, {n: 8, model: {C: 0.5}}]\n"
    )
    words = [*launcher_args(), "hydra/sweeper=mine", "hydra.sweep.dir=sweep"]
    succeed(run_python(folder, "train.py", "-m", *words))
    assert values(folder) == [
        *([1, 10, 1], [2, 20, 1], [1, 10, 10], [2, 20, 10]),
        *([1, 10, 5], [2, 20, 5]),
        *([7, 0, 1], [8, 0, 0.5]),
    ]
    assert labels(folder)[4] == "model=forest model.trees=5 n=1 seed=10"
    multirun = (folder / "sweep" / "multirun.yaml").read_text()
    assert "HsmSweeper" in multirun


def test_points_from_a_file_with_the_command_line(folder: Path) -> None:
    (folder / "points.csv").write_text("model,n\nsvm,1\nforest,2\n")
    succeed(sweep(folder, "hydra.sweeper.points=points.csv", "seed=0,1"))
    assert values(folder) == [[1, 0, 1], [1, 1, 1], [2, 0, 10], [2, 1, 10]]
    assert (folder / "sweep" / "3" / ".hydra" / "overrides.yaml").read_text() == (
        "- model=forest\n- 'n=2'\n- seed=1\n".replace("'", "")
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=svm,forest,nope"], "Could not find 'model/nope'"),
        (["nope=1,2"], "Could not override 'nope'"),
        (["model=svm,forest", "model.C=1,2"], "Could not override 'model.C'"),
        (["n=1,2", "model=svm,broken"], "no viable alternative at input '${'"),
        (["n=(1"], "Error parsing override 'n=(1'"),
        (["n=interval(0,1)"], "hydra.sweeper.method=random"),
        (["n=1,x", "hydra.sweeper.nope=1"], "Key 'nope' not in 'HsmSweeperConf'"),
        (["hydra.sweeper.points=3"], "hydra.sweeper.points must be a list of points"),
        (["+hydra.sweeper.zip.a.n='1,2'", "+hydra.sweeper.params.n=1"], "'n' is set twice"),
    ],
)
def test_what_is_broken_starts_nothing(folder: Path, words: list[str], said: str) -> None:
    done = sweep(folder, *words)
    assert done.code == 1, done.text
    assert said in done.text
    assert "Traceback" not in done.text
    assert not (folder / "sweep" / ".hsm").exists()


def test_a_bad_value_further_on_is_a_failed_job(folder: Path) -> None:
    ranges = ",".join([*map(str, range(20, 40)), "x", *map(str, range(40, 45))])
    done = sweep(folder, f"n={ranges}")
    assert done.code == 1
    states = [str(job.state) for _, job in sorted(read_sweep(folder / "sweep").jobs.items())]
    assert states == ["COMPLETED"] * 20 + ["FAILED"] + ["COMPLETED"] * 5
    assert "Value 'x'" in done.text
    assert "could not be converted to Integer" in done.text


@pytest.mark.long
def test_so_it_is_in_a_large_sweep(folder: Path) -> None:
    ranges = ",".join([*map(str, range(20, 1520)), "x", *map(str, range(1520, 2019))])
    assert sweep(folder, f"n={ranges}", "hydra.launcher.progress=none").code == 1
    counts = Counter(str(job.state) for job in read_sweep(folder / "sweep").jobs.values())
    assert counts == {"COMPLETED": 1999, "FAILED": 1}
    assert str(read_sweep(folder / "sweep").jobs[1500].state) == "FAILED"


def test_a_job_that_raises_ends_the_sweep_as_with_hydras_own_sweeper(folder: Path) -> None:
    done = sweep(folder, "n=12,13,14")
    own = sweep(folder, "n=12,13,14", "hydra/sweeper=basic")
    assert done.code == own.code == 1
    for each in (done, own):
        assert "ValueError: thirteen" in each.text
    assert values(folder)[0] == [12, 0, 1]


def test_other_launchers_get_batches(folder: Path) -> None:
    done = succeed(sweep(folder, "n=1,2,3", "hydra.sweeper.max_batch_size=2", launcher="basic"))
    assert done.text.count("Launching 2 jobs") == done.text.count("Launching 1 jobs") == 1
    assert "takes points in batches" not in done.text
    points = "hydra.sweeper.points=[{n:1},{n:2}]"
    done = succeed(sweep(folder, points, launcher="basic"))
    assert done.text.count("BasicLauncher takes points in batches") == 1
    assert "#1 : n=2" in done.text


def test_batches_have_no_effect_under_hsm_which_says_so_once(folder: Path) -> None:
    done = succeed(sweep(folder, "n=range(5)", "hydra.sweeper.max_batch_size=1"))
    assert done.text.count("max_batch_size has no effect") == 1
    assert len(values(folder)) == 5


def test_a_dry_run_composes_all_and_runs_none(folder: Path) -> None:
    done = sweep(folder, "n=1,2", "model=svm,nope", "hydra.sweeper.dry_run=true")
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[0] == "job 0 (n=1 model=svm)"
    assert lines[1].startswith("job 1 (n=1 model=nope) does not compose: In 'config': Could not")
    assert lines[2] == "job 2 (n=2 model=svm)"
    assert lines[4] == "4 jobs, 2 of them cannot run; dry_run: nothing was run"
    assert not (folder / "sweep").exists()
    done = succeed(sweep(folder, "n=1,2", "hydra.sweeper.dry_run=true", launcher="basic"))
    assert done.out.endswith("2 jobs, all of them compose; dry_run: nothing was run\n")


def test_no_points_are_no_jobs(folder: Path) -> None:
    succeed(sweep(folder, "n=range(0)"))
    assert not (folder / "sweep" / ".hsm").exists()


_NOTING = """
    def job(cfg):
        with open("side", "a") as file:
            file.write(f'{{"x": {cfg.job}}}\\n')
        note(f"started-{cfg.job}")
        while cfg.job >= int(Path("hold").read_text()):
            time.sleep(0.02)
        if os.path.exists(f"fail-{cfg.job}"):
            raise ValueError(f"cannot do {cfg.job}")
        return cfg.job
"""
_SWEEPER = "hydra/sweeper=hsm"


@pytest.fixture
def app(tmp_path: Path) -> App:
    """An app whose jobs from the number in the file "hold" on wait."""
    app = App(tmp_path, _NOTING)
    hold(app, 0)
    return app


def hold(app: App, number: int) -> None:
    temporary = app.folder / "hold.new"
    temporary.write_text(str(number))
    os.replace(temporary, app.folder / "hold")


def test_points_are_handed_over_a_little_ahead(app: App) -> None:
    with app.start("job=range(1000000000)", _SWEEPER) as running:
        running.wait_for_files("started-0", "started-1")
        assert len(running.read().jobs) == 102
        hold(app, 60)
        running.wait_for_files("started-60", "started-61")
        # The jobs do not wait for the main thread, which hands over the points.
        wait_for(lambda: len(running.read().jobs) > 102, "more points")
        jobs = running.read().jobs
        assert len(jobs) < 200
        assert [job.params for job in jobs.values()] == [{"job": n} for n in range(len(jobs))]
        running.process.send_signal(signal.SIGINT)
        done = running.finish()
    assert done.code == 130
    assert done.states[:60] == ["COMPLETED"] * 60
    assert set(done.states[60:]) == {"CANCELLED"}
    assert "hydra.launcher.resume=true" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_points_are_looked_for_ends_the_sweep(
    app: App, number: signal.Signals
) -> None:
    hold(app, 1000)
    where = "hydra.sweeper.filter='job < 150 or job > 1000000000000'"
    with app.start("job=range(100000000000000)", _SWEEPER, where) as running:
        running.wait_for_files("started-149")  # and no other point is near
        running.wait_until_ended(149)
        running.process.send_signal(number)
        done = running.finish()
    assert (done.code, done.states) == (128 + number, ["COMPLETED"] * 150)


@pytest.mark.slow
def test_what_was_killed_is_resumed_with_each_point_once(app: App) -> None:
    hold(app, 130)
    with app.start("job=range(250)", _SWEEPER) as running:
        running.wait_for_files("started-130", "started-131")
        running.process.kill()
        running.assert_all_gone()
    hold(app, 1000)
    done = app.run("job=range(250)", _SWEEPER, resume="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 250)
    assert done.values == list(range(250))
    counts = Counter(line["x"] for line in side_lines(app.folder))
    assert counts == {**dict.fromkeys(range(250), 1), 130: 2, 131: 2}


@pytest.mark.slow
def test_jobs_run_again_by_their_numbers_though_not_all_points_are_on_record(app: App) -> None:
    hold(app, 20)
    with app.start("job=range(1000)", _SWEEPER) as running:
        running.wait_for_files("started-20", "started-21")
        running.process.send_signal(signal.SIGINT)
        running.finish()
    done = app.run("job=range(1000)", _SWEEPER, resume="true", rerun="[3,7]")
    assert done.code == 0, done.screen
    counts = Counter(line["x"] for line in side_lines(app.folder))
    assert {x for x, count in counts.items() if count > 1} == {3, 7}
    assert len(done.jobs) < 200


def test_a_sweep_that_stops_takes_no_more_points(app: App) -> None:
    (app.folder / "fail-3").touch()
    hold(app, 10**9)
    done = app.run("job=range(100000000)", _SWEEPER, fail_fast="true")
    assert done.code == 1
    assert "cannot do 3" in done.screen
    assert len(done.jobs) < 400
    assert str(done.jobs[3].state) == "FAILED"


def test_no_point_runs_once_those_that_wait_are_cancelled(app: App) -> None:
    hold(app, 2)
    with app.start("job=range(100000)", _SWEEPER) as running:
        running.wait_for_files("started-2", "started-3")
        running.wait_until_running(2, 3)  # Until then, they are pending, too.
        assert (
            "pending jobs cancelled"
            in Project(app.folder).here("cancel", "./sweep", "--pending").out
        )
        hold(app, 10**9)
        done = running.finish()
    assert done.code == 1
    assert done.states == ["COMPLETED"] * 4 + ["CANCELLED"] * (len(done.states) - 4)
    assert len(done.states) < 200


@pytest.mark.slow
def test_added_jobs_get_numbers_after_the_points(app: App) -> None:
    with app.start("job=range(200)", _SWEEPER) as running:
        running.wait_for_files("started-0", "started-1")
        said = Project(app.folder).here("add", "./sweep", "job=1000,1001").out
        assert "added jobs 200-201" in said
        hold(app, 5000)
        done = running.finish()
    assert (done.code, len(done.states), set(done.states)) == (0, 202, {"COMPLETED"})
    assert done.values == [*range(200), 1000, 1001]


_GATHERING = """
    from hydra.experimental.callback import Callback


    class Gather(Callback):
        hsm_in_launcher = True

        def on_job_end(self, config, job_return, **kwargs):
            if "HSM_JOB_NUM" not in os.environ:
                with open("told", "a") as file:
                    file.write(f"{config.job} {job_return.return_value}\\n")


    def job(cfg):
        return cfg.job * 2
"""


@pytest.mark.slow
def test_callbacks_in_the_launcher_are_told(tmp_path: Path) -> None:
    app = App(tmp_path, _GATHERING)
    gather = "+hydra.callbacks.gather._target_=__main__.Gather"
    done = app.run("job=range(120)", _SWEEPER, gather)
    assert (done.code, len(done.states)) == (0, 120)
    told = (tmp_path / "told").read_text().splitlines()
    assert sorted(told) == sorted(f"{num} {2 * num}" for num in range(120))


def seeded(text: str) -> str:
    """The seed of which a sweep says that it has drawn it."""
    (seed,) = re.findall(r"seed (\d+) \(hydra\.sweeper\.seed=\1 gives these points again\)", text)
    return str(seed)


_DRAWN = [
    *("hydra.sweeper.method=random", "n=int(interval(20,1000000000))", "model=svm,forest"),
    "hydra.sweeper.n_trials=6",
]


def test_random_points_of_a_seed_that_is_drawn_told_and_recorded(folder: Path) -> None:
    seed = seeded(succeed(sweep(folder, *_DRAWN)).text)
    chosen = read_sweep(folder / "sweep").chosen
    assert chosen == {"method": "random", "n_trials": 6, "seed": int(seed)}
    before = labels(folder)
    assert len(set(before)) == 6
    resume = "hydra.launcher.resume=true"
    more = succeed(sweep(folder, *_DRAWN[:-1], "hydra.sweeper.n_trials=9", resume))
    assert f"seed {seed}, as before" in more.text
    assert "6 of 9 jobs are already done" in more.text
    assert labels(folder)[:6] == before
    assert len(labels(folder)) == 9


@pytest.mark.slow
def test_a_seed_that_is_given_gives_the_points_of_one_that_was_drawn(folder: Path) -> None:
    seed = seeded(succeed(sweep(folder, *_DRAWN)).text)
    before = labels(folder)
    given = succeed(sweep(folder, *_DRAWN, f"hydra.sweeper.seed={seed}"))
    assert "gives these points again" not in given.text
    assert labels(folder) == before


@pytest.mark.parametrize("method", ["lhs", "random"])
def test_repeats_and_filters(folder: Path, method: str) -> None:
    words = [f"hydra.sweeper.method={method}", "hydra.sweeper.n_trials=8", "n=range(20,99)"]
    words += ["+hydra.sweeper.repeat={seed:[1,2]}", "hydra.sweeper.seed=3"]
    succeed(sweep(folder, *words, "hydra.sweeper.filter='n < 60'", "hydra.sweeper.max_runs=3"))
    found = values(folder)
    assert len(found) in (2, 4, 6)
    assert all(20 <= n < 60 for n, _, _ in found)
    assert [seed for _, seed, _ in found] == [1, 2] * (len(found) // 2)
    assert [n for n, _, _ in found[::2]] == [n for n, _, _ in found[1::2]]


def test_a_grid_in_random_order_and_a_part_of_it(folder: Path) -> None:
    words = ["n=range(20,1020)", "seed=range(1000)", "hydra.sweeper.seed=1"]
    succeed(sweep(folder, *words, "hydra.sweeper.shuffle=true", "hydra.sweeper.max_runs=5"))
    found = values(folder)
    assert len({n for n, _, _ in found}) > 1
    assert len({seed for _, seed, _ in found}) > 1
    assert len(found) == 5


def test_no_option_is_composed_that_a_filter_leaves_out(folder: Path) -> None:
    words = ["model=svm,forest", "model.C=1,2"]
    succeed(sweep(folder, *words, """hydra.sweeper.filter='model == "svm"'"""))
    assert labels(folder) == ["model=svm model.C=1", "model=svm model.C=2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra.sweeper.method=best"], "hydra.sweeper.method must be"),
        (["hydra.sweeper.method=random"], "method=random needs n_trials"),
        (["hydra.sweeper.n_trials=3"], "n_trials is for the methods that draw points"),
        (["hydra.sweeper.seed=-1"], "hydra.sweeper.seed must be a whole number"),
        (["hydra.sweeper.filter='m < 3'"], "hydra.sweeper"),
        (["hydra.sweeper.filter='n < 0'"], "keeps none of the points"),
        (["+hydra.sweeper.repeat={n:[1,2]}"], "n is repeated and a parameter of the points"),
        (["hydra.sweeper.repeat=3"], "hydra.sweeper.repeat must be a mapping"),
        (["hydra.sweeper.max_runs=0"], "hydra.sweeper.max_runs must be a whole number"),
        (["hydra.sweeper.shuffle=2"], "hydra.sweeper.shuffle must be true or false"),
    ],
)
def test_a_wrong_choice_starts_nothing(folder: Path, words: list[str], said: str) -> None:
    done = sweep(folder, "n=1,2", *words)
    assert done.code == 1, done.text
    assert said in done.text
    assert "Traceback" not in done.text
    assert not (folder / "sweep" / ".hsm").exists()


def test_a_filter_that_fails_further_on_fails_the_sweep_after_the_jobs_before(
    folder: Path,
) -> None:
    where = "hydra.sweeper.filter='1 / (12050 - n) < 1'"
    done = sweep(folder, "n=range(12000,30000)", where, "hydra.launcher.progress=none")
    assert done.code == 1
    assert "cannot filter by" in done.text
    assert "n=12050" in done.text


_TRIALS = ["hydra.sweeper.n_trials=24", "job=int(interval(1,1000000))"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grid", "random", "lhs"])
def test_killed_and_resumed_a_sweep_has_the_points_of_an_undisturbed_one(
    app: App, method: str
) -> None:
    words = [_SWEEPER, f"hydra.sweeper.method={method}", "hydra.sweeper.seed=5"]
    words += _TRIALS if method != "grid" else ["hydra.sweeper.shuffle=true", "job=range(24)"]
    hold(app, 10**9)
    undisturbed = app.run(*words, "hydra.sweep.dir=other")
    assert undisturbed.code == 0
    expected = [job.params for job in read_sweep(app.folder / "other").jobs.values()]
    words = [word for word in words if "seed=" not in word]
    words.append("hydra.sweeper.seed=5")
    (app.folder / "side").unlink()
    for count in (3, 9, 15):
        with app.start(*words, resume="true", max_parallel_jobs=1) as running:
            wait_for(partial(_have_ended, running, count), f"the end of {count} jobs")
            running.process.kill()
            running.assert_all_gone()
    done = app.run(*words, resume="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 24)
    assert [job.params for job in done.jobs.values()] == expected
    counts = Counter(line["x"] for line in side_lines(app.folder))
    assert set(counts) == {params["job"] for params in expected}
    assert sum(counts.values()) <= 24 + 3  # those that were killed run again


def _have_ended(running: RunningSweep, count: int) -> bool:
    if not has_begun(SweepPaths(running.sweep_dir)):
        return False
    return sum(job.state.is_final for job in running.read().jobs.values()) >= count
