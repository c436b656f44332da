"""`hsm pause`, `continue`, `set`, `explain`, `cancel --pending`, and what other commands show."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from helpers.cli import STAY, Project
from helpers.controlled import Able, Bare, control_records, launched
from helpers.processes import wait_for
from helpers.reliability import Recorder
from hsm.cli._complete import sweep_ids
from hsm.core.engine.compute_source import RunningJob
from hsm.core.engine.watched import Watched
from hsm.core.record import own_requests, requests
from hsm.core.record.controls import Continue, Control, Pause, record_of
from hsm.core.record.journal import Journal
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.settings.resolve import UNSET
from hsm.display.plain_display import PlainDisplay
from hsm.display.rich_view import LiveView

pytestmark = pytest.mark.thorough


@pytest.fixture
def able() -> Able:
    """The source of the sweep ``s``: of its jobs, 0 has completed, 1 runs, and 2 to 4 wait."""
    return Able(5)


@pytest.fixture
def running(project: Project, able: Able) -> Iterator[Journal]:
    with launched(project.folder / "outputs" / "s", able) as journal:
        yield journal


def records(project: Project) -> list[dict[str, object]]:
    return control_records(project.folder / "outputs" / "s")


# --- pause and continue ------------------------------------------------------------------------


def test_a_sweep_is_paused_and_goes_on(project: Project, running: Journal, able: Able) -> None:
    assert project.here("pause", "s").out == (
        "s is paused: no job starts until hsm continue s; 1 running job goes on\n"
    )
    assert "status:  paused" in project.here("monitor", "s", "--once").out
    assert project.here("monitor", "s", "--json").json["status"] == "paused"
    assert "status       paused\n" in project.here("show", "s").out
    assert project.here("show", "s", "--json").json["status"] == "paused"
    assert project.here("list", "--json").json[0]["status"] == "paused"
    assert project.here("continue", "s").out == "s goes on\n"
    assert "status:  running" in project.here("monitor", "s", "--once").out
    assert project.here("continue", "s").out == "s was not paused\n"
    assert able.calls == [("pause", False), "unpause", "unpause"]
    assert not running.paths.requests.exists()


def test_running_jobs_can_be_stopped_too(project: Project, running: Journal, able: Able) -> None:
    assert "1 running job is stopped" in project.here("pause", "s", "--running").out
    assert able.calls == [("pause", True)]
    assert records(project) == [{"request": "pause", "running": True}]


def test_without_a_name_it_is_the_newest_sweep(project: Project, running: Journal) -> None:
    assert project.here("pause").out.startswith("s is paused: ")
    assert project.here("continue", "last").out == "s goes on\n"


# --- set ---------------------------------------------------------------------------------------


def test_settings_are_changed(project: Project, running: Journal, able: Able) -> None:
    ran = project.here("set", "s", "--parallel-jobs", "8", "--timeout", "2h", "--max-retries", "1")
    assert ran.out == (
        "s: at most 8 jobs at once, a time limit of 2:00:00 per job, 1 retry per job from now on\n"
    )
    assert project.here("set", "s", "--timeout", "none").out == (
        "s: no time limit per job from now on\n"
    )
    project.here("set", "s", "--parallel-jobs", "1", "--now")
    assert able.calls == [
        (8, 7200.0, 1, False),
        (None, None, None, False),
        (1, UNSET, None, True),
    ]
    assert project.sweep("s").asked.changes == {
        "max_parallel_jobs": 1,
        "timeout": None,
        "max_retries": 1,
    }


def test_other_gpus_are_for_the_jobs_that_start(
    project: Project, running: Journal, able: Able
) -> None:
    assert project.here("set", "s", "--gpu-ids", "0,GPU-8f1c").out == (
        "s: GPUs 0, GPU-8f1c for jobs that start from now on\n"
    )
    assert project.sweep("s").asked.changes == {"gpu_ids": (0, "GPU-8f1c")}
    assert project.here("set", "s", "--gpu-ids", "none").out == (
        "s: all GPUs for jobs that start from now on\n"
    )
    assert project.sweep("s").asked.changes == {"gpu_ids": None}
    assert able.calls == [
        (None, UNSET, None, (0, "GPU-8f1c"), False),
        (None, UNSET, None, None, False),
    ]


def test_jobs_get_a_priority(project: Project, running: Journal, able: Able) -> None:
    ran = project.here("set", "s", "0,2-3", "4", "--priority", "-5")
    assert ran.out == "s: priority -5 for job 2-4\njob 0: had already ended: COMPLETED\n"
    assert able.calls == [(["s_2", "s_3", "s_4"], -5)]
    assert project.sweep("s").asked.priorities == {2: -5, 3: -5, 4: -5}
    assert project.here("set", "0", "--priority", "1").out == (
        "job 0: had already ended: COMPLETED\n"
    )


def test_settings_and_a_priority_in_one_line(
    project: Project, running: Journal, able: Able
) -> None:
    ran = project.here("set", "s", "2", "--priority", "1", "--max-retries", "3")
    assert ran.out == "s: 3 retries per job from now on\ns: priority 1 for job 2\n"
    assert able.calls == [(None, UNSET, 3, False), (["s_2"], 1)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["s"], "nothing to set: give --parallel-jobs, --timeout, --max-retries or --gpu-ids, or"),
        (["s", "--gpu-ids", "0,0"], "--gpu-ids must be GPUs as nvidia-smi numbers or names them"),
        (["s", "--gpu-ids", "0", "--now"], "--now needs --parallel-jobs"),
        (
            ["s", "--parallel-jobs", "0"],
            "--parallel-jobs must be an integer of at least 1, or auto, not 0",
        ),
        (["s", "--parallel-jobs", "all"], "--parallel-jobs must be an integer of at least 1, or"),
        (["s", "--timeout", "soon"], "--timeout must be a number of seconds above 0"),
        (["s", "--max-retries", "-1"], "--max-retries must be an integer of at least 0, not -1"),
        (["s", "2", "--priority", "high"], "--priority must be an integer from -2147483647 to"),
        (["s", "2", "--priority", "9999999999"], "--priority must be an integer from -2147483647"),
        (["s", "--priority", "1"], "--priority needs the numbers of jobs: hsm set SWEEP 12,14-20"),
        (["s", "2", "--timeout", "3"], "jobs can only be given a --priority"),
        (["s", "--now"], "--now needs --parallel-jobs"),
        (["s", "9", "--priority", "1"], "sweep s has no job 9: give a number from 0 to 4"),
        (["s", "x", "--priority", "1"], "JOB must be the number of a job, such as 3, or several"),
        (["nothing", "--timeout", "3"], "no sweep 'nothing'"),
    ],
)
def test_what_cannot_be_set_is_refused_before_anybody_is_asked(
    project: Project, running: Journal, able: Able, words: list[str], said: str
) -> None:
    assert said in project.refused("set", *words)
    assert able.calls == []


# --- explain, and cancel --pending -------------------------------------------------------------


def test_a_pending_job_is_explained(project: Project, running: Journal) -> None:
    assert project.here("explain", "s").out == "all waits for a place\n"
    assert project.here("explain", "s", "2").out == "s_2 waits for a place\n"
    assert project.here("explain", "3").out == "s_3 waits for a place\n"
    assert project.here("explain", "s", "0").out == "job 0 does not wait: it is COMPLETED\n"
    assert project.here("explain", "s", "1").out == "job 1 does not wait: it is RUNNING\n"
    assert "has no job 9" in project.refused("explain", "s", "9")
    assert records(project) == []
    assert not running.paths.requests.exists()


def test_what_waits_is_cancelled(project: Project, running: Journal) -> None:
    assert project.here("cancel", "s", "--pending").out == ("s: 5 pending jobs cancelled\n")
    assert records(project) == [{"request": "cancel", "which": "pending"}]
    assert "either jobs or --pending" in project.refused("cancel", "s", "2", "--pending")


# --- who is not there, or does not do it -------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("pause", "s"),
        ("continue", "s"),
        ("set", "s", "--timeout", "3"),
        ("set", "s", "0", "--priority", "3"),
        ("explain", "s"),
        ("explain", "s", "0"),
    ],
)
def test_a_sweep_that_is_over_is_named(project: Project, words: tuple[str, ...]) -> None:
    with launched(project.folder / "outputs" / "s", Able()):
        pass
    assert project.refused(*words) == "hsm: s is not running: finished\n"
    assert project.here("cancel", "s", "--pending").out == "s is not running: finished\n"


def test_a_launcher_that_died_is_named(project: Project) -> None:
    with launched(project.folder / "outputs" / "s", Able()) as journal:
        lines = journal.paths.journal.read_text()
    journal.paths.journal.write_text("".join(lines.splitlines(keepends=True)))
    assert project.refused("pause", "s") == "hsm: s is not running: launcher died\n"


def test_a_launcher_that_cannot_do_it_says_so(project: Project) -> None:
    with launched(project.folder / "outputs" / "s", Bare()):
        assert project.here("pause", "s", code=2).err == "hsm: s: this source cannot be paused\n"
        assert "status:  running" in project.here("monitor", "s", "--once").out


def test_a_launcher_that_does_not_listen_is_named_and_nothing_stays(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of an older hsm, which knows no such requests."""
    monkeypatch.setattr("hsm.cli._requesting._TAKE_TIMEOUT", 0.3)
    journal = Journal(SweepPaths(project.folder / "outputs" / "s"), "s", {})
    try:
        told = project.here("pause", "outputs/s", code=2).err
        assert "does not respond: nothing was changed" in told
        assert not journal.paths.requests.exists()
    finally:
        journal.close("finished")


