"""Sweepers as others write them: whatever they make of a launcher, theirs is one sweep to hsm."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.hydra import write_files
from helpers.processes import App, both_methods, first_fast
from helpers.sweepers import Sweep, assert_is_one_sweep, summaries
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths


@pytest.mark.parametrize("kind", first_fast("zero", "below"))
def test_batches_with_numbers_that_are_taken_overwrite_nothing(tmp_path: Path, kind: str) -> None:
    sweep = Sweep(tmp_path)
    done = sweep.run(kind)
    assert_is_one_sweep(sweep, done, 4)
    assert done.values == [[10 * num, f"sweep/{num}"] for num in range(4)]
    assert [job.params for _, job in sorted(done.jobs.items())] == [{"job": n} for n in range(4)]
    for num in range(4):
        overrides = tmp_path / "sweep" / str(num) / ".hydra" / "overrides.yaml"
        assert overrides.read_text() == f"- job={num}\n"
        assert (tmp_path / "sweep" / str(num) / "stdout.log").is_symlink()
    assert sweep.returned() == [
        ["COMPLETED", [10 * num, f"sweep/{num}"], [f"job={num}"]] for num in range(4)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count"), [pytest.param("thread", 2, marks=pytest.mark.slow), ("threads", 3)]
)
@both_methods
def test_batches_may_come_from_threads(
    tmp_path: Path, kind: str, count: int, start_method: str
) -> None:
    sweep = Sweep(tmp_path)
    done = sweep.run(kind, start_method=start_method)
    assert_is_one_sweep(sweep, done, count)
    assert sorted(done.values) == [[10 * num, f"sweep/{num}"] for num in range(count)]
    assert sorted(sweep.returned()) == [
        ["COMPLETED", [10 * num, f"sweep/{num}"], [f"job={num}"]] for num in range(count)
    ]


@both_methods
@pytest.mark.parametrize("kind", first_fast("movedir2", "movedir", "overrides"))
def test_the_record_stays_where_it_began_when_the_directory_is_moved(
    tmp_path: Path, kind: str, start_method: str
) -> None:
    sweep = Sweep(tmp_path)
    done = sweep.run(kind, start_method=start_method)
    assert_is_one_sweep(sweep, done, 2)
    assert done.values == [[0, "sweep/gen0/0"], [10, "sweep/gen1/1"]]
    assert [str(job.job_dir) for _, job in sorted(done.jobs.items())] == [
        str(tmp_path / value[1]) for value in done.values
    ]
    assert [path.parent.name for path in tmp_path.rglob(".hsm")] == ["sweep"]
    assert [value for _, value, _ in sweep.returned()] == done.values


def test_a_batch_without_jobs_begins_nothing(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    done = sweep.run("empty")
    assert (done.code, done.out, sweep.returned(), sweep.events()) == (0, "", [], [])


def test_a_launcher_per_generation_goes_on_with_the_sweep(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    done = sweep.run("relaunching")
    assert_is_one_sweep(sweep, done, 3)
    assert done.values == [[10 * num, f"sweep/{num}"] for num in range(3)]


@pytest.mark.slow
def test_so_it_does_beside_another_sweep(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    lock = LockFile(paths.lock)
    sweep = Sweep(tmp_path)
    with sweep.start("relaunching") as running:
        running.sweep_dir = tmp_path / "sweep-2"
        done = running.finish()
    lock.release()
    assert done.code == 0, done.screen
    assert done.values == [[10 * num, f"sweep-2/{num}"] for num in range(3)]
    assert not paths.journal.exists()


@pytest.mark.slow
def test_a_launcher_with_other_settings_has_a_sweep_of_its_own(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    done = sweep.run("other_settings")
    assert done.code == 0
    assert done.values == [[0, "sweep/0"]]
    assert [value for _, value, _ in sweep.returned()] == [[0, "sweep/0"], [10, "sweep-2/1"]]
    assert done.out.count(": 1 job: 1 completed\n") == 2


@pytest.mark.slow
def test_a_sweeper_may_go_on_after_a_failure(tmp_path: Path) -> None:
    (tmp_path / "fail-1").touch()
    sweep = Sweep(tmp_path)
    done = sweep.run("fail")
    assert_is_one_sweep(sweep, done, 3, "2 completed, 1 failed")
    assert [status for status, _, _ in sweep.returned()] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert sweep.returned()[1][1] == "ValueError"


@pytest.mark.parametrize("resumed", first_fast(False, True))
def test_a_sweep_that_cannot_begin_may_be_tried_again(tmp_path: Path, resumed: bool) -> None:
    """What was taken for it is given back: else the second try would find its own lock."""
    sweep = Sweep(tmp_path, "LOCK = threading.Lock()\ndef job(cfg): return LOCK.locked()")
    if resumed:
        assert sweep.run("again", start_method="fork").states == ["COMPLETED"] * 2
    before = sweep.events()
    done = sweep.run("again", start_method="spawn", resume=resumed)
    assert (done.code, done.out, sweep.events()) == (0, "", before)
    first, second = ((tmp_path / f"refused-{num}").read_text() for num in range(2))
    assert first == second
    assert "LOCK" in first


def test_a_launcher_for_another_place_is_a_subclass(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "hydra_plugins/elsewhere.py": """
                from pathlib import Path

                from hydra_plugins.hsm_local_launcher.launcher import HsmLocalLauncher


                class Elsewhere(HsmLocalLauncher):
                    @staticmethod
                    def make_source(conf):
                        Path("made").touch()
                        return HsmLocalLauncher.make_source(conf)
            """
        },
    )
    app = App(tmp_path, "def job(cfg): return cfg.job")
    done = app.run("job=1,2", "hydra.launcher._target_=hydra_plugins.elsewhere.Elsewhere")
    assert (done.code, done.values) == (0, [1, 2])
    assert (tmp_path / "made").exists()


@pytest.mark.slow
@both_methods
def test_all_batches_have_one_fork_server(tmp_path: Path, start_method: str) -> None:
    """A job's parent is its keeper, whose parent is the server."""
    app = App(
        tmp_path,
        """
        import psutil

        def job(cfg):
            return psutil.Process(os.getppid()).ppid()
        """,
    )
    words = ["job=range(10)", "hydra.sweeper.max_batch_size=2"]
    done = app.run(*words, start_method=start_method)
    assert done.states == ["COMPLETED"] * 10
    assert len(set(done.values)) == 1
    assert [event["event"] for event in app.events()].count("server") == 1
    assert summaries(done) == [f"{done.sweep.sweep_id}: 10 jobs: 10 completed"]
    assert "[10/10] " in done.out
