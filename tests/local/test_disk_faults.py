"""Disks that are full, too small or read-only: failures are told, and the sweep can be resumed."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import (
    PATIENCE,
    App,
    both_methods,
    child_environment,
    first_fast,
    wait_for,
)
from helpers.reliability import (
    Recorder,
    journal_events,
    points,
    side_lines,
    source,
    start_driver,
    write_driver,
)
from hsm.core.errors import SettingsError
from hsm.core.record.job import JobState
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

KB = 1024


class SmallDisk:
    """A file system of its own, which can be filled and emptied.

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filling = path / "filling"

    def fill(self, leave: int = 0) -> None:
        """Take all room but `leave` bytes."""
        with self._filling.open("wb", buffering=0) as file:
            size = 64 * KB
            while size >= KB:
                try:
                    file.write(b"\0" * size)
                except OSError:
                    size //= 2
            if leave:
                file.truncate(max(0, file.tell() - leave))

    def make_room(self) -> None:
        """Give back all that `fill` has taken."""
        self._filling.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """One of 1 MB; skips the test where it cannot be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", str(path)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield SmallDisk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def square(params: dict[str, Any]) -> int:
    return int(params["x"]) ** 2


def fill_disk_then_square(params: dict[str, Any]) -> int:
    """Job 2 fills the disk, as a job that writes too many checkpoints does."""
    with open(os.environ["SIDE"], "a") as file:
        file.write(json.dumps({"x": params["x"]}) + "\n")
    if params["x"] == 2 and "FULL" in os.environ:
        SmallDisk(Path(os.environ["HSM_SWEEP_DIR"])).fill()
    return square(params)


@pytest.mark.slow
def test_a_disk_that_fills_up_during_a_sweep(
    tmp_path: Path, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No job fails of it: what is not on record runs again when there is room."""
    monkeypatch.setenv("SIDE", str(tmp_path / "side"))
    monkeypatch.setenv("FULL", "1")
    recorder = Recorder()
    values, squares = range(60), [x**2 for x in range(60)]
    with source(recorder, max_parallel_jobs=1, start_method="fork") as made:
        ids = made.submit_jobs(points(*values), "s", disk.path, function=fill_disk_then_square)
        assert [made.result(job_id) for job_id in ids] == squares
    full = read_sweep(disk.path)
    assert full.problems == []
    lost = [num for num, job in full.jobs.items() if str(job.state) == "CANCELLED"]
    assert lost
    assert lost == [*values][lost[0] :]
    assert all("No space left on device" in text for text in recorder.messages)
    before = len(side_lines(tmp_path))

    disk.make_room()
    monkeypatch.delenv("FULL")
    with source(start_method="fork", resume=True) as made:
        ids = made.submit_jobs(points(*values), "s", disk.path, function=fill_disk_then_square)
        assert [made.result(job_id) for job_id in ids] == squares
    sweep = read_sweep(disk.path)
    assert (sweep.problems, sweep.closed) == ([], "finished")
    assert {str(job.state) for job in sweep.jobs.values()} == {"COMPLETED"}
    assert sorted(line["x"] for line in side_lines(tmp_path)[before:]) == lost


@pytest.mark.slow
def test_a_full_disk_at_the_beginning_is_one_clear_error_and_leaves_nothing_in_the_way(
    tmp_path: Path, disk: SmallDisk
) -> None:
    sweep_dir = disk.path / "sweep"
    SweepPaths(sweep_dir).create()
    disk.fill()
    app = App(tmp_path, "def job(cfg): return cfg.job")
    refused = app.run("job=0,1", f"hydra.sweep.dir={sweep_dir}")
    assert refused.code == 1
    assert "No space left on device" in refused.screen
    assert "Traceback" not in refused.screen
    disk.make_room()
    done = app.run("job=0,1", f"hydra.sweep.dir={sweep_dir}")
    assert done.code == 0
    assert [str(job.state) for job in read_sweep(sweep_dir).jobs.values()] == ["COMPLETED"] * 2


def test_a_full_disk_at_the_beginning_through_the_api(disk: SmallDisk) -> None:
    sweep_dir = disk.path / "sweep"
    SweepPaths(sweep_dir).create()
    disk.fill()
    with source() as made, pytest.raises(SettingsError, match="No space left on device"):
        made.submit_jobs(points(0), "s", sweep_dir, command=["true"])
    disk.make_room()
    with source() as made:
        (job_id,) = made.submit_jobs(points(0), "s", sweep_dir, command=["true"], resume=True)
        assert made.wait() == {job_id: JobState.COMPLETED}


def test_a_lock_whose_owner_cannot_be_noted_is_not_held(disk: SmallDisk) -> None:
    (disk.path / "lock").touch()
    disk.fill()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="No space left on device"):
        LockFile(disk.path / "lock")
    assert os.listdir("/proc/self/fd") == before


