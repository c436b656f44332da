"""What a job may use: memory of its process tree, and time as a multiple of what others took."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from helpers.processes import PATIENCE, App, both_methods, wait_for
from helpers.reliability import Recorder, points, source, start_driver, write_driver
from hsm.core.errors import SettingsError
from hsm.core.local import oom
from hsm.core.local.local_backend import LocalBackend
from hsm.core.local.oom import OomKill, OomKills
from hsm.core.record.job import Job, JobState
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

MB = 1_000_000
#: All that the machine has: so much is never free.
ALL = str(psutil.virtual_memory().total)


def eat(megabytes: int) -> bytearray:
    """Memory that is really there: every page of it is written."""
    return bytearray(b"\1") * (megabytes * MB)


def hold(params: dict[str, Any]) -> str:
    """Take so many megabytes in each of so many processes, and stay a while."""
    for _ in range(params.get("children", 0)):
        if os.fork() == 0:
            _eaten = eat(params["x"])
            time.sleep(60)
            os._exit(0)
    _ballast = eat(0 if params.get("children") else params["x"])
    time.sleep(params.get("seconds", 60))
    return "done"


def used(job: Job) -> int:
    """The MiB that the reason for a job's end names; the limit was 250 MB."""
    match = re.fullmatch(r"out of memory: used (\d+) MiB, memory_limit is 238 MiB", job.ending())
    assert match is not None, job.ending()
    return int(match[1])


# --- memory of a job --------------------------------------------------------------------------


@both_methods
def test_a_job_above_its_memory_limit_is_ended_with_the_figure(
    tmp_path: Path, start_method: str
) -> None:
    jobs = [{"x": 400}, {"x": 1, "seconds": 0}]
    with source(memory_limit="250MB", start_method=start_method) as made:
        made.submit_jobs(jobs, "s", tmp_path, function=hold)
        made.wait()
    greedy, modest = read_sweep(tmp_path).jobs.values()
    assert [str(greedy.state), str(modest.state)] == ["OUT_OF_MEMORY", "COMPLETED"]
    assert used(greedy) >= 238
    assert greedy.attempts[0].signal == "SIGKILL"
    assert greedy.attempts[0].max_memory is not None
    assert greedy.attempts[0].max_memory > 250 * MB


def test_the_limit_is_for_all_of_a_jobs_processes_together(tmp_path: Path) -> None:
    """Each of four children is below the limit by far."""
    with source(memory_limit="250MB", start_method="spawn") as made:
        made.submit_jobs([{"x": 80, "children": 4}], "s", tmp_path, function=hold)
        made.wait()
    job = read_sweep(tmp_path).jobs[0]
    assert str(job.state) == "OUT_OF_MEMORY"
    assert used(job) >= 238
    assert job.attempts[0].max_memory is not None
    assert job.attempts[0].max_memory > 250 * MB


DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        ballast = b"1" * 400_000_000
        open("eaten", "w").close()
        time.sleep(60)
    os._exit(0)
os.wait()
while not os.path.exists("go"):
    time.sleep(0.02)
"""


def test_a_daemon_counts_for_the_job_that_has_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parent is not the job any more, but the keeper."""
    monkeypatch.chdir(tmp_path)
    with source(memory_limit="250MB") as made:
        made.submit_jobs(points(0), "s", tmp_path, command=[sys.executable, "-c", DAEMON])
        made.wait(timeout=PATIENCE)
    job = read_sweep(tmp_path).jobs[0]
    assert str(job.state) == "OUT_OF_MEMORY"
    assert used(job) >= 238


def test_what_is_shown_of_a_running_job_includes_its_daemons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with source() as made:
        made.submit_jobs(points(0), "s", "s", command=[sys.executable, "-c", DAEMON])
        wait_for(Path("eaten").exists, "the daemon")
        wait_for(lambda: any((job.memory or 0) > 400 * MB for job in made.running()), "its memory")
        Path("go").touch()


def fork_and_hold(params: dict[str, Any]) -> None:
    """Four children with so many megabytes each, until there is a file `go`."""
    children = []
    for _ in range(4):
        children.append(os.fork())
        if children[-1] == 0:
            _ballast = eat(params["x"])
            Path(f"eaten-{os.getpid()}").touch()
            while not Path("go").exists():
                time.sleep(0.02)
            os._exit(0)
    for child in children:
        os.waitpid(child, 0)


