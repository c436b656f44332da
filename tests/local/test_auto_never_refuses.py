"""Where spawn cannot, and a fork is not known to do harm, `auto` forks, and one line says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.looks import start_methods
from helpers.processes import App, Finished, first_fast

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, auto is spawn"),
]


def _forked_although(done: Finished, reason: str) -> None:
    assert done.code == 0, done.screen
    assert start_methods(done) == ["fork"]
    (line,) = [line for line in done.screen.splitlines() if "start_method: " in line]
    assert "start_method: fork, although the launching process has" in line
    assert reason in line
    recorded = done.sweep.servers[0]["reason"]
    assert recorded.startswith("although ")
    assert reason in recorded


@pytest.mark.parametrize("method", first_fast("auto", "fork"))
def test_a_thread_and_a_global_that_cannot_be_pickled(tmp_path: Path, method: str) -> None:
    app = App(
        tmp_path,
        """
        import sqlite3
        threading.Thread(target=stay, daemon=True, name="monitor").start()
        db = sqlite3.connect("data.db")

        def job(cfg):
            return db.execute("select ?", (cfg.job,)).fetchone()[0]
        """,
    )
    done = app.run("job=range(3)", start_method=method)
    assert done.values == [0, 1, 2], done.screen
    if method == "auto":
        _forked_although(done, "the global 'db' of main() cannot be pickled")
    else:
        assert done.sweep.servers[0]["reason"] is None
        assert "(monitor)" in done.sweep.servers[0]["found"][0]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["auto", "fork"])
def test_a_queue_that_a_thread_of_the_launcher_reads(tmp_path: Path, method: str) -> None:
    """As loguru has it with enqueue=True, and logging with a QueueListener: no line is lost."""
    app = App(
        tmp_path,
        """
        import multiprocessing
        queue = multiprocessing.SimpleQueue()

        def write():
            while True:
                text = queue.get()
                with open("lines", "a") as file:
                    file.write(text + "\\n")

        threading.Thread(target=write, daemon=True, name="writer").start()
        time.sleep(0.3)  # it waits for the first line by now

        def job(cfg):
            queue.put(f"job {cfg.job}")
            wait_for("lines")
            while f"job {cfg.job}\\n" not in open("lines").read():
                time.sleep(0.02)
            return cfg.job
        """,
    )
    done = app.run("job=range(4)", start_method=method, seconds=240)
    assert done.values == [0, 1, 2, 3], done.screen
    lines = (tmp_path / "lines").read_text().splitlines()
    assert sorted(lines) == [f"job {n}" for n in range(4)]
    if method == "auto":
        _forked_although(done, "'queue' of main() cannot be pickled")


def test_what_is_known_to_do_harm_is_refused_and_both_reasons_are_named(tmp_path: Path) -> None:
    app = App(
        tmp_path,
        """
        import multiprocessing
        queue = multiprocessing.SimpleQueue()

        def job(cfg):
            queue.put(cfg.job)
            return queue.get()
        """,
    )
    done = app.run("job=range(2)")
    assert done.code == 1
    for part in ("neither start method", "a pipe open", "global 'queue'", "start_method=fork"):
        assert part in done.screen
    assert "Traceback" not in done.screen
    assert not list((tmp_path / "sweep").glob("[0-9]*"))
