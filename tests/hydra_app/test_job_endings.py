"""What a job has left to do when its main function returns is done, by it and before it ends."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from helpers.hydra import (
    read_journal,
    run_sweep,
    succeed,
    write_files,
)
from helpers.processes import FORK_OR_SLOW_SPAWN, App, both_methods

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


@pytest.mark.slow
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


@pytest.mark.slow
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
