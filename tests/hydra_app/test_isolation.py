"""What a job's process is like: what `python train.py` would see, and nothing of another job.

Most tests read what one app noted in each of three jobs that ran one after the other, each of which
ended by spoiling all it could for the next (see `helpers.hydra.PROBE`).
"""

from __future__ import annotations

import shutil
import signal
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from helpers.hydra import (
    ends,
    read_journal,
    read_json,
    run_probe,
    run_python,
    run_sweep,
    succeed,
    write_files,
)
from helpers.processes import FORK_OR_SLOW_SPAWN, START_METHODS, App, both_methods


@pytest.fixture(scope="module", params=START_METHODS)
def probe(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    return run_probe(tmp_path_factory.mktemp("probe"), request.param)


# What is neither the job's own nor compared by a test of its own below.
SAME_AS_PLAIN = [
    *("argv0", "sys_path", "name", "file", "main_file", "spec", "counter"),
    *("flags", "executable", "cwd", "umask", "nice", "cpus", "limits", "recursion", "excepthook"),
    *("handlers", "mask", "wakeup_fd", "in_main_thread", "thread", "threads"),
    *("mp_name", "mp_daemon", "children", "encodings", "stdout_is_original", "fds"),
]


@pytest.mark.parametrize("fact", SAME_AS_PLAIN)
def test_every_job_sees_what_a_plain_run_sees(probe: dict[str, Any], fact: str) -> None:
    seen = [job["same"][fact] for job in probe["jobs"]]
    assert seen == [probe["plain"]["same"][fact]] * 3


def test_the_script_is_the_main_module(probe: dict[str, Any]) -> None:
    if probe["start_method"] == "spawn":
        pytest.skip(
            "a fresh interpreter gets the script's functions and what they use, not its module"
        )
    assert all(job["same"]["main_is_this"] for job in probe["jobs"])


def test_the_environment_is_the_plain_one_plus_hsm_and_tmpdir(probe: dict[str, Any]) -> None:
    plain = {k: v for k, v in probe["plain"]["same"]["environ"].items() if k != "TMPDIR"}
    for job in probe["jobs"]:
        environ = job["same"]["environ"]
        assert environ["TMPDIR"]
        ours = {k for k in environ if k.startswith("HSM_") or k == "TMPDIR"}
        assert {k: v for k, v in environ.items() if k not in ours} == plain


def test_the_launcher_sees_nothing_of_its_jobs(probe: dict[str, Any]) -> None:
    before, after, _ = probe["launcher"]
    assert after == before


def test_what_the_script_prints_at_import_is_not_repeated(probe: dict[str, Any]) -> None:
    assert probe["out"].count("import banner") == 1


def test_hsm_variables_name_the_job(probe: dict[str, Any]) -> None:
    sweep_dir = probe["folder"] / "sweep"
    events = read_journal(sweep_dir)
    ids = {job["job"]: job["id"] for e in events if e["event"] == "submit" for job in e["jobs"]}
    for num, job in enumerate(probe["jobs"]):
        environ = job["same"]["environ"]
        expected = {
            "HSM_SWEEP_ID": events[0]["sweep_id"],
            "HSM_JOB_ID": ids[num],
            "HSM_JOB_NUM": str(num),
            "HSM_ATTEMPT": "1",
            "HSM_SWEEP_DIR": str(sweep_dir),
            "HSM_JOB_DIR": str(sweep_dir / str(num)),
        }
        assert {k: environ.get(k) for k in expected} == expected


def test_each_job_has_a_process_and_a_session_of_its_own(probe: dict[str, Any]) -> None:
    own = [job["own"] for job in probe["jobs"]]
    assert len({job["pid"] for job in own} | {probe["launcher"][2]}) == 4
    assert all(job["sid"] == job["pgid"] == job["pid"] for job in own)
    assert [ends(probe["folder"] / "sweep")[n]["state"] for n in range(3)] == ["COMPLETED"] * 3


def test_standard_streams_are_null_and_the_jobs_logs(probe: dict[str, Any]) -> None:
    for job in probe["jobs"]:
        null, *pipes = job["own"]["streams"]
        assert null == "/dev/null"
        assert [pipe[:5] for pipe in pipes] == ["pipe:"] * 2
        assert pipes[0] != pipes[1]
        assert job["own"]["stdin"] == ""


def test_tmpdir_is_short_in_use_and_removed_afterwards(probe: dict[str, Any]) -> None:
    folders = []
    for job in probe["jobs"]:
        tmpdir = job["same"]["environ"]["TMPDIR"]
        folders.append(tmpdir)
        assert len(tmpdir) < 40
        assert job["own"]["tmpdir_is_dir"]
        # The script had asked for the temporary directory at import, which caches the answer.
        assert job["own"]["gettempdir"] == tmpdir
        assert job["own"]["left_behind"].startswith(tmpdir + "/")
        assert not Path(tmpdir).exists()
    assert len(set(folders)) == 3


@pytest.mark.parametrize("source", ["random", "numpy"])
def test_jobs_that_never_seed_draw_different_numbers(probe: dict[str, Any], source: str) -> None:
    if source == "numpy":
        pytest.importorskip("numpy")
    streams = [tuple(job["own"][source]) for job in (*probe["jobs"], probe["plain"])]
    assert len(set(streams)) == 4


SEEDED = """
    import json, random
    from pathlib import Path

    import hydra
    from hydra.core.hydra_config import HydraConfig

    random.seed(7)
    FIRST = random.random()
    if {numpy}:
        import numpy
        numpy.random.seed(7)
        numpy.random.random()


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        draws = [random.random() for _ in range(3)] + [FIRST]
        if {numpy}:
            draws += numpy.random.random(3).tolist()
        Path(HydraConfig.get().runtime.output_dir, "seen.json").write_text(json.dumps(draws))


    if __name__ == "__main__":
        main()
"""


@both_methods
def test_a_script_that_seeds_at_import_keeps_its_seed(tmp_path: Path, start_method: str) -> None:
    has_numpy = find_spec("numpy") is not None
    write_files(tmp_path, {"train.py": SEEDED.format(numpy=has_numpy)})
    succeed(run_python(tmp_path, "train.py", "hydra.run.dir=plain"))
    succeed(run_sweep(tmp_path, "+n=0,1,2", start_method=start_method))
    plain = read_json(tmp_path / "plain" / "seen.json")
    assert len(plain) == (7 if has_numpy else 4)
    for num in range(3):
        assert read_json(tmp_path / "sweep" / str(num) / "seen.json") == plain


HANDLERS = """
    import os, signal
    import hydra

    CAUGHT = []


    def note(number, frame):
        CAUGHT.append(number)


    signal.signal(signal.SIGUSR1, note)
    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
            os.kill(os.getpid(), number)
        return CAUGHT


    if __name__ == "__main__":
        main()
"""


def test_signal_handlers_of_the_script_hold_in_every_job(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": HANDLERS})
    succeed(run_sweep(tmp_path, "+n=0,1", start_method="fork"))
    expected = [signal.SIGUSR1, signal.SIGTERM]
    assert [end["value"] for end in ends(tmp_path / "sweep").values()] == [expected, expected]


# One job for each way in which a process has work left when its main function returns.
ENDINGS = """
    import atexit, ctypes, logging.handlers, multiprocessing.util, os, subprocess, sys, tempfile
    import threading, time, weakref
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    import hydra



    class Anchor:
        pass


    KEPT = [Anchor()]
    weakref.finalize(KEPT[0], int)  # with the first of them the one exit hook for all is registered


    @atexit.register
    def at_import():
        with open("import-hooks", "a") as file:
            file.write(f"{os.getpid()}\\n")


    def late(path):
        time.sleep(0.4)
        Path(path).write_text("complete")


    def thread(here):
        threading.Thread(target=late, args=(here / "late",)).start()


    def daemon(here):
        threading.Thread(target=lambda: time.sleep(60) or late(here / "late"), daemon=True).start()


    def executor(here):
        KEPT.append(ThreadPoolExecutor(1))
        KEPT[-1].submit(late, here / "late")


    def child(here):
        multiprocessing.get_context("fork").Process(target=late, args=(here / "late",)).start()


    def hooks(here):
        for n in (1, 2):
            atexit.register(lambda n=n: (here / "hooks").open("a").write(f"{n} {os.getpid()}\\n"))
        (here / "pid").write_text(str(os.getpid()))


    def finalizers(here):
        KEPT.append(tempfile.TemporaryDirectory(dir=here, prefix="temporary-"))
        KEPT.append(Anchor())
        weakref.finalize(KEPT[-1], (here / "finalized").write_text, "yes")


    def records(here):
        memory = logging.handlers.MemoryHandler(1000, target=logging.FileHandler(here / "records"))
        logger = logging.getLogger("kept back")
        logger.propagate = False
        logger.addHandler(memory)
        logger.warning("written at exit")


    def buffers(here):
        KEPT.append(open(here / "buffered", "w"))
        KEPT[-1].write("never closed")
        ctypes.CDLL(None).printf(b"from C\\n")
        print("no newline", end="")


    def mixed(here):
        print("from print", flush=True)
        os.write(1, b"from write\\n")
        os.write(2, b"to stderr\\n")
        subprocess.run(["sh", "-c", "echo from a child; echo child to stderr >&2"], check=True)


    def python(here):
        code = "import multiprocessing as m; print(m.Pool(2).map(abs, [-2, 4]))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        (here / "late").write_text(done.stdout)


    def pool(here):
        with multiprocessing.get_context("fork").Pool(2) as workers:
            (here / "late").write_text(str(workers.map(double, [1, 2])))


    def double(n):
        return 2 * n


    JOBS = {
        job.__name__: job
        for job in (
            *(daemon, thread, executor, child, hooks, finalizers),
            *(records, buffers, mixed, python, pool),
        )
    }


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        JOBS[cfg.kind](Path(os.environ["HSM_JOB_DIR"]))


    if __name__ == "__main__":
        main()
        Path("launcher-pid").write_text(str(os.getpid()))
"""
KINDS = [
    *("daemon", "thread", "executor", "child", "hooks", "finalizers"),
    *("records", "buffers", "mixed", "python", "pool"),
]


@pytest.fixture(scope="module", params=FORK_OR_SLOW_SPAWN)
def endings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("endings")
    write_files(folder, {"train.py": ENDINGS})
    succeed(run_sweep(folder, "+kind=" + ",".join(KINDS), start_method=request.param))
    return folder


def _job(endings: Path, kind: str) -> Path:
    return endings / "sweep" / str(KINDS.index(kind))


@pytest.mark.parametrize("kind", ["thread", "executor", "child"])
def test_work_in_the_background_is_finished(endings: Path, kind: str) -> None:
    assert (_job(endings, kind) / "late").read_text() == "complete"


@pytest.mark.parametrize("kind", ["python", "pool"])
def test_a_job_can_have_worker_processes(endings: Path, kind: str) -> None:
    assert (_job(endings, kind) / "late").read_text().strip() == "[2, 4]"


def test_daemon_threads_are_not_waited_for(endings: Path) -> None:
    events = [e for e in read_journal(endings / "sweep") if e.get("job") == 0]
    times = {e["event"]: e["time"] for e in events}
    assert times["end"] - times["start"] < 30
    assert not (_job(endings, "daemon") / "late").exists()


def test_exit_hooks_of_the_job_run_last_first(endings: Path) -> None:
    folder = _job(endings, "hooks")
    pid = (folder / "pid").read_text()
    assert (folder / "hooks").read_text().splitlines() == [f"2 {pid}", f"1 {pid}"]


def test_exit_hooks_of_the_launcher_run_in_it_alone(endings: Path) -> None:
    pids = (endings / "import-hooks").read_text().split()
    assert pids == [(endings / "launcher-pid").read_text()]


def test_finalizers_of_the_job_run(endings: Path) -> None:
    folder = _job(endings, "finalizers")
    assert (folder / "finalized").read_text() == "yes"
    assert not list(folder.glob("temporary-*"))


def test_buffers_are_written_at_exit(endings: Path) -> None:
    folder = _job(endings, "buffers")
    assert (folder / "buffered").read_text() == "never closed"
    out = (folder / "stdout.log").read_text()
    assert "from C\n" in out
    assert "no newline" in out
    assert (_job(endings, "records") / "records").read_text() == "written at exit\n"


def test_output_of_any_origin_is_in_the_jobs_own_logs(endings: Path) -> None:
    folder = _job(endings, "mixed")
    out = (folder / "stdout.log").read_text()
    assert out == "from print\nfrom write\nfrom a child\n"
    assert "to stderr\nchild to stderr\n" in (folder / "stderr.log").read_text()
    others = [p for p in (endings / "sweep").glob("*/std*.log") if p.parent != folder]
    assert len(others) == 2 * (len(KINDS) - 1)
    assert not any("from " in p.read_text() and "from C" not in p.read_text() for p in others)


EDITING = """
    import json
    from pathlib import Path

    import hydra
    from hydra.core.hydra_config import HydraConfig
    import helper

    VALUE = "old"


    def note(cfg):
        return {"script": VALUE, "helper": helper.VALUE, "base": cfg.base, "model": cfg.model.name}


    @hydra.main(version_base=None, config_path="conf", config_name="config")
    def main(cfg):
        runtime = HydraConfig.get().runtime
        Path(runtime.output_dir, "seen.json").write_text(json.dumps(note(cfg)))
        if HydraConfig.get().job.num == 0:
            for path in Path("edits").rglob("*"):
                if path.is_file():
                    Path(path.relative_to("edits")).write_text(path.read_text())
            Path("conf/model/removed.yaml").unlink()


    if __name__ == "__main__":
        main()
"""


@both_methods
@pytest.mark.parametrize(
    "batch",
    [
        pytest.param([], id="whole"),
        pytest.param(["hydra.sweeper.max_batch_size=2"], id="batches", marks=pytest.mark.slow),
    ],
)
def test_edits_made_during_the_sweep_change_no_pending_job(
    tmp_path: Path, start_method: str, batch: list[str]
) -> None:
    config = """
        defaults: [model: a, _self_]
        base: {value}
    """
    write_files(
        tmp_path,
        {
            "train.py": EDITING,
            "helper.py": "VALUE = 'old'\n",
            "conf/config.yaml": config.format(value="old"),
            "conf/model/a.yaml": "name: old-a\n",
            "conf/model/b.yaml": "name: old-b\n",
            "conf/model/removed.yaml": "name: old-removed\n",
            "edits/train.py": EDITING.replace("old", "new"),
            "edits/helper.py": "VALUE = 'new'\n",
            "edits/conf/config.yaml": config.format(value="new"),
            "edits/conf/model/a.yaml": "name: new-a\n",
            "edits/conf/model/b.yaml": "name: new-b\n",
        },
    )
    # Before each batch the sweeper itself checks that it can be composed, from the files on disk.
    models = ["a", "b"] if batch else ["a", "b", "removed"]
    overrides = ["model=" + ",".join(models), "+n=0,1", *batch]
    succeed(run_sweep(tmp_path, *overrides, start_method=start_method, jobs=1))
    assert (tmp_path / "conf" / "model" / "b.yaml").read_text() == "name: new-b\n"
    for num in range(2 * len(models)):
        seen = read_json(tmp_path / "sweep" / str(num) / "seen.json")
        assert seen["script"] == "old"
        assert seen["base"] == "old"
        assert seen["model"] == "old-" + models[num // 2]
        if start_method == "fork":  # a fresh interpreter imports the script's modules again
            assert seen["helper"] == "old"


TASKS = """
    import functools, sys
    import hydra


    def make(factor):
        def inner(cfg):
            return cfg.n * factor
        return inner


    class Task:
        def __call__(self, cfg):
            return cfg.n * 2


    def double(factor, cfg):
        return cfg.n * factor


    class Trainer:
        factor = 2

        def train(self, cfg):
            return cfg.n * self.factor


    TASKS = {
        "lambda": lambda cfg: cfg.n * 2,
        "closure": make(2),
        "callable_object": Task(),
        "partial": functools.update_wrapper(functools.partial(double, 2), double),
        "method": Trainer().train,
    }

    if __name__ == "__main__":
        given = sys.argv[1:]
        for kind, task in TASKS.items():
            sys.argv[1:] = [*given, f"hydra.sweep.dir=sweep/{kind}"]
            hydra.main(version_base=None, config_path=None)(task)()
"""


@both_methods
def test_the_task_may_be_any_callable(tmp_path: Path, start_method: str) -> None:
    write_files(tmp_path, {"train.py": TASKS})
    succeed(run_sweep(tmp_path, "+n=1,2", start_method=start_method))
    for kind in ("lambda", "closure", "callable_object", "partial", "method"):
        values = [end["value"] for _, end in sorted(ends(tmp_path / "sweep" / kind).items())]
        assert values == [2, 4], kind


UNPICKLABLE = """
    import os, threading
    import hydra

    LOCK = threading.Lock()
    NUMBERS = iter(range(10))
    GENERATED = (n for n in range(10))
    FILE = open("shared.log", "a")
    SQUARE = lambda n: n * n


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        with LOCK:
            FILE.write(f"{cfg.n}\\n")
        LOCK.acquire()  # a lock that a finished job still holds blocks nobody else
        return [next(NUMBERS), next(GENERATED), SQUARE(cfg.n)]


    if __name__ == "__main__":
        main()
"""


def test_globals_that_cannot_be_pickled_work_under_fork(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": UNPICKLABLE})
    succeed(run_sweep(tmp_path, "+n=1,2,3", start_method="fork"))
    values = [end["value"] for _, end in sorted(ends(tmp_path / "sweep").items())]
    assert values == [[0, 0, 1], [0, 0, 4], [0, 0, 9]]
    assert sorted((tmp_path / "shared.log").read_text().split()) == ["1", "2", "3"]


LIBRARY = """
    import hydra
    import {library}

    if {warm}:
        # Enough work for the library's own worker threads to exist before the first job.
        WARM = float(({library}.ones((400, 400)) @ {library}.ones((400, 400))).sum())


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        return float(({library}.ones((400, 400)) @ {library}.ones((400, 400))).sum()) + cfg.n


    if __name__ == "__main__":
        main()
"""


@both_methods
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_libraries_with_threads_of_their_own_work(
    tmp_path: Path, library: str, start_method: str
) -> None:
    pytest.importorskip(library)
    # torch's threads are OpenMP's, which do not survive a fork: README, limits.
    warm = library == "numpy" or start_method == "spawn"
    write_files(tmp_path, {"train.py": LIBRARY.format(library=library, warm=warm)})
    succeed(run_sweep(tmp_path, "+n=0,1,2", start_method=start_method))
    values = [end["value"] for _, end in sorted(ends(tmp_path / "sweep").items())]
    assert values == [400.0**3, 400.0**3 + 1, 400.0**3 + 2]


TEMPORARY = """
    import os, socket
    from pathlib import Path

    import hydra


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        path = os.path.join(os.environ["TMPDIR"], "socket-with-a-name-of-a-usual-length")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
        return os.environ["TMPDIR"]


    if __name__ == "__main__":
        main()
"""


def test_tmpdir_is_kept_without_clean_up(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": TEMPORARY})
    succeed(run_sweep(tmp_path, "hydra.launcher.cleanup_on_exit=false"))
    kept = Path(ends(tmp_path / "sweep")[0]["value"])
    try:
        assert [entry.name for entry in kept.iterdir()] == ["socket-with-a-name-of-a-usual-length"]
    finally:
        shutil.rmtree(kept)
        with suppress(OSError):
            kept.parent.rmdir()  # the sweep's, empty by now


def test_a_unix_socket_fits_in_tmpdir_even_when_the_users_is_long(tmp_path: Path) -> None:
    long_name = tmp_path / ("long" * 20)
    long_name.mkdir()
    write_files(tmp_path, {"train.py": TEMPORARY})
    succeed(run_sweep(tmp_path, env={"TMPDIR": str(long_name)}))
    assert list(long_name.iterdir()) == []


def test_auto_takes_spawn_when_the_script_has_threads(tmp_path: Path) -> None:
    app = """
        import os, threading
        import hydra

        @hydra.main(version_base=None, config_path=None)
        def main(cfg):
            return threading.active_count()

        if __name__ == "__main__":
            done = threading.Event()
            threading.Thread(target=done.wait, name="watcher").start()
            try:
                main()
            finally:
                done.set()
    """
    write_files(tmp_path, {"train.py": app})
    done = succeed(run_sweep(tmp_path))
    assert "spawn" in done.text
    assert ends(tmp_path / "sweep")[0]["value"] == 1


TIDY = """
    import os, shutil, sys
    import hydra
    from hydra.core.hydra_config import HydraConfig


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        if cfg.kind == "closes_descriptors":
            os.closerange(3, 256)
        if cfg.kind == "removes_its_directory":
            shutil.rmtree(HydraConfig.get().runtime.output_dir)
        return [sys.flags.optimize, sys.warnoptions]


    if __name__ == "__main__":
        main()
"""


@both_methods
def test_jobs_may_close_and_remove_what_is_theirs_and_have_the_interpreters_options(
    tmp_path: Path, start_method: str
) -> None:
    write_files(tmp_path, {"train.py": TIDY})
    kinds = "+kind=closes_descriptors,removes_its_directory,neither"
    script = ("-O", "-W", "ignore::ImportWarning", "train.py")
    succeed(run_sweep(tmp_path, kinds, start_method=start_method, script=script))
    finals = ends(tmp_path / "sweep").values()
    assert [end["state"] for end in finals] == ["COMPLETED"] * 3
    assert [end["value"] for end in finals] == [[1, ["ignore::ImportWarning"]]] * 3


@both_methods
def test_a_stdout_of_the_jobs_own_making_is_flushed_before_what_it_writes_to(
    tmp_path: Path, start_method: str
) -> None:
    """It holds text back, and does not flush the buffer below it, which is flushed in any case."""
    body = """
        import io


        class Holding(io.TextIOBase):
            def __init__(self):
                self.held, self.below = "", open(1, "wb", closefd=False)

            def writable(self):
                return True

            def write(self, text):
                self.held += text
                return len(text)

            def flush(self):
                self.below.write(self.held.encode())
                self.held = ""


        def job(cfg):
            sys.stdout = Holding()
            print("held back")
    """
    done = App(tmp_path, dedent(body)).run("job=0", start_method=start_method)
    assert done.states == ["COMPLETED"], done.screen
    assert (tmp_path / "sweep/.hsm/logs/0.out").read_text() == "held back\n"