# --- a limit on the size of files: what every user can have ------------------------------------

_DRIVER = """
import resource

def job(params):
    side(params)
    return params["x"]

with source(start_method="fork", max_parallel_jobs=1, resume=True) as made:
    if sys.argv[2] != "none":
        # Only for this process: a record that does not fit is torn by the kernel in its middle.
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    try:
        ids = made.submit_jobs([{"x": x} for x in range(10)], "s", "sweep", function=job)
        made.wait()
        print(json.dumps([str(made.get_job_status(job_id)) for job_id in ids]))
    except OSError as error:
        print("refused:", error)
"""


@pytest.mark.parametrize("limit", first_fast(2345, 1900, 3000))
def test_a_journal_that_may_not_grow_stays_readable_and_is_resumed(
    tmp_path: Path, limit: int
) -> None:
    write_driver(tmp_path, _DRIVER)
    with start_driver(tmp_path, {}, str(limit)) as sweep:
        done = sweep.finish()
    assert done.code == 0
    if "refused" not in done.out:
        assert len(json.loads(done.out)) == 10
    cut = read_sweep(tmp_path / "sweep")
    size = cut.paths.journal.stat().st_size
    assert size <= limit
    assert cut.paths.journal.read_bytes().endswith(b"\n")  # what was torn was cut off again
    assert cut.problems == []
    completed = {num for num, job in cut.jobs.items() if job.state is JobState.COMPLETED}
    before = [line["x"] for line in side_lines(tmp_path)]
    with start_driver(tmp_path, {}, "none") as sweep:
        done = sweep.finish()
    assert (done.code, done.states) == (0, ["COMPLETED"] * 10)
    again = [line["x"] for line in side_lines(tmp_path)][len(before) :]
    assert not completed & set(again)


_TIGHT = """
import resource

NOTHING = resource.RLIM_INFINITY


def room(size):
    "The journal may grow by `size` bytes: a record that needs more is torn."
    if size != NOTHING:
        size += os.stat("sweep/.hsm/journal.jsonl").st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, NOTHING))


def job(params):
    wait_for(f"go-{params['x']}")
    side(params)
    return params["x"]


class Told:
    def __getattr__(self, name):
        return lambda *arguments: said.append((name, *arguments))


def wait_for_starts(count):
    while [event[0] for event in said].count("job_started") < count:
        time.sleep(0.01)


said = []
with source(start_method="fork", max_parallel_jobs=1) as made:
    made.observers.append(Told())
    first, second = made.submit_jobs([{"x": 0}, {"x": 1}], "s", "sweep", function=job)
    wait_for_starts(1)
    room(30)
    note("go-0")
    made.wait([first])
    wait_for_starts(2)
    if sys.argv[2] == "for a while":
        room(NOTHING)
    note("go-1")
    made.wait()
"""


def test_a_journal_that_cannot_grow_for_a_while_loses_no_record(tmp_path: Path) -> None:
    """There is no room when job 0 ends and job 1 starts, and there is when job 1 ends."""
    write_driver(tmp_path, _TIGHT)
    with start_driver(tmp_path, {}, "for a while") as sweep:
        done = sweep.finish()
    assert (done.code, done.sweep.closed) == (0, "finished")
    assert done.states == ["COMPLETED"] * 2
    events = [(event["event"], event.get("job")) for event in journal_events(done.sweep_dir)]
    assert [event for event, _ in events[:3]] == ["sweep", "submit", "server"]
    assert events[3:] == [("start", 0), ("end", 0), ("start", 1), ("end", 1), ("close", None)]


def test_a_journal_that_cannot_grow_any_more_makes_jobs_run_again(tmp_path: Path) -> None:
    write_driver(tmp_path, _TIGHT)
    with start_driver(tmp_path, {}, "for ever") as sweep:
        done = sweep.finish()
    assert (done.code, done.sweep.closed) == (0, None)
    assert done.states == ["CANCELLED"] * 2  # nothing says otherwise
    with start_driver(tmp_path, {"resume": True}, "for a while") as sweep:
        assert sweep.finish().states == ["COMPLETED"] * 2


def test_a_jobs_own_limit_on_files_does_not_hold_for_its_output(tmp_path: Path) -> None:
    """Its log is no file of its own, and is written by its keeper."""

    def chatty(params: dict[str, Any]) -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * KB, resource.RLIM_INFINITY))
        for _ in range(params["x"]):
            print("x" * (KB - 1))
        return 1

    with source(start_method="fork") as made:
        made.submit_jobs(points(10, 1000), "s", tmp_path, function=chatty)
    assert {str(job.state) for job in read_sweep(tmp_path).jobs.values()} == {"COMPLETED"}
    assert SweepPaths(tmp_path).stdout(1).stat().st_size == 1000 * KB


