"""Sweepers as others write them: whatever they make of a launcher, theirs is one sweep to hsm."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.hydra import clean_environment, write_files
from helpers.processes import App, Finished, RunningSweep, both_methods, wait_for
from helpers.sweeps import HYDRA_14
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths

_SWEEPERS = """
    import asyncio
    import gc
    import json
    import threading
    import time
    import weakref
    from concurrent.futures import FIRST_COMPLETED, wait
    from pathlib import Path

    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins
    from hydra.plugins.sweeper import Sweeper
    from omegaconf import read_write  # Hydra 1.4 has the config read-only

    from hsm import SweepObserver


    def think(name="go"):
        while not Path(name).exists():
            time.sleep(0.02)


    class Made(Sweeper):
        "Runs the method that `kind` names; notes in a file what the jobs returned."

        def __init__(self, kind):
            self.kind = kind
            self.returned = []

        def setup(self, *, hydra_context, task_function, config):
            self.given = {
                "hydra_context": hydra_context, "task_function": task_function, "config": config,
            }
            self.config = config
            self.relaunch()

        def relaunch(self):
            self.launcher = Plugins.instance().instantiate_launcher(**self.given)

        def sweep(self, arguments):
            getattr(self, self.kind)()
            facts = [
                [result.status.name, value(result), list(result.overrides)]
                for result in self.returned
            ]
            Path("returned.json").write_text(json.dumps(facts))

        def launch(self, *points, first, more=()):
            batch = [[f"job={point}", *more] for point in points]
            self.returned += self.launcher.launch(batch, initial_job_idx=first)

        def zero(self):
            self.launch(0, first=0)
            self.launch(1, 2, first=0)
            self.launch(3, first=0)

        def below(self):
            self.launch(0, first=-3)
            self.launch(1, 2, first=1)
            self.launch(3, first=2)

        def thread(self):
            thread = threading.Thread(target=self.launch, args=(0, 1), kwargs={"first": 0})
            thread.start()
            thread.join()

        def threads(self):
            threads = [
                threading.Thread(target=self.launch, args=(num,), kwargs={"first": num})
                for num in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        def movedir(self):
            base = self.config.hydra.sweep.dir
            for generation in range(2):
                moved = f"{base}/gen{generation}"
                with read_write(self.config.hydra):
                    self.config.hydra.sweep.dir = moved
                self.launch(generation, first=0, more=[f"hydra.sweep.dir={moved}"])

        def movedir2(self):
            base = self.config.hydra.sweep.dir
            for generation in range(2):
                moved = f"hydra.sweep.dir={base}/gen{generation}"
                self.launch(generation, first=generation, more=[moved])

        def overrides(self):
            base = self.config.hydra.sweep.dir
            for generation in range(2):
                moved = f"hydra.sweep.dir={base}/gen{generation}"
                with read_write(self.config.hydra):
                    self.config.hydra.overrides.hydra.append(moved)
                self.launch(generation, first=generation)

        def empty(self):
            self.launch(first=0)

        def relaunching(self):
            for generation in range(3):
                self.relaunch()
                self.launch(generation, first=generation)

        def other_settings(self):
            self.launch(0, first=0)
            first = self.launcher
            with read_write(self.config.hydra):
                self.config.hydra.launcher.max_parallel_jobs = 7
                self.config.hydra.overrides.hydra.append("hydra.launcher.max_parallel_jobs=7")
            self.relaunch()
            self.launch(1, first=1)

        def fail(self):
            for num in range(3):
                self.launch(num, first=num)

        def thinking(self):
            self.launch(0, first=0)
            Path("thinking").touch()
            think()
            self.launch(1, first=1)

        def early(self):
            Path("thinking").touch()
            think()

        def ask_and_tell(self):
            session = self.launcher.session
            todo = [[f"job={num}"] for num in range(7)]
            running = [session.submit(todo.pop(0)) for _ in range(2)]
            while running:
                done, pending = wait(running, return_when=FIRST_COMPLETED)
                self.returned += [future.result() for future in done]
                running = [*pending, *(session.submit(todo.pop(0)) for _ in done if todo)]

        def asking(self):
            futures = [self.launcher.session.submit([f"job={num}"]) for num in range(3)]
            while not all(future.done() for future in futures):
                time.sleep(0.02)
            self.returned = [future.result() for future in futures]

        def awaiting(self):
            async def gather():
                session = self.launcher.session
                futures = [session.submit([f"job={num}"]) for num in range(3)]
                return await asyncio.gather(*map(asyncio.wrap_future, futures))

            self.returned = asyncio.run(gather())

        def again(self):
            for num in range(2):
                try:
                    self.launch(num, first=num)
                except Exception as error:
                    Path(f"refused-{num}").write_text(str(error))

        def leaving(self):
            self.launcher.session.submit(["job=0"])
            think("started-0")
            Path("left").touch()
            raise RuntimeError("the sweeper has failed")

        def collected(self):
            self.make_garbage()
            self.leaving()

        def dropping(self):
            self.make_garbage()
            future = self.launcher.session.submit(["job=0"])
            del self.launcher
            self.returned = [future.result()]
            # The slot's thread cannot close the sweep itself.
            think("closed")

        def make_garbage(self):
            gc.disable()
            self.launcher.itself = self.launcher
            collecting = Collecting(self.launcher)
            self.launcher.session.source.observers.append(collecting)


    class Collecting(SweepObserver):
        "Collects a launcher as garbage, in the thread of a job's slot."

        def __init__(self, launcher):
            self.launcher = weakref.ref(launcher)

        def job_ended(self, job):
            deadline = time.monotonic() + 50
            while self.launcher() is not None and time.monotonic() < deadline:
                gc.collect()  # The main thread may be on its way out of the sweeper yet.
                time.sleep(0.01)
            Path("collected").write_text(f"{self.launcher() is None}")


    def value(result):
        try:
            return result.return_value
        except Exception as error:
            return type(error).__name__


    ConfigStore.instance().store(
        group="hydra/sweeper",
        name="made",
        node={"_target_": "hydra_plugins.made.Made", "kind": "zero"},
    )
"""

_NOTING = """
    from hydra.core.hydra_config import HydraConfig


    def job(cfg):
        output = Path(HydraConfig.get().runtime.output_dir).relative_to(Path.cwd())
        if os.path.exists(f"fail-{cfg.job}"):
            raise ValueError(cfg.job)
        return [10 * cfg.job, str(output)]
"""

_STAYING = """
    def job(cfg):
        note(f"started-{cfg.job}")
        wait_for(f"end-{cfg.job}")
        return cfg.job
"""

_DEAF = """
    def heard(signum, frame):
        note("heard")


    def job(cfg):
        signal.signal(signal.SIGTERM, heard)
        note(f"started-{cfg.job}")
        wait_for("never")
"""


class Sweep:
    """An app whose sweeper is `Made`."""

    def __init__(self, folder: Path, body: str = _NOTING) -> None:
        self.folder = folder
        self.app = App(folder, body)
        write_files(folder, {"hydra_plugins/made.py": _SWEEPERS})

    @contextmanager
    def start(self, kind: str, *more: str, **settings: Any) -> Iterator[RunningSweep]:
        words = ("hydra/sweeper=made", f"hydra.sweeper.kind={kind}", "job=0", *more)
        with self.app.start(*words, **settings) as running:
            yield running

    def run(self, kind: str, *more: str, **settings: Any) -> Finished:
        with self.start(kind, *more, **settings) as running:
            return running.finish()

    def returned(self) -> list[Any]:
        """What the sweeper got: status, value and overrides of each job."""
        facts: list[Any] = json.loads((self.folder / "returned.json").read_text())
        return facts

    def events(self) -> list[str]:
        return [event["event"] for event in self.app.events()]

    def cancel(self, *jobs: str) -> None:
        """Have `hsm cancel` end the sweep, or some of its jobs."""
        words = [sys.executable, "-m", "hsm.cli.main", "cancel", "./sweep", *jobs]
        subprocess.run(
            words, cwd=self.folder, env=clean_environment(), capture_output=True, check=False
        )


def assert_is_one_sweep(sweep: Sweep, done: Finished, count: int, states: str = "") -> None:
    """One record, and one summary, of so many jobs, which the last tally counts too."""
    assert done.code == 0, done.screen
    events = sweep.events()
    assert (events.count("sweep"), events.count("close"), events[-1]) == (1, 1, "close")
    assert sorted(done.jobs) == list(range(count))
    jobs = "1 job" if count == 1 else f"{count} jobs"
    head = f"{done.sweep.sweep_id}: {jobs}: {states or f'{count} completed'}"
    assert _summaries(done) == [head]
    assert f"[{count}/{count}] " in done.out


def _summaries(done: Finished) -> list[str]:
    """The first line of each."""
    return [line for line in done.out.splitlines() if line.startswith(done.sweep.sweep_id)]


@pytest.mark.parametrize("kind", ["zero", "below"])
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
@pytest.mark.parametrize("kind", ["movedir", "movedir2", "overrides"])
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


def test_a_launcher_with_other_settings_has_a_sweep_of_its_own(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    done = sweep.run("other_settings")
    assert done.code == 0
    assert done.values == [[0, "sweep/0"]]
    assert [value for _, value, _ in sweep.returned()] == [[0, "sweep/0"], [10, "sweep-2/1"]]
    assert done.out.count(": 1 job: 1 completed\n") == 2


def test_a_sweeper_may_go_on_after_a_failure(tmp_path: Path) -> None:
    (tmp_path / "fail-1").touch()
    sweep = Sweep(tmp_path)
    done = sweep.run("fail")
    assert_is_one_sweep(sweep, done, 3, "2 completed, 1 failed")
    assert [status for status, _, _ in sweep.returned()] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert sweep.returned()[1][1] == "ValueError"


@pytest.mark.parametrize("resumed", [False, True])
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
    assert _summaries(done) == [f"{done.sweep.sweep_id}: 10 jobs: 10 completed"]
    assert "[10/10] " in done.out


# --- jobs that are submitted one by one --------------------------------------------------------


def test_a_job_that_takes_long_holds_up_no_other(tmp_path: Path) -> None:
    """The first job ends after the sixth has: of batches of two it would wait for ever."""
    sweep = Sweep(
        tmp_path,
        """
        def job(cfg):
            note(f"started-{cfg.job}")
            if cfg.job == 0:
                wait_for("started-5")
            return cfg.job
        """,
    )
    done = sweep.run("ask_and_tell")
    assert_is_one_sweep(sweep, done, 7)
    assert done.values == list(range(7))
    returned = sweep.returned()
    assert sorted(returned) == [["COMPLETED", num, [f"job={num}"]] for num in range(7)]
    assert returned[0] != ["COMPLETED", 0, ["job=0"]]


def test_a_future_tells_of_a_failure_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "fail-2").touch()
    sweep = Sweep(tmp_path)
    done = sweep.run("ask_and_tell")
    assert_is_one_sweep(sweep, done, 7, "6 completed, 1 failed")
    assert [value for status, value, _ in sweep.returned() if status == "FAILED"] == ["ValueError"]


@pytest.mark.slow
def test_futures_of_a_resumed_sweep_have_the_earlier_values(tmp_path: Path) -> None:
    (tmp_path / "fail-2").touch()
    sweep = Sweep(tmp_path)
    sweep.run("ask_and_tell")
    (tmp_path / "fail-2").unlink()
    done = sweep.run("ask_and_tell", resume="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 7)
    assert [len(job.attempts) for _, job in sorted(done.jobs.items())] == [1, 1, 2, 1, 1, 1, 1]
    assert sorted(value[0] for _, value, _ in sweep.returned()) == [10 * num for num in range(7)]


def test_an_event_loop_may_await_jobs(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    done = sweep.run("awaiting")
    assert_is_one_sweep(sweep, done, 3)
    assert [value for _, value, _ in sweep.returned()] == done.values


def test_one_job_may_be_cancelled_while_the_others_go_on(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, _STAYING)
    with sweep.start("asking") as running:
        running.wait_for_files("started-0", "started-1")
        sweep.cancel("1")
        running.touch("end-0")
        running.wait_for_files("started-2")
        running.touch("end-2")
        done = running.finish()
    assert_is_one_sweep(sweep, done, 3, "2 completed, 1 cancelled")
    assert [status for status, _, _ in sweep.returned()] == ["COMPLETED", "FAILED", "COMPLETED"]


_COLLECTED = pytest.param(
    "collected",
    marks=pytest.mark.skipif(HYDRA_14, reason="there the sweep ends before its launcher goes"),
)


@pytest.mark.parametrize("kind", ["leaving", _COLLECTED])
def test_jobs_are_waited_for_when_their_sweeper_has_failed(tmp_path: Path, kind: str) -> None:
    """Also where a thread that the jobs need collects the launcher as garbage."""
    sweep = Sweep(tmp_path, _STAYING)
    with sweep.start(kind) as running:
        running.wait_for_files("left")
        running.touch("end-0")
        done = running.finish()
    assert done.code == 1
    assert "the sweeper has failed" in done.err
    assert (done.states, done.values, done.sweep.closed) == (["COMPLETED"], [0], "finished")
    assert f"{done.sweep.sweep_id}: 1 job: 1 completed" in done.out
    assert kind == "leaving" or (tmp_path / "collected").read_text() == "True"


def test_a_launcher_may_go_as_garbage_in_a_thread_that_its_jobs_need(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    with sweep.start("dropping") as running:
        running.wait_for_files("collected")
        journal = SweepPaths(running.sweep_dir).journal
        wait_for(lambda: '"event":"close"' in journal.read_text(), "the end of the record")
        running.touch("closed")
        done = running.finish()
    assert_is_one_sweep(sweep, done, 1)
    assert (tmp_path / "collected").read_text() == "True"
    assert done.values == [[0, "sweep/0"]]


# --- signals and requests while nobody waits in `launch` ---------------------------------------

#: They are not told apart: one stands for all in the default run.
_SIGNALS = pytest.mark.parametrize(
    "name", ["SIGINT", *(pytest.param(n, marks=pytest.mark.slow) for n in ("SIGTERM", "SIGHUP"))]
)


def assert_was_interrupted(done: Finished, name: str, completed: int, count: int) -> None:
    """Once the summary and then the words on how to go on, and nothing of Python's."""
    assert done.code == 128 + getattr(signal, name)
    assert done.sweep.closed == f"interrupted by {name}"
    jobs = "1 job" if count == 1 else f"{count} jobs"
    assert done.out.count(f"{done.sweep.sweep_id}: {jobs}: ") == 1
    assert done.err.count(f"Interrupted by {name}: {completed} of {count} jobs completed") == 1
    assert done.err.count("To resume: python train.py -m ") == 1
    assert "Traceback" not in done.screen


@_SIGNALS
def test_a_signal_between_batches_ends_the_sweep(tmp_path: Path, name: str) -> None:
    sweep = Sweep(tmp_path)
    with sweep.start("thinking") as running:
        running.wait_for_files("thinking")
        running.process.send_signal(getattr(signal, name))
        done = running.finish()
    assert_was_interrupted(done, name, 1, 1)


@_SIGNALS
@pytest.mark.parametrize("kind", ["asking", "awaiting"])
def test_a_signal_in_a_sweepers_own_loop_ends_jobs_and_sweep(
    tmp_path: Path, kind: str, name: str
) -> None:
    sweep = Sweep(tmp_path, _STAYING)
    with sweep.start(kind, own_group=True) as running:
        running.wait_for_files("started-0", "started-1")
        running.touch("end-0")
        running.wait_for_files("started-2")
        running.process.send_signal(getattr(signal, name))
        running.assert_all_gone()
        done = running.finish()
    assert_was_interrupted(done, name, 1, 3)
    assert done.states == ["COMPLETED", "CANCELLED", "CANCELLED"]


def test_a_second_signal_there_kills_at_once(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, _DEAF)
    with sweep.start("asking", kill_grace=600, max_parallel_jobs=1) as running:
        running.wait_for_files("started-0")
        running.process.send_signal(signal.SIGINT)
        running.wait_for_files("heard")
        running.process.send_signal(signal.SIGINT)
        running.assert_all_gone()
        done = running.finish()
    assert_was_interrupted(done, "SIGINT", 0, 3)


@_SIGNALS
def test_a_signal_reaches_batches_of_other_threads(tmp_path: Path, name: str) -> None:
    sweep = Sweep(tmp_path, _STAYING)
    with sweep.start("threads") as running:
        wait_for(lambda: len(list(tmp_path.glob("started-?"))) == 2, "two jobs")
        running.process.send_signal(getattr(signal, name))
        running.assert_all_gone()
        done = running.finish()
    assert_was_interrupted(done, name, 0, 3)
    assert done.states == ["CANCELLED"] * 3


def test_a_signal_before_the_first_job_is_none_of_hsms(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    with sweep.start("early") as running:
        running.wait_for_files("thinking")
        running.process.send_signal(signal.SIGTERM)
        done = running.finish()
    assert (done.code, done.out, sweep.events()) == (-signal.SIGTERM, "", [])
    assert "Interrupted" not in done.err


def test_a_cancel_between_batches_ends_the_sweep_before_the_next_one(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    with sweep.start("thinking") as running:
        running.wait_for_files("thinking")
        requests = SweepPaths(running.sweep_dir).requests
        requests.mkdir()
        (requests / "all").touch()
        wait_for(lambda: not requests.exists(), "the request to be taken")
        running.touch("go")
        done = running.finish()
    assert done.code == 143
    assert (done.sweep.closed, done.states) == ("cancelled", ["COMPLETED"])
    assert "Cancelled: 1 of 1 jobs completed" in done.err


def test_a_cancel_ends_the_jobs_of_a_sweepers_own_loop(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, _STAYING)
    with sweep.start("asking") as running:
        running.wait_for_files("started-0", "started-1")
        sweep.cancel()
        done = running.finish()
    assert done.code == 143
    assert (done.sweep.closed, done.states) == ("cancelled", ["CANCELLED"] * 3)
    assert [value for _, value, _ in sweep.returned()] == ["HydraJobFailed"] * 3
    assert done.err.count("Cancelled: 0 of 3 jobs completed") == 1
