"""Jobs that cannot be started: they wait for room, or say why not, and none of them has failed."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.processes import FORK_OR_SLOW_SPAWN, PATIENCE, both_methods, first_fast
from helpers.reliability import Recorder, points, source, start_driver, write_driver
from hsm.core.engine import room
from hsm.core.errors import SettingsError
from hsm.core.local import descriptor_limit
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

#: Prints how each job has ended, and what was told meanwhile; the jobs note their numbers.
_DRIVER = """
told = []


class Told:
    shows_messages = True

    def __getattr__(self, name):
        return lambda *arguments: None

    def message(self, text):
        told.append(text)


def job(params):
    side(params)
    time.sleep(0.1)
    return params["x"]


def run(count, **settings):
    with source(cpus=None, **settings) as made:
        made.observers.append(Told())
        words = ["sh", "-c", "echo {x} >> side; exec sleep 0.1"]
        work = {"command": words} if sys.argv[2] == "command" else {"function": job}
        made.submit_jobs([{"x": x} for x in range(count)], "s", "sweep", **work)
        made.wait()
    print(json.dumps(told))
"""


def in_small_quota() -> None:
    """Be a user who may have 14 processes and threads (setrlimit(2)), and is no other way bound."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    user = 61_000 + os.getpid() % 4000
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, since all that is here is root's; capset(2).
    kept = 1 << 1 | 1 << 2
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)) == 0
    for capability in (1, 2):
        libc.prctl(47, 2, capability, 0, 0)  # PR_CAP_AMBIENT_RAISE
    resource.setrlimit(resource.RLIMIT_NPROC, (14, 14))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("kind", ["function", "command"])
def test_a_user_who_may_have_few_processes(tmp_path: Path, kind: str) -> None:
    """Eight slots do not fit into 14 processes and threads: the jobs take turns."""
    write_driver(tmp_path, _DRIVER + "\nrun(12, max_parallel_jobs=8)\n")
    settings = {"start_method": "fork"}
    with start_driver(tmp_path, settings, kind, preexec_fn=in_small_quota) as sweep:
        done = sweep.finish()
    assert (done.code, done.states) == (0, ["COMPLETED"] * 12), done.screen
    assert [len(job.attempts) for job in done.jobs.values()] == [1] * 12
    assert len((tmp_path / "side").read_text().splitlines()) == 12
    assert "jobs wait: cannot start a " in done.out
    assert "Traceback" not in done.err


_FORK = """
import errno
import mmap

fork, calls = os.fork, mmap.mmap(-1, 1)


def unlucky():
    "Two of three forks fail at first: of the launcher, the server, and the keepers."
    calls[0] += 1
    if calls[0] < 9 and calls[0] % 3:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()


os.fork = unlucky
run(4, start_method="fork")
"""


def test_a_fork_that_fails_for_a_while_is_tried_again(tmp_path: Path) -> None:
    write_driver(tmp_path, _DRIVER + _FORK)
    with start_driver(tmp_path, {}, "function") as sweep:
        done = sweep.finish()
    assert (done.code, done.states) == (0, ["COMPLETED"] * 4), done.screen
    assert [len(job.attempts) for job in done.jobs.values()] == [1] * 4
    told = "jobs wait: cannot start the fork server: Resource temporarily unavailable"
    assert done.out == f'["{told}"]\n'
    assert done.err == ""


_DESCRIPTORS = """
import resource


def limit():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def job(params):
    print(limit())
    side(params)
    wait_for("go")


resource.setrlimit(resource.RLIMIT_NOFILE, (50, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
with source(max_parallel_jobs=20, show_output=True) as made:
    made.submit_jobs([{"x": x} for x in range(20)], "s", "sweep", function=job)
    while not Path("side").exists() or len(Path("side").read_text().splitlines()) < 20:
        time.sleep(0.02)
    note("go")
    made.wait()
print(limit())
"""


@pytest.mark.parametrize("start_method", FORK_OR_SLOW_SPAWN)
def test_many_slots_where_few_descriptors_are_allowed(tmp_path: Path, start_method: str) -> None:
    """The launcher takes what it needs; jobs have the limit of the app, and so has that again."""
    write_driver(tmp_path, _DESCRIPTORS)
    with start_driver(tmp_path, {"start_method": start_method}) as sweep:
        done = sweep.finish()
    assert (done.code, done.states) == (0, ["COMPLETED"] * 20), done.screen
    assert {done.log(num, "stdout") for num in range(20)} == {"50\n"}
    assert sorted(done.out.splitlines()) == sorted([*(f"[{num}] 50" for num in range(20)), "50"])


