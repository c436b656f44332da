"""Whatever the place, a job is the same: what it gets, what it leaves, and how its end is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from contract_jobs import DEAF, STAY, double, end_somehow, stay
from contract_support import Place, Recorder, noted_pid, points, states
from helpers.processes import is_running, wait_for
from hsm import HsmError, JobFailed, JobState
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def only_job(place: Place, command: Sequence[str], **settings: object) -> Job:
    """Run one job with x=1 in the sweep "s"; how it is at its end."""
    with place.source(**settings) as source:
        (job_id,) = source.submit_jobs(points(1), "s", "s", command=command)
        states(source)
        return source.job(job_id)


_WAITS = """\
import sys, time
from pathlib import Path
Path("runs").touch()
while not Path("go").exists(): time.sleep(0.01)
print(__file__, sys.argv[1])
"""


def log(num: int = 0, stream: str = "stdout") -> str:
    paths = SweepPaths("s")
    return (paths.stdout(num) if stream == "stdout" else paths.stderr(num)).read_text()


# --- how jobs end -----------------------------------------------------------------------------


def test_commands_complete(place: Place) -> None:
    with place.source() as source:
        ids = source.submit_jobs(points(*"abc"), "s", "s", command="echo is {x}")
        assert ids == ["s_0", "s_1", "s_2"]
        assert states(source) == ["COMPLETED"] * 3
        assert [source.result(job_id) for job_id in ids] == [None] * 3
        assert [job.attempts[0].exit_code for job in source.jobs()] == [0] * 3
    assert [log(num) for num in range(3)] == ["is a\n", "is b\n", "is c\n"]


def test_a_script_is_read_once_and_edits_change_no_job_that_waits(place: Place) -> None:
    script = Path("fit.py")
    script.write_text(_WAITS)
    with place.source(max_parallel_jobs=1) as source:
        source.submit_jobs(points(0, 1), "s", "s", script=script)
        wait_for(Path("runs").exists, "job 0")
        # It reads its arguments in another way now.
        script.write_text("import argparse\nargparse.ArgumentParser().parse_args()\n")
        source.submit_jobs(points(2), "s", "s", script=script)  # the same sweep still
        script.unlink()
        Path("go").touch()
        assert states(source) == ["COMPLETED"] * 3
    assert [log(num) for num in range(3)] == [f"{Path.cwd()}/./fit.py x={n}\n" for n in "012"]


def test_functions_return_their_values(place: Place) -> None:
    with place.source() as source:
        ids = source.submit_jobs(points(1, 2, 3), "s", "s", function=double)
        assert [source.result(job_id) for job_id in ids] == [2, 4, 6]
        assert states(source) == ["COMPLETED"] * 3
        assert [job.value for job in source.jobs()] == [2, 4, 6]
    assert log(2) == "doubling 3\n"


def test_a_function_may_know_what_its_launcher_knows(place: Place) -> None:
    base = 40
    with place.source() as source:
        (job_id,) = source.submit_jobs(points(2), "s", "s", function=lambda p: base + p["x"])
        assert source.result(job_id) == 42


def test_a_function_ends_as_it_ends(place: Place) -> None:
    hows = ["fine", "error", "signal", "exit", "no return"]
    with place.source(max_parallel_jobs=3) as source:
        ids = source.submit_jobs(points(*hows), "s", "s", function=end_somehow)
        assert states(source) == ["COMPLETED"] + ["FAILED"] * 4
        with pytest.raises(JobFailed, match="ValueError: bad luck") as caught:
            source.result(ids[1])
        assert isinstance(caught.value.__cause__, ValueError)
        _, error, killed, left, silent = (job.attempts[0] for job in source.jobs())
    assert (error.error_type, error.error_message, error.exit_code) == ("ValueError", "bad luck", 1)
    assert (killed.exit_code, killed.signal) == (None, "SIGKILL")
    assert (left.exit_code, left.signal) == (7, None)
    assert silent.exit_code == 0
    assert "did not return" in (silent.reason or "")
    assert "ValueError: bad luck" in log(1, "stderr")


@pytest.mark.parametrize(
    ("script", "exit_code", "signal", "ending"),
    [
        ("exit 3", 3, None, "exit code 3"),
        ("kill -SEGV $$", None, "SIGSEGV", "killed by SIGSEGV"),
    ],
)
def test_a_command_ends_as_it_ends(
    place: Place, script: str, exit_code: int | None, signal: str | None, ending: str
) -> None:
    job = only_job(place, sh(script))
    assert (str(job.state), job.ending()) == ("FAILED", ending)
    assert (job.attempts[0].exit_code, job.attempts[0].signal) == (exit_code, signal)


def test_a_command_that_cannot_be_run_ends_as_in_a_shell(place: Place, project_dir: Path) -> None:
    (project_dir / "data").touch()
    with place.source() as source:
        commands = ["nowhere-to-be-found", "./data"]
        source.submit_jobs(points(*commands), "s", "s", command=["{x}", "word"])
        assert states(source) == ["FAILED"] * 2
        assert [job.attempts[0].exit_code for job in source.jobs()] == [127, 126]
    assert log(0, "stderr") == "hsm: nowhere-to-be-found: No such file or directory\n"
    assert log(1, "stderr") == "hsm: ./data: Permission denied\n"


# --- what jobs get ----------------------------------------------------------------------------


def test_jobs_know_who_they_are(place: Place, project_dir: Path) -> None:
    names = ["SWEEP_ID", "SWEEP_DIR", "JOB_ID", "JOB_NUM", "JOB_DIR", "ATTEMPT", "PARAMS"]
    only_job(place, ["sh", "-c", "".join(f'echo "$HSM_{name}";' for name in names)])
    sweep_dir = project_dir / "s"
    known = ["s", str(sweep_dir), "s_0", "0", str(sweep_dir / "0"), "1"]
    assert log().splitlines() == [*known, '{"x": 1}']
    assert (sweep_dir / "0" / "stdout.log").read_text() == log()


def test_jobs_get_the_launchers_environment_and_directory_and_no_input(
    place: Place, project_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", "it is")
    only_job(place, sh('cat; echo "$MINE"; pwd'))
    assert log() == f"it is\n{project_dir}\n"


def test_each_job_has_a_temporary_directory_of_its_own(place: Place) -> None:
    command = sh('mkdir "$TMPDIR/mine" && echo "$TMPDIR"')
    with place.source() as source:
        source.submit_jobs(points(0, 1), "s", "s", command=command)
        assert states(source) == ["COMPLETED"] * 2
    first, second = Path(log(0).strip()), Path(log(1).strip())
    assert first != second
    assert not first.exists()
    assert not second.exists()


def test_what_a_job_leaves_behind_is_gone_when_its_end_is_told(place: Place) -> None:
    seen: dict[int, bool] = {}

    def look(job: Job) -> None:
        seen[job.num] = is_running(noted_pid(job.num))

    polite = "sleep 60 &"
    deaf = '(trap "" TERM; while :; do sleep 0.05; done) &'
    note = "echo $! > tmp-$HSM_JOB_NUM; mv tmp-$HSM_JOB_NUM pid-$HSM_JOB_NUM"
    with place.source(Recorder(ended=look), kill_grace=0.3) as source:
        for left in (polite, deaf):
            source.submit_jobs(points(0), "s", "s", command=sh(f"{left} {note}"))
        assert states(source) == ["COMPLETED"] * 2
    assert seen == {0: False, 1: False}


# --- how many, and when -----------------------------------------------------------------------


def test_so_many_jobs_run_at_the_same_time_and_no_more(place: Place) -> None:
    # Each waits until another one has begun: were there no two at a time, none would end.
    command = sh(
        "echo + >> log; until [ $(grep -c + log) -ge 2 ]; do sleep 0.02; done; echo - >> log"
    )
    with place.source(max_parallel_jobs=2) as source:
        source.submit_jobs(points(*range(6)), "s", "s", command=command)
        assert states(source) == ["COMPLETED"] * 6
    now = peak = 0
    for line in Path("log").read_text().split():
        now += 1 if line == "+" else -1
        peak = max(peak, now)
    assert peak == 2


def test_of_many_short_jobs_none_is_lost(place: Place) -> None:
    with place.source(max_parallel_jobs=4) as source:
        source.submit_jobs(points(*range(40)), "s", "s", command="sh -c 'echo {x}; exit {x}'")
        assert states(source) == ["COMPLETED"] + ["FAILED"] * 39
        assert [job.attempts[0].exit_code for job in source.jobs()] == list(range(40))
    assert [log(num) for num in range(40)] == [f"{num}\n" for num in range(40)]


def test_more_jobs_may_come_of_either_kind(place: Place) -> None:
    with place.source() as source:
        first = source.submit_jobs(points(1), "s", "s", command="echo {x}")
        assert states(source) == ["COMPLETED"]
        more = source.submit_jobs(points(2, 3), "s", "s", function=double)
        other = source.submit_jobs(points(4), "t", "t", function=double)
        assert (first, more, other) == (["s_0"], ["s_1", "s_2"], ["t_0"])
        assert states(source) == ["COMPLETED"] * 4
        assert [source.result(job_id) for job_id in [*more, *other]] == [4, 6, 8]
    with pytest.raises(HsmError, match="takes no more jobs"):
        source.submit_jobs(points(1), "u", "u", command="true")


# --- what can be seen of them -----------------------------------------------------------------


def test_what_runs_can_be_seen(place: Place) -> None:
    command = sh("echo first; echo step {x}; until [ -e go ]; do sleep 0.02; done")
    with place.source(max_parallel_jobs=1) as source:
        source.submit_jobs(points(5, 6), "s", "s", command=command)

        def prints() -> bool:
            return [seen.last_line for seen in source.running()] == ["step 5"]

        wait_for(prints, "its last line")
        (seen,) = source.running()
        assert (seen.num, seen.job_id, seen.label) == (0, "s_0", "x=5")
        assert seen.elapsed > 0
        assert source.job("s_0").attempts[0].pid is not None
        Path("go").touch()
        assert states(source) == ["COMPLETED"] * 2
        assert source.running() == []


def test_every_line_is_told_if_it_is_to_be(place: Place) -> None:
    recorder = Recorder()
    command = sh("echo one; echo two >&2; printf three; exit {x}")
    with place.source(recorder, show_output=True) as source:
        source.submit_jobs(points(0, 1), "s", "s", command=command)
        states(source)
    for num in (0, 1):
        lines = [(stream, line) for about, stream, line in recorder.lines if about == num]
        assert sorted(lines) == [("stderr", "two"), ("stdout", "one"), ("stdout", "three")]


# --- ends that somebody asks for --------------------------------------------------------------


def test_a_job_that_runs_and_one_that_waits_can_be_cancelled(place: Place) -> None:
    with place.source(max_parallel_jobs=1) as source:
        ids = source.submit_jobs(points(0, 1, 2), "s", "s", command=STAY)
        pid = noted_pid(0)
        assert source.get_job_status(ids[1]) is JobState.PENDING
        assert source.cancel_job(ids[1])
        assert states(source, ids[1:2]) == ["CANCELLED"]
        assert source.cancel_job(ids[0])
        assert states(source, ids[:1]) == ["CANCELLED"]
        assert not is_running(pid)
        assert not source.cancel_job(ids[0])
        noted_pid(2)  # It has the slot now.
        assert source.cancel_job(ids[2])
        ran, never, _ = source.jobs()
    assert (ran.attempts[0].signal, ran.ending()) == ("SIGTERM", "cancelled")
    assert (never.attempts, never.ending()) == ([], "never started: cancelled")


def test_a_job_that_does_not_heed_sigterm_is_killed_after_its_grace(place: Place) -> None:
    recorder = Recorder()
    with place.source(recorder, kill_grace=0.4) as source:
        (job_id,) = source.submit_jobs(points(0), "s", "s", command=DEAF)
        pid = noted_pid(0)
        source.cancel_job(job_id)
        assert states(source) == ["CANCELLED"]
        assert not is_running(pid)
        assert source.job(job_id).attempts[0].signal == "SIGKILL"


def test_a_function_can_be_cancelled(place: Place) -> None:
    with place.source() as source:
        (job_id,) = source.submit_jobs(points(0), "s", "s", function=stay)
        pid = noted_pid(0)
        source.cancel_job(job_id)
        assert states(source) == ["CANCELLED"]
        assert not is_running(pid)


def test_a_source_that_is_stopped_ends_what_runs_and_starts_no_more(place: Place) -> None:
    with place.source() as source:
        source.submit_jobs(points(0, 1, 2), "s", "s", command=STAY)
        pids = [noted_pid(0), noted_pid(1)]
        source.stop("enough")
        assert states(source) == ["CANCELLED"] * 3
        assert not any(map(is_running, pids))
        assert [job.ending() for job in source.jobs()] == [
            *("enough", "enough", "never started: enough")
        ]
        with pytest.raises(HsmError, match="enough"):
            source.submit_jobs(points(1), "t", "t", command="true")


def test_a_second_stop_may_shorten_the_grace(place: Place) -> None:
    with place.source(kill_grace=600) as source:
        source.submit_jobs(points(0), "s", "s", command=DEAF)
        noted_pid(0)
        source.stop("enough")
        source.stop("enough", grace=0)
        assert states(source) == ["CANCELLED"]
        assert source.jobs()[0].attempts[0].signal == "SIGKILL"


def test_closing_cancels_or_waits(place: Place) -> None:
    with place.source() as source:
        source.submit_jobs(points(0), "s", "s", command="sleep 0.2")
    assert states(source) == ["COMPLETED"]
    source = place.source()
    source.submit_jobs(points(0), "t", "t", command=STAY)
    pid = noted_pid(0)
    source.close(cancel=True)
    assert not is_running(pid)
    assert states(source) == ["CANCELLED"]
    source.close()