def test_the_peak_is_that_of_all_processes_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks at it: there is no limit and no display."""
    monkeypatch.chdir(tmp_path)
    with source(start_method="spawn") as made:
        (job_id,) = made.submit_jobs([{"x": 80}], "s", "s", function=fork_and_hold)
        wait_for(lambda: len(list(tmp_path.glob("eaten-*"))) == 4, "four children")
        # The job may be further than what is known of it.
        pid = wait_for(lambda: made.job(job_id).attempts, "its start")[0].pid
        assert pid is not None
        assert isinstance(made._backend, LocalBackend)
        peaks = made._backend._memory._sampler._peaks
        wait_for(lambda: peaks.get(pid, 0) > 4 * 80 * MB, "a sample")
        Path("go").touch()
        made.wait(timeout=PATIENCE)
    (attempt,) = read_sweep("s").jobs[0].attempts
    assert attempt.max_memory is not None
    assert 4 * 80 * MB < attempt.max_memory < 1000 * MB
    assert peaks == {}


@pytest.mark.slow
def test_memory_that_a_job_shares_with_the_launcher_is_not_its_own(tmp_path: Path) -> None:
    """The launcher holds 400 MB, and every fork maps them; its share alone is 100 MB."""
    write_driver(
        tmp_path,
        """
        ballast = bytearray(b"1") * 400_000_000

        def job(params):
            own = bytearray(b"1") * 130_000_000
            wait_for(f"go-{os.getpid()}")
            return ballast[7] + own[7]

        with source(memory_limit="200MB", start_method="fork") as made:
            ids = made.submit_jobs([{"x": 0}], "s", "sweep", function=job)
            print(made.result(ids[0]))
        """,
    )
    with start_driver(tmp_path) as sweep:
        journal = tmp_path / "sweep/.hsm/journal.jsonl"
        # It is there, and empty, for as long as git takes to tell what the first line will say.
        wait_for(lambda: journal.exists() and journal.stat().st_size, "the journal")
        wait_for(lambda: sweep.read().jobs and sweep.read().jobs[0].attempts, "its start")
        attempt = sweep.read().jobs[0].attempts[0]
        assert attempt.pid is not None
        process = psutil.Process(attempt.pid)
        wait_for(lambda: process.memory_info().rss > 530 * MB, "its own memory")
        began = time.monotonic()
        wait_for(lambda: time.monotonic() > began + 1.5, "six looks at its memory")
        (tmp_path / f"go-{attempt.pid}").touch()
        done = sweep.finish()
    assert (done.states, done.out.strip()) == (["COMPLETED"], str(2 * ord("1")))
    most = done.jobs[0].attempts[0].max_memory
    assert most is not None
    assert 130 * MB < most < 200 * MB


@pytest.mark.slow
def test_a_job_that_is_out_of_memory_is_retried_if_asked(tmp_path: Path) -> None:
    settings = {"memory_limit": "250MB", "max_retries": 1, "retry_delay": 0}
    with source(start_method="spawn", **settings) as made:
        made.submit_jobs(points(400), "s", tmp_path, function=hold)
        made.wait()
    states = [a.ending.state for a in read_sweep(tmp_path).jobs[0].attempts if a.ending]
    assert states == [JobState.OUT_OF_MEMORY] * 2


@pytest.mark.slow
def test_memory_limit_under_hydra(tmp_path: Path) -> None:
    app = App(
        tmp_path,
        """
        def job(cfg):
            if cfg.job == 1:
                ballast = bytearray(b"1") * 500_000_000
                stay()
            return cfg.job
        """,
    )
    done = app.run("job=range(3)", memory_limit="350MB")
    assert (done.code, done.states) == (1, ["COMPLETED", "OUT_OF_MEMORY", "COMPLETED"])
    assert "memory_limit is 334 MiB" in done.screen


# --- the kernel's OOM killer ------------------------------------------------------------------


def _memory_groups() -> Path | None:
    """Where control groups with a memory limit can be made, if that is possible here."""
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = root / f"hsm-probe-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            try:
                (group / limit).write_text(str(64 * MB))
                return root
            except OSError:
                continue
            finally:
                group.rmdir()
    return None


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group for 150 MB; a pid that is written into its cgroup.procs is moved there."""
    root = _memory_groups()
    if root is None:
        pytest.skip("no control group with a memory limit can be made here (needs root)")
    group = root / f"hsm-test-{os.getpid()}"
    group.mkdir()
    for name in ("memory.limit_in_bytes", "memory.max"):
        if (group / name).exists():
            (group / name).write_text(str(150 * MB))
    yield group
    wait_for(lambda: not (group / "cgroup.procs").read_text(), "the group to be empty")
    group.rmdir()