def test_more_slots_than_the_hard_limit_allows_are_refused_by_name() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    slots = hard // 2
    with pytest.raises(SettingsError) as error, source(max_parallel_jobs=slots):
        pass
    assert str(error.value) == (
        f"max_parallel_jobs={slots} needs about {64 + 3 * slots} open files; "
        f"the limit is {hard} (ulimit -Hn)"
    )
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


# --- what is on the disk ------------------------------------------------------------------------


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    """A file system with 60 inodes; skips the test where it cannot be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "nr_inodes=60,size=20m", "tmpfs", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def square(params: dict[str, Any]) -> int:
    return int(params["x"]) ** 2


def fail(params: dict[str, Any]) -> None:
    raise ValueError(params["x"])


class Freeing(Recorder):
    """Makes room as soon as it is told that jobs wait for it."""

    def __init__(self, free: Callable[[], None]) -> None:
        super().__init__()
        self._free = free

    def message(self, text: str) -> None:
        super().message(text)
        self._free()


@both_methods
def test_jobs_wait_for_inodes(few_inodes: Path, start_method: str) -> None:
    filling = few_inodes / "filling"
    for num in range(30):
        (filling / str(num)).mkdir(parents=True)
    told = Freeing(lambda: shutil.rmtree(filling))
    with source(told, start_method=start_method, cpus=None) as made:
        ids = made.submit_jobs(points(*range(8)), "s", few_inodes / "s", function=square)
        assert [made.result(job_id) for job_id in ids] == [x**2 for x in range(8)]
    (message,) = told.messages
    assert message.startswith("jobs wait: cannot ")
    assert message.endswith("No space left on device")
    assert [len(job.attempts) for job in read_sweep(few_inodes / "s").jobs.values()] == [1] * 8


@pytest.mark.slow
def test_jobs_for_which_there_are_no_inodes_run_in_a_resume(
    few_inodes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PATIENCE", 0.3)
    (few_inodes / "filling").mkdir()
    for num in range(20):
        (few_inodes / "filling" / str(num)).touch()
    jobs = points(*range(10))
    settings: dict[str, Any] = {"max_retries": 2, "fail_fast": True}
    with source(**settings) as made:
        made.submit_jobs(jobs, "s", few_inodes / "s", command=["true"])
        made.wait(timeout=PATIENCE)
    sweep = read_sweep(few_inodes / "s")
    assert {str(job.state) for job in sweep.jobs.values()} == {"COMPLETED", "CANCELLED"}
    assert sweep.closed is not None
    assert sweep.closed.startswith("jobs cannot be started: cannot ")
    assert "No space left on device, for 0." in sweep.closed
    shutil.rmtree(few_inodes / "filling")
    with source(resume=True, **settings) as made:
        made.submit_jobs(jobs, "s", few_inodes / "s", command=["true"])
    jobs_now = read_sweep(few_inodes / "s").jobs.values()
    assert {(str(job.state), len(job.attempts)) for job in jobs_now} == {("COMPLETED", 1)}


@both_methods
def test_a_file_with_the_name_of_a_jobs_directory_costs_that_job_alone(
    tmp_path: Path, start_method: str
) -> None:
    (tmp_path / "1").touch()
    recorder = Recorder()
    with source(recorder, fail_fast=True, start_method=start_method) as made:
        made.submit_jobs(points(0, 1, 2), "s", tmp_path, function=square)
    job = read_sweep(tmp_path).jobs[1]
    reason = f"never started: cannot make {tmp_path / '1'}: File exists"
    assert (str(job.state), job.attempts, job.ending()) == ("CANCELLED", [], reason)
    assert [str(job.state) for job in read_sweep(tmp_path).jobs.values()].count("COMPLETED") == 2
    assert recorder.messages == [f"job 1 {reason}"]


@pytest.mark.parametrize("kind", first_fast("function", "command"))
def test_a_working_directory_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    gone = tmp_path / "gone"
    work: dict[str, Any] = {"command": ["true"]} if kind == "command" else {"function": square}
    recorder = Recorder()
    with source(recorder, start_method="fork") as made:
        monkeypatch.setattr(os, "getcwd", lambda: str(gone))
        made.submit_jobs(points(0, 1), "s", tmp_path / "s", **work)
        made.wait(timeout=PATIENCE)
    jobs = read_sweep(tmp_path / "s").jobs.values()
    assert [(str(job.state), job.attempts) for job in jobs] == [("CANCELLED", [])] * 2
    reason = f"cannot enter {gone}: No such file or directory"
    assert recorder.messages == [f"no more jobs start: {reason}; a resume runs the others"]


@pytest.fixture
def immutable() -> Iterator[Callable[[Path, str], None]]:
    """Sets a flag of chattr(1) on a path, for the time of a test."""
    flagged: list[Path] = []

    def flag(path: Path, letter: str) -> None:
        done = subprocess.run(["chattr", f"+{letter}", str(path)], check=False, capture_output=True)
        if done.returncode != 0:
            pytest.skip("no chattr here")
        flagged.append(path)

    if shutil.which("chattr") is None:
        pytest.skip("no chattr here")
    yield flag
    for path in flagged:
        subprocess.run(["chattr", "-i", "-a", str(path)], check=True)


def test_an_immutable_directory_of_logs(
    tmp_path: Path, immutable: Callable[[Path, str], None]
) -> None:
    paths = SweepPaths(tmp_path)
    paths.create()
    immutable(paths.logs, "i")
    with source(max_retries=1) as made:
        made.submit_jobs(points(0, 1, 2), "s", tmp_path, function=square)
        made.wait(timeout=PATIENCE)
    sweep = read_sweep(tmp_path)
    assert [job.attempts for job in sweep.jobs.values()] == [[]] * 3
    reason = f"cannot write logs in {paths.logs}: Operation not permitted"
    assert sweep.closed == f"jobs cannot be started: {reason}"


def test_one_immutable_log_costs_its_job_alone(
    tmp_path: Path, immutable: Callable[[Path, str], None]
) -> None:
    paths = SweepPaths(tmp_path)
    paths.create()
    paths.stdout(1).touch()
    immutable(paths.stdout(1), "i")
    with source() as made:
        made.submit_jobs(points(0, 1, 2), "s", tmp_path, function=square)
        states = [str(state) for state in made.wait(timeout=PATIENCE).values()]
    assert states == ["COMPLETED", "CANCELLED", "COMPLETED"]


@pytest.mark.slow
def test_no_process_is_left_of_jobs_that_could_not_be_started(tmp_path: Path) -> None:
    """Keepers take up room as well: one whose job finds none is ended."""
    write_driver(tmp_path, _DRIVER + _FORK.replace("run(4, ", "run(9, max_parallel_jobs=3, "))
    with start_driver(tmp_path, {}, "function") as sweep:
        pid = sweep.process.pid
        done = sweep.finish()
        sweep.assert_all_gone(PATIENCE)
    assert not psutil.pid_exists(pid)
    assert done.states == ["COMPLETED"] * 9


# --- descriptors of the launcher ----------------------------------------------------------------


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("submits", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_descriptors_of_a_long_lived_source_stay_flat_over_many_submits(
    tmp_path: Path, submits: int
) -> None:
    """Functions and commands, some of which fail, in three sweeps, with and without output.

    One job at a time: of two, it is by chance when both first run at once, in a keeper each.
    """
    counts: list[int] = []
    kinds: list[dict[str, Any]] = [
        {"function": square},
        {"command": ["sh", "-c", "echo {x}; exit {x}"]},
        {"function": fail},
    ]
    with source(start_method="fork", show_output=True, max_parallel_jobs=1) as made:
        for number in range(submits):
            sweep = f"s{number % 3}"
            x = points(number % 5)
            ids = made.submit_jobs(x, sweep, tmp_path / sweep, **kinds[number // 3 % 3])
            made.wait(ids)
            if number % (submits // 3) == submits // 3 - 1:
                counts.append(count_descriptors())
    assert counts[1:] == counts[:1] * 2, counts
    assert count_descriptors() < counts[0]


def test_the_limit_on_open_files_follows_the_sweeps_of_a_source(tmp_path: Path) -> None:
    """Each has a lock, a journal and a copy of that until the source closes."""
    write_driver(
        tmp_path,
        """
        import resource

        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, before[1]))
        with source() as made:
            for num in range(60):
                made.submit_jobs([{"x": 0}], f"s{num}", f"sweep{num}", command=["true"])
            states = {str(state) for state in made.wait().values()}
        print(states, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        """,
    )
    with start_driver(tmp_path) as sweep:
        done = sweep.finish()
    assert (done.code, done.out) == (0, "{'COMPLETED'} 40\n"), done.screen


def test_two_sources_raise_the_limit_together_and_the_last_one_gives_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Without the needs of sources that other tests have left open.
    monkeypatch.setattr(descriptor_limit, "_limit", descriptor_limit._SoftLimit())

    def soft() -> int:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
    try:
        with source(max_parallel_jobs=100):
            for_one = soft()
            with source(max_parallel_jobs=100):
                assert soft() >= for_one + 300
            assert soft() > low
        assert soft() == low
        with source(max_parallel_jobs=100):
            resource.setrlimit(resource.RLIMIT_NOFILE, (low + 1, hard))  # The app's own is kept.
        assert soft() == low + 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
