"""Sweepers as others write them, each a method of one class, and sweeps with them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.hydra import clean_environment, write_files
from helpers.processes import App, Finished, RunningSweep

SWEEPERS = """
    import asyncio
    import gc
    import json
    import signal
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


    def join(thread):
        while thread.is_alive():  # Of a signal just before a long wait, Python knows only after it.
            thread.join(0.05)


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
            join(thread)

        def threads(self):
            threads = [
                threading.Thread(target=self.launch, args=(num,), kwargs={"first": num})
                for num in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                join(thread)

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
                gathered = asyncio.gather(*map(asyncio.wrap_future, futures))
                while not gathered.done():  # No long wait here either.
                    await asyncio.wait([gathered], timeout=0.05)
                return await gathered

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

        def interrupted(self):
            "Ends while a job runs; Ctrl-C comes at the moment when the session begins to close."
            session = self.launcher.session
            session.submit(["job=0"])
            think("started-0")
            finish = session._finish

            def interrupted_first(*given):
                signal.raise_signal(signal.SIGINT)
                finish(*given)

            session._finish = interrupted_first

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

NOTING = """
    from hydra.core.hydra_config import HydraConfig


    def job(cfg):
        output = Path(HydraConfig.get().runtime.output_dir).relative_to(Path.cwd())
        if os.path.exists(f"fail-{cfg.job}"):
            raise ValueError(cfg.job)
        return [10 * cfg.job, str(output)]
"""

STAYING = """
    def job(cfg):
        note(f"started-{cfg.job}")
        wait_for(f"end-{cfg.job}")
        return cfg.job
"""

DEAF = """
    def heard(signum, frame):
        note("heard")


    def job(cfg):
        signal.signal(signal.SIGTERM, heard)
        note(f"started-{cfg.job}")
        wait_for("never")
"""


class Sweep:
    """An app whose sweeper is `Made`."""

    def __init__(self, folder: Path, body: str = NOTING) -> None:
        self.folder = folder
        self.app = App(folder, body)
        write_files(folder, {"hydra_plugins/made.py": SWEEPERS})

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
    assert summaries(done) == [head]
    assert f"[{count}/{count}] " in done.out


def summaries(done: Finished) -> list[str]:
    """The first line of each."""
    return [line for line in done.out.splitlines() if line.startswith(done.sweep.sweep_id)]