def test_what_the_kernels_oom_killer_killed_is_named_so(tmp_path: Path, small_group: Path) -> None:
    """The job itself, and what a job's shell has run. The launcher is in the group, too."""
    write_driver(
        tmp_path,
        """
        Path(sys.argv[2], "cgroup.procs").write_text(str(os.getpid()))
        starve = [sys.executable, "-c", "x = b'1' * {megabytes}000000"]
        with source(max_parallel_jobs=1) as made:
            for command in (starve, ["sh", "-c", '"$@"; exit $?', "sh", *starve]):
                sizes = [{"megabytes": 1}, {"megabytes": 300}]
                made.submit_jobs(sizes, "s", "sweep", command=command)
                made.wait()
        """,
    )
    with start_driver(tmp_path, {}, str(small_group)) as sweep:
        done = sweep.finish()
    assert done.states == ["COMPLETED", "OUT_OF_MEMORY"] * 2, done.screen
    how = r"(probably )?killed by the kernel's out-of-memory killer"
    assert re.fullmatch(how, done.jobs[1].ending())
    assert done.jobs[1].attempts[0].signal == "SIGKILL"
    assert re.fullmatch(f"exit code 137, as one of its processes was {how}", done.jobs[3].ending())


def test_a_sigkill_while_the_oom_killer_rests_is_just_that(tmp_path: Path) -> None:
    with source() as made:
        made.submit_jobs(points(9), "s", tmp_path, command=["sh", "-c", "kill -{x} $$"])
        made.wait()
    job = read_sweep(tmp_path).jobs[0]
    assert (str(job.state), job.ending()) == ("FAILED", "killed by SIGKILL")


def kernel_tells(
    folder: Path, monkeypatch: pytest.MonkeyPatch, counts: str
) -> Callable[[str, str], None]:
    """What the kernel tells of its kills: in the group, on the machine; empty: nothing."""
    own, group, machine = folder / "own", folder / counts, folder / "vmstat"
    group.parent.mkdir(parents=True)
    monkeypatch.setattr(oom, "_GROUPS", str(folder))
    monkeypatch.setattr(oom, "_OWN_GROUP", str(own))
    monkeypatch.setattr(oom, "_MACHINE", str(machine))

    def tell(in_group: str, on_machine: str) -> None:
        own.write_text("9:name=systemd:/\n4:cpu,memory:/x:y/z\n0::/a/b\n")
        for path, count in ((group, in_group), (machine, on_machine)):
            path.unlink(missing_ok=True)
            if count:
                path.write_text(f"oom 7\noom_kill {count}\noom_group_kill 0\n")

    return tell


#: Where a group's own count may be.
OWN_COUNTS = ["a/b/memory.events.local", "a/b/memory.events", "memory/x:y/z/memory.oom_control"]


@pytest.mark.parametrize("counts", OWN_COUNTS)
@pytest.mark.parametrize(
    ("before", "after", "kill"),
    [
        (("3", "5"), ("3", "5"), OomKill.NONE),
        (("3", "5"), ("4", "6"), OomKill.HERE),
        (("3", "5"), ("3", "6"), OomKill.NONE),  # of somebody else's
        (("", "5"), ("", "5"), OomKill.NONE),
        (("", "5"), ("", "6"), OomKill.SOMEWHERE),
        (("", ""), ("", ""), OomKill.NONE),
        (("", ""), ("", "6"), OomKill.NONE),
        (("3", "5"), ("", "6"), OomKill.NONE),  # there is nothing to compare
    ],
)
def test_kills_in_the_jobs_own_group_are_what_counts_if_they_are_known(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[str, str],
    after: tuple[str, str],
    kill: OomKill,
    counts: str,
) -> None:
    tell = kernel_tells(tmp_path, monkeypatch, counts)
    tell(*before)
    kills = OomKills.now()
    tell(*after)
    assert kills.since() is kill


