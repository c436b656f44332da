"""What `hsm.core.engine.backend` asks of a place, tried without an engine."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from contract_jobs import DEAF, STAY, double, end_somehow
from contract_support import Place, end_of, launch_of, noted_pid, started
from helpers.gpus import grant
from helpers.processes import PATIENCE, is_running, wait_for
from hsm.core.engine.backend import Backend, Ended
from hsm.core.gpu.own_processes import owner
from hsm.core.program import reports

LEAVES = "sleep 60 & echo $! > tmp-0; mv tmp-0 pid-0"


@pytest.fixture
def backend(place: Place) -> Iterator[Backend]:
    with place.backend() as made:
        yield made


def words(command: list[str], x: int = 0) -> list[str]:
    """The command of a job with that parameter."""
    return [word.replace("{x}", str(x)) for word in command]


@pytest.mark.parametrize(
    ("script", "exit_code", "signal_name"),
    [
        ("exit 0", 0, None),
        ("exit 255", 255, None),
        ("kill -KILL $$", None, "SIGKILL"),
        ("kill -42 $$", None, "SIG42"),
    ],
)
def test_an_attempt_tells_of_its_end(
    backend: Backend, script: str, exit_code: int | None, signal_name: str | None
) -> None:
    with started(backend, launch_of("sh", "-c", script)) as (attempt, pid):
        ended = end_of(attempt)
        assert (ended.exit_code, ended.signal, ended.asked) == (exit_code, signal_name, False)
        assert ended.lost is None
        assert pid is not None
        assert not is_running(pid)


def test_ended_waits_until_its_deadline_and_no_longer(backend: Backend) -> None:
    with started(backend, launch_of("sleep", "60")) as (attempt, _):
        began = time.monotonic()
        assert attempt.ended(began - 1.0) is None
        assert attempt.ended(began + 0.2) is None
        assert 0.2 <= time.monotonic() - began < PATIENCE


def test_an_end_comes_at_once_and_says_that_it_was_asked_for(backend: Backend) -> None:
    with started(backend, launch_of(*words(STAY))) as (attempt, pid):
        assert pid == noted_pid(0)
        attempt.end(PATIENCE)
        ended = end_of(attempt)
        assert (ended.exit_code, ended.signal, ended.asked) == (None, "SIGTERM", True)
        assert not is_running(pid)


def test_an_end_ends_a_wait_without_a_deadline(backend: Backend) -> None:
    told: list[Ended | None] = []
    with started(backend, launch_of(*words(STAY))) as (attempt, _):
        noted_pid(0)
        waiting = threading.Thread(target=lambda: told.append(attempt.ended(None)))
        waiting.start()
        attempt.end(PATIENCE)
        waiting.join(PATIENCE)
        assert [ended and ended.signal for ended in told] == ["SIGTERM"]


def test_who_is_deaf_to_sigterm_is_killed_after_the_grace(backend: Backend) -> None:
    with started(backend, launch_of(*words(DEAF))) as (attempt, pid):
        noted_pid(0)
        began = time.monotonic()
        attempt.end(0.4)
        ended = end_of(attempt)
        assert time.monotonic() - began >= 0.4
        assert (ended.signal, ended.asked) == ("SIGKILL", True)
        assert pid is not None
        assert not is_running(pid)


@pytest.mark.parametrize("first", [None, 600.0])
def test_no_grace_kills_at_once(backend: Backend, first: float | None) -> None:
    """Also where there was one before."""
    with started(backend, launch_of(*words(DEAF))) as (attempt, _):
        noted_pid(0)
        if first is not None:
            attempt.end(first)
            assert attempt.ended(time.monotonic() + 0.1) is None
        attempt.end(0.0)
        assert end_of(attempt).signal == "SIGKILL"


def test_a_longer_grace_comes_too_late(backend: Backend) -> None:
    with started(backend, launch_of(*words(DEAF))) as (attempt, _):
        noted_pid(0)
        attempt.end(0.2)
        attempt.end(600.0)
        assert end_of(attempt).signal == "SIGKILL"


def test_a_job_that_stands_still_can_be_ended(backend: Backend) -> None:
    with started(backend, launch_of(*words(STAY))) as (attempt, _):
        pid = noted_pid(0)
        os.kill(pid, signal.SIGSTOP)
        stopped = psutil.STATUS_STOPPED
        wait_for(lambda: psutil.Process(pid).status() == stopped, "its halt")
        attempt.end(0.2)
        assert end_of(attempt).asked
        assert not is_running(pid)


def test_to_end_what_has_ended_changes_nothing(backend: Backend) -> None:
    with started(backend, launch_of("sh", "-c", "exit 3")) as (attempt, pid):
        assert pid is not None
        wait_for(lambda: not is_running(pid), "its end")
        attempt.end(1.0)
        ended = end_of(attempt)
        assert (ended.exit_code, ended.asked) == (3, False)
        attempt.end(1.0)
        attempt.end(0.0)


def test_what_is_left_behind_is_gone_at_the_end(backend: Backend) -> None:
    with started(backend, launch_of("sh", "-c", LEAVES)) as (attempt, _):
        ended = end_of(attempt)
        assert (ended.exit_code, ended.asked) == (0, False)
        assert not is_running(noted_pid(0))


def test_what_is_left_behind_and_deaf_has_the_grace_of_its_launch(backend: Backend) -> None:
    script = f'trap "" TERM; {LEAVES.replace("sleep 60", "(while :; do sleep 0.05; done)")}'
    with started(backend, launch_of("sh", "-c", script, grace=0.3)) as (attempt, _):
        assert end_of(attempt).exit_code == 0
        assert not is_running(noted_pid(0))


def test_an_attempt_that_never_started_can_be_closed(backend: Backend) -> None:
    backend.attempt(backend.prepare(None), launch_of("true")).close()


def test_closing_an_attempt_leaves_nothing_of_its_job(backend: Backend) -> None:
    script = f'trap "" TERM; {LEAVES}; while :; do sleep 0.05; done'
    with started(backend, launch_of("sh", "-c", script)) as (_, pid):
        child = noted_pid(0)
    assert pid is not None
    assert not is_running(pid)
    assert not is_running(child)


def test_closing_a_backend_ends_what_runs_there_as_often_as_one_likes(place: Place) -> None:
    with place.backend() as backend:
        with started(backend, launch_of(*words(DEAF))) as (_, pid):
            assert pid == noted_pid(0)
            backend.close()
            wait_for(lambda: not is_running(noted_pid(0)), "its end")
        backend.close()


def test_attempts_know_nothing_of_each_other(backend: Backend) -> None:
    launches = [launch_of(*words(STAY, num), num=num) for num in (0, 1)]
    with started(backend, launches[0]) as (one, _), started(backend, launches[1]) as (other, _):
        noted_pid(0)
        pid = noted_pid(1)
        one.end(PATIENCE)
        assert end_of(one).asked
        assert other.ended(time.monotonic()) is None
        assert is_running(pid)


def test_logs_are_appended_to_below_a_header(backend: Backend) -> None:
    launch = launch_of("sh", "-c", "echo more; echo worse >&2", header="-- 2 --")
    Path(launch.stdout).write_text("partial")
    attempt = backend.attempt(backend.prepare(None), launch)
    attempt.start()
    assert attempt.started().log_sizes == (len("partial\n"), 0)
    end_of(attempt)
    attempt.close()
    assert Path(launch.stdout).read_text() == "partial\n-- 2 --\nmore\n"
    assert Path(launch.stderr).read_text() == "-- 2 --\nworse\n"


def test_every_byte_is_kept(backend: Backend) -> None:
    launch = launch_of("sh", "-c", "head -c 3000000 /dev/zero; printf end >&2")
    with started(backend, launch) as (attempt, _):
        end_of(attempt)
    assert Path(launch.stdout).read_bytes() == bytes(3_000_000)
    assert Path(launch.stderr).read_text() == "end"


def test_the_environment_is_the_launchers_and_more(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = launch_of("sh", "-c", 'echo "$HOME $MORE"; [ -d "$TMPDIR" ]')
    launch.env["MORE"] = "and more"
    with started(backend, launch) as (attempt, _):
        assert end_of(attempt).exit_code == 0
    assert Path(launch.stdout).read_text() == f"{os.environ['HOME']} and more\n"


def test_the_same_function_is_the_same_work(backend: Backend) -> None:
    work = backend.prepare(double)
    assert work.function is double
    assert backend.prepare(double) is work
    assert backend.prepare(end_somehow) is not work
    assert backend.prepare(None).function is None


def test_a_function_is_called_with_its_argument_and_reports(backend: Backend) -> None:
    launch = launch_of(argument=pickle.dumps({"x": 21}))
    with started(backend, launch, double) as (attempt, _):
        ended = end_of(attempt)
    assert (ended.exit_code, ended.asked) == (0, False)
    assert reports.read_value(Path(launch.result)) == 42
    assert reports.read(Path(launch.result)) is not None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_processes_of_a_job_with_gpus_descend_from_the_root_of_its_grant(
    backend: Backend, place: Place
) -> None:
    """A daemon, too, where the place looks after those."""
    granted = grant(0, 0)
    daemon = "setsid sh -c 'sleep 60 & echo $! > tmp-0'; mv tmp-0 pid-0; sleep 60"
    with started(backend, launch_of("sh", "-c", daemon, grant=granted)) as (attempt, pid):
        assert pid is not None
        assert granted.root is not None
        daemons_pid = noted_pid(0)
        for each in (pid, daemons_pid) if place.name == "local" else (pid,):
            assert owner(each, {granted.root}) == (True, True, granted.root)
        assert owner(os.getpid(), {granted.root}).root is None
        attempt.end(0.0)
        end_of(attempt)
    if place.name == "local":  # another job may come to have the same keeper
        assert granted.root is None
    else:
        os.kill(daemons_pid, signal.SIGKILL)


def test_what_a_job_uses_is_told_or_not(backend: Backend) -> None:
    with started(backend, launch_of("sleep", "60")) as (attempt, _):
        cpu, memory = attempt.usage()
        assert cpu is None or cpu >= 0
        assert memory is None or memory >= 0