def test_a_launcher_that_gives_no_answer_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsm.cli._requesting._ANSWER_TIMEOUT", 0.3)
    monkeypatch.setattr(own_requests, "answer", lambda *_: None)
    with launched(project.folder / "outputs" / "s", Able()):
        told = project.here("pause", "s", code=2).err
    assert told == "hsm: the launcher of s took the request, but has not answered it yet\n"


def test_a_sweep_that_ends_meanwhile_is_said_to(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(SweepPaths(project.folder / "outputs" / "s"), "s", {})

    def end(paths: SweepPaths, control: Control) -> str:
        name = send(paths, control)
        journal.close("cancelled")
        return name

    send = own_requests.send
    monkeypatch.setattr(own_requests, "send", end)
    assert project.here("pause", "outputs/s", code=2).err == "hsm: s is not running: cancelled\n"
    assert not journal.paths.requests.exists()


def test_another_users_sweep_is_left_alone(
    project: Project, running: Journal, able: Able, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "launcher_uid", lambda _: 4_000_000_000)
    for words in (["pause"], ["continue"], ["set", "--timeout", "3"], ["explain"]):
        assert project.refused(words[0], "s", *words[1:]) == (
            "hsm: s is run by user 4000000000: only they can change how it goes on\n"
        )
    assert project.refused("cancel", "s", "--pending").startswith(
        "hsm: s is run by user 4000000000"
    )
    assert able.calls == []


def test_the_launchers_user_is_the_one_who_holds_the_lock(project: Project) -> None:
    paths = SweepPaths(project.folder / "s")
    paths.create()
    assert requests.launcher_uid(paths) is None
    lock = LockFile(paths.lock)
    try:
        assert requests.launcher_uid(paths) == os.geteuid()
    finally:
        lock.release()
    assert requests.launcher_uid(paths) == paths.lock.stat().st_uid


# --- what other terminals see ------------------------------------------------------------------


def test_whoever_watches_is_told(project: Project, running: Journal) -> None:
    pauses: list[bool] = []

    class Told(Recorder):
        def sweep_paused(self, is_paused: bool) -> None:
            pauses.append(is_paused)

    recorder = Told()
    watched = Watched(running.paths)
    try:
        watched.show_on(recorder)
        project.here("pause", "s")
        project.here("set", "s", "--parallel-jobs", "3")
        running.append("control", request="dance")
        project.here("continue", "s")
        watched.advance()
    finally:
        watched.close()
    assert recorder.messages == [
        "paused: no job starts until hsm continue",
        "at most 3 jobs at once from now on",
        "continued",
    ]
    assert (pauses[0], pauses[-1]) == (False, False)


def test_a_live_view_says_that_it_is_paused(tmp_path: Path) -> None:
    display = PlainDisplay(SweepPaths(tmp_path), list[RunningJob])
    for is_paused in (True, False):
        display.sweep_paused(is_paused)
        view = LiveView(
            "s", display.counts.by_state, 3.0, None, (), is_paused=display.counts.is_paused
        )
        text = "".join(part for part, _ in list(view.lines(80, 10))[1])
        assert text.startswith("paused  0 done" if is_paused else "0 done")


def test_nobody_can_tell_when_a_paused_sweep_ends(project: Project, running: Journal) -> None:
    assert project.here("monitor", "s", "--json").json["eta_seconds"] is not None
    running.append("control", **record_of(Pause()))
    assert project.here("monitor", "s", "--json").json["eta_seconds"] is None
    running.append("control", **record_of(Continue()))
    assert project.here("monitor", "s", "--json").json["eta_seconds"] is not None


def test_sweeps_are_completed(running: Journal) -> None:
    assert "s" in sweep_ids("s")


# --- a real launcher ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_sweep_is_paused_changed_and_goes_on(project: Project) -> None:
    folder = project.folder / "outputs" / "bg"
    with project.detached("x=range(6)", "--parallel-jobs", "2", "--", "sh", "-c", STAY):
        assert "; 2 running jobs go on" in project.here("pause").out
        project.here("cancel", "bg", "0")
        assert "4 waiting" in project.here("explain").out
        assert "waits for" in project.here("explain", "bg", "2").out
        assert project.here("set", "bg", "5", "--priority", "5").out == "bg: priority 5 for job 5\n"
        project.here("continue")
        project.wait_for("outputs/bg/5/runs")
        # Job 2 would have had the place of job 0, had there been no pause, and had it before 5.
        assert not (folder / "2" / "runs").exists()
        project.here("set", "bg", "--parallel-jobs", "3")
        project.wait_for("outputs/bg/2/runs")
        # Until its start is on record, it is pending, too.
        wait_for(lambda: project.states("bg")[2] == "RUNNING", "the record of job 2")
        assert "2 pending jobs cancelled" in project.here("cancel", "bg", "--pending").out
        assert project.states("bg")[3:5] == ["CANCELLED"] * 2
        for num in (1, 2, 5):
            (folder / str(num) / "go").touch()
        wait_for(lambda: project.sweep("bg").closed is not None, "its end")
    sweep = project.sweep("bg")
    assert sweep.closed == "finished"
    assert project.states("bg") == [
        *("CANCELLED", "COMPLETED", "COMPLETED", "CANCELLED", "CANCELLED", "COMPLETED")
    ]
    assert (sweep.asked.changes, sweep.asked.priorities) == ({"max_parallel_jobs": 3}, {5: 5})


@pytest.mark.slow
def test_real_jobs_stand_still_and_end_though_they_do(project: Project) -> None:
    with project.detached("x=1,2", "--", "sh", "-c", STAY):
        jobs = project.sweep("bg").jobs
        processes = [psutil.Process(jobs[num].attempts[-1].pid) for num in (0, 1)]
        assert "2 running jobs are stopped" in project.here("pause", "bg", "--running").out
        wait_for(lambda: all(map(_stands_still, processes)), "their stop")
        project.here("cancel", "bg", "0")
        assert project.states("bg")[0] == "CANCELLED"
        assert project.here("continue", "bg").out == "bg goes on\n"
        wait_for(lambda: not _stands_still(processes[1]), "its going on")
        (project.folder / "outputs/bg/1/go").touch()
        wait_for(lambda: project.states("bg")[1] == "COMPLETED", "its end")


def _stands_still(process: psutil.Process) -> bool:
    """Whether it is stopped, or waits for a child that is, between its vfork and the child's exec.

    Then it stops only when the child has gone on.
    """
    below = [child.status() for child in process.children()]
    is_stopped = process.status() == psutil.STATUS_STOPPED
    waits = process.status() == psutil.STATUS_DISK_SLEEP
    return is_stopped or (waits and below == [psutil.STATUS_STOPPED])


@pytest.mark.slow
def test_a_cancel_is_on_record(project: Project) -> None:
    with project.detached("x=1,2,3", "--", "sh", "-c", STAY):
        project.here("cancel", "bg", "0")
        assert control_records(project.folder / "outputs" / "bg") == [
            {"request": "cancel", "job": 0}
        ]
        project.here("cancel", "bg")
        sweep = project.sweep("bg")
    assert [record["request"] for record in sweep.asked.records] == ["cancel", "cancel"]
    assert sweep.closed == "cancelled"


def test_a_detached_sweep_resumes_with_what_was_set(project: Project) -> None:
    """The journal alone says so: no launcher need have been there when it was set."""
    project.here("sweep", "x=1", "--sweep-id", "s", "--max-retries", "1", "--", "false", code=1)
    paths = SweepPaths(project.folder / "outputs" / "s")
    with paths.journal.open("a") as file:
        file.write('{"event": "control", "request": "set", "max_retries": 0, "timeout": 50}\n')
    project.here("sweep", "--resume", "s", "--timeout", "40", code=1)
    settings = project.sweep("s").latest["settings"]
    assert (settings["max_retries"], settings["timeout"]) == (0, 40)
    assert len(project.sweep("s").jobs[0].attempts) == 3


def test_one_request_waits_for_another(project: Project, running: Journal, able: Able) -> None:
    """Two commands at once, from two terminals: both are done and both are answered."""
    answers: list[str] = []

    def ask(num: int) -> None:
        name = own_requests.send(running.paths, Pause() if num % 2 else Continue())
        wait_for(lambda: not own_requests.is_waiting(running.paths, name), "the taking")

        def is_answered() -> bool:
            answer = own_requests.read_answer(running.paths, name)
            answers.extend([] if answer is None else [answer.error])
            return answer is not None

        wait_for(is_answered, f"answer {num}")

    threads = [threading.Thread(target=ask, args=[num]) for num in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [""] * 8
    assert len(able.calls) == 8
