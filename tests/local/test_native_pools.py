"""1. Pools of native threads that came to life in the launcher: no job waits for them in vain."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path

import pytest

from helpers.looks import look_in, start_methods
from helpers.processes import App, first_fast
from helpers.reliability import start_driver, write_driver
from hsm.core.local.fork_safety.start_method import look

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, auto is spawn"),
]

#: A thread of a C library's that nobody knows; it needs no compiler.
_UNKNOWN_POOL = """
    import ctypes
    libc = ctypes.CDLL(None)
    libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.pause, None)
"""


@pytest.mark.slow
def test_openmp_of_scikit_learn_is_paused_and_forks(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    app = App(
        tmp_path,
        """
        from sklearn.datasets import make_classification
        from sklearn.ensemble import HistGradientBoostingClassifier

        X, y = make_classification(500, random_state=0)

        def fit():
            return HistGradientBoostingClassifier(max_iter=3).fit(X, y).score(X, y)

        SCORE = fit()

        def job(cfg):
            return fit() == SCORE
        """,
    )
    done = app.run("job=range(2)", seconds=240)
    assert done.code == 0, done.screen
    assert done.values == [True, True]
    assert start_methods(done) == ["fork"]


@pytest.mark.slow
def test_a_pool_that_came_to_life_between_two_runs(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    script = """
    import numpy as np
    from sklearn.cluster import KMeans
    X = np.random.RandomState(0).rand(500, 3)

    def fit(params):
        return round(float(KMeans(3, n_init=1, random_state=0).fit(X).inertia_), 3)

    values = []
    for n in range(2):
        with source() as made:
            ids = made.submit_jobs([{"x": 1}, {"x": 2}], f"s{n}", f"sweep{n}", function=fit)
            values += [made.result(job_id) for job_id in ids]
        values.append(fit(None))
    note("values", json.dumps(values))
    """
    write_driver(tmp_path, script)
    with start_driver(tmp_path) as running:
        assert running.process.wait(240) == 0
    assert len(set((tmp_path / "values").read_text().strip("[]").split(", "))) == 1


def test_polars_may_be_imported_and_not_used_before_a_fork(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    seen = look_in(
        """
        import polars
        see("imported")
        frame = polars.DataFrame({"g": [1, 2], "v": [3, 4]})
        frame.lazy().group_by("g").agg(polars.col("v").sum()).collect()
        see("used")
        """,
        tmp_path,
    )
    assert seen["imported"] == []
    assert seen["used"][0][0].startswith("polars has been used: ")
    assert seen["used"][0][1]


@pytest.mark.slow
def test_jobs_use_polars_after_the_app_did(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    app = App(
        tmp_path,
        """
        import polars

        def total(n):
            frame = polars.DataFrame({"g": [1, 2, 1], "v": [n, n, n]})
            return frame.group_by("g").agg(polars.col("v").sum())["v"].sum()

        total(1)

        def job(cfg):
            return total(cfg.job)
        """,
    )
    done = app.run("job=range(2)", seconds=240)
    assert done.values == [0, 3], done.screen
    assert start_methods(done) == ["spawn"]
    assert done.screen.count("start_method: spawn, because polars has been used") == 1


@pytest.mark.slow
def test_numbas_own_openmp_layer_means_spawn(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    (tmp_path / "kernel.py").write_text(
        "import numba\n"
        "@numba.njit(parallel=True, cache=True)\n"
        "def total(n):\n"
        "    t = 0\n"
        "    for i in numba.prange(n):\n"
        "        t += i\n"
        "    return t\n"
        "total(3)\n"
    )
    app = App(tmp_path, "import kernel\ndef job(cfg):\n    return int(kernel.total(cfg.job))\n")
    done = app.run("job=5", seconds=240)
    assert done.values == [10], done.screen
    assert start_methods(done) == ["spawn"]


@pytest.mark.parametrize("library", first_fast("numpy", "pyarrow"))
def test_pools_that_survive_a_fork_are_forked(tmp_path: Path, library: str) -> None:
    pytest.importorskip(library)
    use = {
        "numpy": "a = numpy.ones((900, 900)); use = lambda: (a @ a)[0, 0]",
        "pyarrow": "import pyarrow.compute; t = pyarrow.table({'g': [1, 2] * 9999});\n"
        "        use = lambda: t.group_by('g').aggregate([('g', 'sum')]).num_rows",
    }
    app = App(
        tmp_path,
        f"""
        import {library}
        {use[library]}
        VALUE = use()

        def job(cfg):
            return bool(use() == VALUE)
        """,
    )
    done = app.run("job=range(2)", seconds=240)
    assert done.values == [True, True], done.screen
    assert start_methods(done) == ["fork"]


def test_an_idle_and_a_busy_pool_are_told_apart_from_unknown_ones(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    seen = look_in(
        """
        import time
        import numpy
        a = numpy.ones((700, 700))
        a @ a
        see("at once")  # OpenBLAS's threads still run
        time.sleep(0.5)
        see("later")
        """
        + _UNKNOWN_POOL.replace("\n    ", "\n        ")
        + """
        see("another one")
        """,
        tmp_path,
    )
    assert seen["at once"] == seen["later"] == []
    ((text, is_harmful),) = seen["another one"]
    assert "native threads are running that may not survive a fork" in text
    assert not is_harmful


@pytest.mark.slow
def test_a_running_thread_whose_stack_is_not_found(tmp_path: Path) -> None:
    """As with glibc 2.42 or newer, whose stacks follow each other without a guard page."""
    pytest.importorskip("numpy")
    seen = look_in(
        """
        import numpy
        from hsm.core.local.fork_safety.native_threads import _Maps
        _Maps.ends_of_stacks = lambda self: []
        a = numpy.ones((700, 700))
        a @ a
        see("at once")
        """,
        tmp_path,
    )
    assert seen["at once"] == []


def test_pythons_own_watchdog_and_threads_without_a_name(tmp_path: Path) -> None:
    seen = look_in(
        """
        import _thread, faulthandler, time
        faulthandler.dump_traceback_later(1000)
        see("watchdog")
        faulthandler.cancel_dump_traceback_later()

        started = []

        def wait():
            started.append(True)
            _thread.allocate_lock().acquire()
            while True:
                time.sleep(1000)

        _thread.start_new_thread(wait, ())
        while not started:
            time.sleep(0.01)
        see("raw thread")
        """,
        tmp_path,
    )
    assert "Python itself (1)" in seen["watchdog"][0][0]
    assert "other threads (one of __main__)" in seen["raw thread"][0][0]


def test_the_look_is_taken_again_when_a_killed_server_is_replaced(tmp_path: Path) -> None:
    script = f"""
    def pid_of_parent(params):
        return os.getppid()

    with source(max_parallel_jobs=1) as made:
        submit = lambda x: made.submit_jobs([{{"x": x}}], "s", "sweep", function=pid_of_parent)[0]
        keeper = made.result(submit(1))
        {_UNKNOWN_POOL.replace(chr(10), chr(10) + "    ")}
        status = lambda pid: Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()
        os.kill(int(status(keeper)[1]), signal.SIGKILL)
        while status(keeper)[0] != "Z":  # it ends with its server, and waits for its new parent
            time.sleep(0.02)
        made.result(submit(2))
    note("done")
    """
    write_driver(tmp_path, script)
    with start_driver(tmp_path) as running:
        assert running.process.wait(240) == 0
        servers = running.read().servers
    assert [server["start_method"] for server in servers] == ["fork", "spawn"]
    assert servers[0]["reason"] is None
    assert servers[0]["found"] == []
    assert "native threads" in servers[1]["reason"]


@pytest.mark.heavy
def test_torch_on_the_cpu_is_used_before_and_in_jobs(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    app = App(
        tmp_path,
        """
        import torch

        DATA = torch.ones(1000, 1000)
        use = lambda: float((DATA @ DATA).exp().tanh().mean())
        VALUE = use()

        def job(cfg):
            return use() == VALUE
        """,
    )
    done = app.run("job=range(3)", seconds=240)
    assert done.values == [True] * 3, done.screen


def test_the_look_keeps_nothing_alive_that_its_callers_hold() -> None:
    class Held:
        pass

    def look_holding() -> weakref.ref[Held]:
        held = Held()
        look()
        return weakref.ref(held)

    gc.collect()
    gc.disable()
    try:
        assert look_holding()() is None
    finally:
        gc.enable()
