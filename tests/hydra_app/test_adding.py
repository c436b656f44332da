"""`hsm add` to a Hydra sweep: jobs as `-m` would make them, with all that a sweep's jobs have."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.cli import Project
from helpers.processes import App

_APP = """
    from hydra.experimental.callback import Callback


    class Gather(Callback):
        hsm_in_launcher = True

        def on_job_end(self, config, job_return, **kwargs):
            if "HSM_JOB_NUM" not in os.environ:
                with open("told", "a") as file:
                    file.write(f"{config.job} {job_return.status.name}\\n")


    def job(cfg):
        note(f"started-{cfg.job}")
        while not (os.path.exists("go") or os.path.exists(f"go-{cfg.job}")):
            time.sleep(0.02)
        if os.path.exists(f"fail-{cfg.job}"):
            raise ValueError(f"cannot do {cfg.job}")
        return [cfg.job, cfg.get("rate"), cfg.get("more")]
"""
_GATHER = "+hydra.callbacks.gather._target_=__main__.Gather"


@pytest.fixture
def app(tmp_path: Path) -> App:
    app = App(tmp_path, _APP)
    config = tmp_path / "conf" / "config.yaml"
    config.write_text(config.read_text() + "rate: 1\n")
    return app


def add(app: App, *overrides: str, code: int = 0) -> str:
    ran = Project(app.folder).here("add", "./sweep", *overrides, code=code)
    return ran.out if code == 0 else ran.err


def test_points_are_added_with_the_overrides_that_all_jobs_share(app: App) -> None:
    with app.start("job=0,1", "rate=2", "+more=a", _GATHER) as sweep:
        sweep.wait_for_files("started-0", "started-1")
        said = add(app, "job=2,1,3").splitlines()
        assert [line.partition(": ")[2] for line in said] == [
            "added jobs 2-3",
            "with rate=2 +more=a, as all its jobs",
            "already there: the point of job 1",
        ]
        assert "added job 4" in add(app, "job=4", "rate=3", "+more=null")
        (app.folder / "go").touch()
        done = sweep.finish()
    assert (done.code, done.states) == (0, ["COMPLETED"] * 5)
    assert done.values == [*([num, 2, "a"] for num in range(4)), [4, 3, None]]
    overrides = (app.folder / "sweep" / "3" / ".hydra" / "overrides.yaml").read_text()
    assert overrides == "- job=3\n- rate=2\n- +more=a\n"
    told = (app.folder / "told").read_text().splitlines()
    assert sorted(told) == [f"{num} COMPLETED" for num in range(5)]


@pytest.mark.thorough
def test_a_wrong_point_is_refused_in_one_line_and_leaves_no_trace(app: App) -> None:
    with app.start("job=0,1") as sweep:
        sweep.wait_for_files("started-0", "started-1")
        refusals = {
            "jobb=2": "Could not override 'jobb'",
            "hydra.job.name=x": "hydra.job.name is Hydra's own",
            "hydra/launcher=basic": "hydra/launcher is Hydra's own",
            "job=interval(0,1)": "an interval has no list of values",
            "job[=2": "'job[=2'",
            "job=glob(*)": "there is no config group job",
            "job=range(1000000)": "1000000 points are too many",
            "job=0,1": "already there: the points of jobs 0-1",
        }
        for override, reason in refusals.items():
            said = add(app, override, code=2)
            assert reason in said
            assert said.count("\n") == 1
        (app.folder / "go").touch()
        done = sweep.finish()
    assert done.states == ["COMPLETED"] * 2
    assert {event["event"] for event in app.events()}.isdisjoint({"control"})


@pytest.mark.thorough
def test_an_added_job_that_fails_makes_the_multirun_fail(app: App) -> None:
    with app.start("job=0,1") as sweep:
        sweep.wait_for_files("started-0", "started-1")
        add(app, "job=2")
        for name in ("fail-2", "go"):
            (app.folder / name).touch()
        done = sweep.finish()
    assert (done.code, done.states) == (1, ["COMPLETED"] * 2 + ["FAILED"])
    assert "ValueError: cannot do 2" in done.screen


@pytest.mark.thorough
def test_a_launcher_that_is_killed_and_resumed_has_what_was_added(app: App) -> None:
    with app.start("job=0,1", "rate=5") as sweep:
        sweep.wait_for_files("started-0", "started-1")
        add(app, "job=2,3")
        sweep.process.kill()
        sweep.assert_all_gone()
    (app.folder / "go").touch()
    done = app.run("job=0,1", "rate=5", resume="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 4)
    assert done.values == [[num, 5, None] for num in range(4)]
    again = app.run("job=0,1,2", "rate=5", resume="true")  # one of those, as the sweep's own
    assert (again.code, again.states) == (0, ["COMPLETED"] * 4)


@pytest.mark.thorough
def test_batches_go_on_after_jobs_that_were_added(app: App) -> None:
    with app.start("job=range(4)", "hydra.sweeper.max_batch_size=2") as sweep:
        sweep.wait_for_files("started-0", "started-1")
        add(app, "job=9")
        (app.folder / "go").touch()
        done = sweep.finish()
    assert (done.code, done.states) == (0, ["COMPLETED"] * 5)
    assert [job.params["job"] for _, job in sorted(done.jobs.items())] == [0, 1, 9, 2, 3]
    assert done.values == [[num, 1, None] for num in (0, 1, 9, 2, 3)]