def test_output_waits_for_room(tmp_path: Path, disk: SmallDisk) -> None:
    """A job whose log finds no room stands still in its write; with room again, nothing is lost."""
    command = ["sh", "-c", f"yes | head -c 400000; touch {tmp_path}/printed"]
    log = SweepPaths(disk.path).stdout(0)
    with source() as made:
        disk.fill(leave=100 * KB)
        made.submit_jobs(points(0), "s", disk.path, command=command)
        wait_for(lambda: log.exists() and log.stat().st_size > 64 * KB, "the disk to be full")
        assert not (tmp_path / "printed").exists()
        disk.make_room()
        assert set(made.wait(timeout=PATIENCE).values()) == {JobState.COMPLETED}
    assert log.read_text() == "y\n" * 200_000


@both_methods
def test_a_return_value_that_cannot_be_written_is_told_and_asked_for_again(
    tmp_path: Path, start_method: str
) -> None:
    """Small ones are in the journal; of the others it is said what is lost, and why."""

    def big(params: dict[str, Any]) -> bytes | None:
        limit = 64 * KB if params["x"] else 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return bytes(params["x"]) or None

    with source(start_method=start_method) as made:
        ids = made.submit_jobs(points(10, 1 << 20, 0), "s", tmp_path, function=big)
        small, large, nothing = ids
        assert made.result(small) == bytes(10)
        assert made.wait([large]) == {large: JobState.FAILED}
        if start_method == "fork":  # where no file is needed to tell it
            assert made.result(nothing) is None
    job = read_sweep(tmp_path).jobs[1]
    assert job.ending().startswith("the return value is lost: cannot write ")
    assert job.ending().endswith("/results/1.1.pkl: File too large")
    assert SweepPaths(tmp_path).stderr(1).read_text() == ""
    left = {path.name for path in SweepPaths(tmp_path).results.iterdir()}
    assert left == {"0.pkl"}


# --- directories that cannot be written --------------------------------------------------------


def _drop_override() -> None:
    """Root may write where permissions say no: give that up for good (capabilities(7))."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


_READ_ONLY = """
def job(params):
    if params["x"] == 3:
        raise ValueError("three")
    return [0, "one", b"2"][params["x"]]

with source(resume=True) as made:
    ids = made.submit_jobs([{"x": x} for x in range(4)], "s", "sweep", function=job)
    for job_id in ids:
        if made.wait([job_id])[job_id].has_succeeded:
            print(made.result(job_id))
        else:
            print(made.job(job_id).ending())
"""


@both_methods
def test_a_read_only_results_directory_costs_only_what_the_journal_cannot_hold(
    tmp_path: Path, start_method: str
) -> None:
    write_driver(tmp_path, _READ_ONLY)
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    paths.results.chmod(0o555)
    settings = {"start_method": start_method}
    with start_driver(tmp_path, settings, preexec_fn=_drop_override) as sweep:
        done = sweep.finish()
    assert done.code == 0
    assert done.states == ["COMPLETED", "COMPLETED", "FAILED", "FAILED"]
    assert done.out.splitlines() == [
        "0",
        "one",
        f"the return value is lost: cannot write {paths.results}/2.1.pkl: Permission denied",
        "ValueError: three",
    ]
    assert "hsm/core" not in done.log(2)
    paths.results.chmod(0o755)
    with start_driver(tmp_path, settings) as sweep:
        done = sweep.finish()
    assert done.states == ["COMPLETED", "COMPLETED", "COMPLETED", "FAILED"]
    assert done.out.splitlines()[2] == "b'2'"


def test_a_read_only_log_directory_stops_the_sweep_with_its_reason(tmp_path: Path) -> None:
    """No job has run, so none has failed, and a resume runs them all."""
    write_driver(tmp_path, _READ_ONLY)
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    paths.logs.chmod(0o555)
    with start_driver(tmp_path, {"max_retries": 1}, preexec_fn=_drop_override) as sweep:
        done = sweep.finish()
    reason = f"cannot write logs in {paths.logs}: Permission denied"
    assert (done.code, done.states) == (0, ["CANCELLED"] * 4)
    assert done.sweep.closed == f"jobs cannot be started: {reason}"
    assert all(job.attempts == [] for job in done.jobs.values())
    assert f"no more jobs start: {reason}" in done.err
    paths.logs.chmod(0o755)
    with start_driver(tmp_path) as sweep:
        assert sweep.finish().states == ["COMPLETED", "COMPLETED", "COMPLETED", "FAILED"]


def test_a_sweep_directory_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    app = App(tmp_path, "def job(cfg): return cfg.job")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep").chmod(0o555)
    command = [sys.executable, "train.py", "-m", "hydra/launcher=hsm_local", "job=0,1"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=child_environment(),
        preexec_fn=_drop_override,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "Permission denied" in done.stderr
    assert app.events() == []
    (tmp_path / "sweep").chmod(0o755)