def test_jobs_that_begin_together_share_a_count_and_miss_no_kill_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = kernel_tells(tmp_path, monkeypatch, OWN_COUNTS[0])
    monkeypatch.setattr(oom, "_latest", oom._Latest(OomKills(None, False), 0.0))
    monkeypatch.setattr(oom, "_AGE", 1000.0)
    tell("3", "5")
    first, second = OomKills.lately(), OomKills.lately()
    assert first is second
    assert second.since() is OomKill.NONE
    tell("4", "6")
    assert second.since() is OomKill.HERE
    monkeypatch.setattr(oom, "_latest", oom._Latest(first, 0.0))  # it is too old
    assert OomKills.lately() == OomKills(4, True)


def test_a_kill_in_a_group_below_is_no_kill_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = kernel_tells(tmp_path, monkeypatch, OWN_COUNTS[0])
    tell("3", "5")
    below = tmp_path / OWN_COUNTS[1]  # which counts those in all groups below as well
    below.write_text("oom_kill 3\n")
    kills = OomKills.now()
    below.write_text("oom_kill 4\n")
    assert kills.since() is OomKill.NONE


def test_an_oom_kill_in_another_group_is_not_taken_for_a_jobs(
    tmp_path: Path, small_group: Path
) -> None:
    """A job dies of a SIGKILL while the killer is at work in another group."""
    if not OomKills.now().are_own:
        pytest.skip("the kernel tells of the whole machine's kills only")
    starved = tmp_path / "starved"
    starve = [sys.executable, "-c", "x = b'1' * 300_000_000"]
    enter = ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(small_group), *starve]
    wait = f"while [ ! -e {starved} ]; do sleep 0.05; done; kill -KILL $$"
    with source() as made:
        made.submit_jobs(points(0), "s", tmp_path / "sweep", command=["sh", "-c", wait])
        assert subprocess.run(enter, timeout=60, check=False).returncode == -signal.SIGKILL
        starved.touch()
        made.wait(timeout=PATIENCE)
    job = read_sweep(tmp_path / "sweep").jobs[0]
    assert (str(job.state), job.ending()) == ("FAILED", "killed by SIGKILL")


# --- free memory ------------------------------------------------------------------------------


def test_while_memory_is_short_nothing_starts_and_people_are_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [3 * 10**9]
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(available=free[0], total=8 * 10**9)
    )
    recorder = Recorder()
    with source(recorder, min_free_memory="4GB") as made:
        ids = made.submit_jobs(points(0, 1, 2), "s", tmp_path, command=["true"])
        wait_for(lambda: recorder.messages, "the message")
        assert recorder.messages == ["jobs wait: memory: 2.8 GiB free, min_free_memory is 3.7 GiB"]
        assert made.wait(timeout=0.6) == dict.fromkeys(ids, JobState.PENDING)
        assert recorder.events == []
        free[0] = 5 * 10**9
        assert made.wait(timeout=PATIENCE) == dict.fromkeys(ids, JobState.COMPLETED)
    assert len(recorder.messages) == 1


def test_more_free_memory_than_the_machine_has_is_refused_before_any_job(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"min_free_memory=909 TiB exceeds this machine's .* GiB"
    ):
        source(min_free_memory="1000TB").__enter__()
    app = App(tmp_path, "def job(cfg): return 1")
    done = app.run("job=range(3)", min_free_memory="1000TB")
    assert done.code == 1
    assert not (done.sweep_dir / ".hsm").exists()
    assert "no job could ever start" in done.screen
    assert "Traceback" not in done.screen


def test_a_job_that_waits_for_memory_can_be_cancelled(tmp_path: Path) -> None:
    with source(min_free_memory=ALL, max_parallel_jobs=1) as made:
        ids = made.submit_jobs(points(0, 1), "s", tmp_path, command=["true"])
        assert all(made.cancel_job(job_id) for job_id in ids)
        assert made.wait(timeout=PATIENCE) == dict.fromkeys(ids, JobState.CANCELLED)


def test_ctrl_c_while_jobs_wait_for_memory(tmp_path: Path) -> None:
    app = App(tmp_path, "def job(cfg): return 1")
    with app.start("job=range(3)", min_free_memory=ALL) as sweep:
        screen = tmp_path / "screen.out"
        wait_for(lambda: "min_free_memory" in screen.read_text(), "the message")
        sweep.process.send_signal(signal.SIGINT)
        done = sweep.finish()
    assert (done.code, done.states) == (130, ["CANCELLED"] * 3)


# --- time -------------------------------------------------------------------------------------


def test_a_job_that_takes_many_times_longer_than_the_others_is_ended(tmp_path: Path) -> None:
    """It started before there was a median."""
    sleeps = ["sleep", "{x}"]
    with source(timeout_factor=10, max_parallel_jobs=2, kill_grace=0.5) as made:
        made.submit_jobs(points(600, 0.1, 0.15, 0.2, 0.1), "s", tmp_path, command=sleeps)
        states = list(made.wait(timeout=PATIENCE).values())
    assert [str(state) for state in states] == ["TIMEOUT"] + ["COMPLETED"] * 4
    reason = read_sweep(tmp_path).jobs[0].ending()
    assert reason.startswith("timeout after ")
    assert reason.endswith(" s, 10 times the median")


def test_jobs_of_an_earlier_life_of_the_sweep_count(tmp_path: Path) -> None:
    """Only those that completed: what has failed at once says nothing."""
    with source(max_parallel_jobs=4) as made:
        fails = ["sh", "-c", "[ {x} = 600 ] && exit 1; sleep {x}"]
        made.submit_jobs(points(0.1, 0.1, 0.1, 600), "s", tmp_path, command=fails)
    with source(timeout_factor=5, kill_grace=0.5, resume=True, accept_changes=True) as made:
        stays = ["sleep", "{x}"]
        made.submit_jobs(points(0.1, 0.1, 0.1, 600), "s", tmp_path, command=stays, resume=True)
        states = list(made.wait(timeout=PATIENCE).values())
    assert [str(state) for state in states] == ["COMPLETED"] * 3 + ["TIMEOUT"]


@pytest.mark.slow
def test_a_clock_that_is_set_meanwhile_makes_no_job_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes a thousand times too fast."""
    began, clock = time.time(), time.time
    with source(timeout_factor=20, kill_grace=0.5, max_parallel_jobs=1) as made:
        monkeypatch.setattr(time, "time", lambda: began + 1000 * (clock() - began))
        made.submit_jobs(points(0.1, 0.1, 0.1, 600), "s", tmp_path, command=["sleep", "{x}"])
        states = list(made.wait(timeout=PATIENCE).values())
    assert [str(state) for state in states] == ["COMPLETED"] * 3 + ["TIMEOUT"]


def test_two_jobs_are_too_few_for_a_median(tmp_path: Path) -> None:
    with source(timeout_factor=1.5, max_parallel_jobs=3) as made:
        made.submit_jobs(points(0, 0, 1.2), "s", tmp_path, command=["sleep", "{x}"])
        assert set(made.wait().values()) == {JobState.COMPLETED}


@pytest.mark.slow
def test_a_fixed_limit_holds_beside_the_multiple(tmp_path: Path) -> None:
    with source(timeout_factor=10**6, timeout=3, kill_grace=0.5) as made:
        made.submit_jobs(points(0, 0, 0, 600), "s", tmp_path, command=["sleep", "{x}"])
        made.wait()
    assert read_sweep(tmp_path).jobs[3].ending() == "timeout after 3 s"


@pytest.mark.slow
def test_a_job_has_kill_grace_to_save_its_work(tmp_path: Path) -> None:
    saves = [
        "sh",
        "-c",
        'trap "sleep 0.3; echo step 7 > $HSM_JOB_DIR/checkpoint; exit 0" TERM; '
        "echo ready; while :; do sleep 0.05; done",
    ]
    jobs: list[Job] = []
    with source(timeout=3, kill_grace=600) as made:
        (job_id,) = made.submit_jobs(points(0), "s", tmp_path, command=saves)
        began = time.monotonic()
        made.wait()
        assert time.monotonic() - began < PATIENCE  # it is not kept waiting for the whole grace
        jobs.append(made.job(job_id))
    assert (tmp_path / "0" / "checkpoint").read_text() == "step 7\n"
    assert str(jobs[0].state) == "TIMEOUT"
