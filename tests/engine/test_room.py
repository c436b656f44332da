"""Waiting for room, without any job: `hsm.core.engine.room` and the errors that it waits for."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.processes import PATIENCE, first_fast, wait_for
from hsm.core.engine import room
from hsm.core.engine.backend import CannotStart, NoRoom, NothingStarts
from hsm.core.engine.obstacles import Obstacles, obstacle
from hsm.core.engine.room import Room


def refusing(*times: int) -> Callable[[], int]:
    """A start for which there is no room at the calls of these numbers, from 0."""
    calls = itertools.count()

    def start() -> int:
        if (number := next(calls)) in times:
            raise NoRoom("cannot fork: no more processes")
        return number

    return start


def always() -> bool:
    return True


def never() -> bool:
    return False


def test_it_is_asked_again_until_there_is_room_and_people_are_told_once() -> None:
    told: list[str] = []
    waits = Room(never, told.append)
    assert waits.get(refusing(), always) == 0
    assert told == []
    assert waits.get(refusing(0, 1, 2), always) == 3
    assert waits.get(refusing(0), always) == 1
    assert told == ["jobs wait: cannot fork: no more processes"]


def test_while_no_job_runs_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PATIENCE", 0.1)
    with pytest.raises(NothingStarts, match=r"no more processes, for 0\.\d+ s in which no job ran"):
        Room(never, print).get(refusing(*range(1000)), always)


def test_while_jobs_run_there_is_no_end_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PATIENCE", 0.0)
    assert Room(always, print).get(refusing(*range(4)), always) == 4


def test_a_job_that_nobody_wants_any_more_is_asked_for_at_once() -> None:
    waits = Room(never, print)
    is_unwanted = threading.Event()
    is_waiting = threading.Event()
    ended: list[str] = []

    def start() -> None:
        if is_unwanted.is_set():
            raise ValueError("unwanted")
        is_waiting.set()
        raise NoRoom("cannot fork")

    def run() -> None:
        with pytest.raises(ValueError, match="unwanted"):
            waits.get(start, lambda: not is_unwanted.is_set())
        ended.append("unwanted")

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for(is_waiting.is_set, "a wait")
    is_unwanted.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert ended == ["unwanted"] * 3


def test_one_job_at_a_time_tries_again() -> None:
    """Or each would take a part of what is enough for one."""
    waits = Room(always, print)
    inside = threading.Semaphore(1)
    calls: list[int] = []

    def start() -> None:
        number = len(calls)
        calls.append(number)
        if number < 4:  # the first try of each
            raise NoRoom("cannot fork")
        assert inside.acquire(blocking=False)
        try:
            if number < 12:
                raise NoRoom("cannot fork")
        finally:
            inside.release()

    threads = [threading.Thread(target=waits.get, args=(start, always)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(calls) >= 13


@pytest.mark.parametrize(
    "number", first_fast(errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC)
)
def test_what_others_may_give_back_is_waited_for(number: int) -> None:
    found = obstacle(OSError(number, os.strerror(number)), "fork", "/")
    assert type(found) is NoRoom
    assert str(found) == f"cannot fork: {os.strerror(number)}"


@pytest.mark.parametrize(
    "number", first_fast(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)
)
def test_what_is_no_jobs_own_strikes_all(number: int, tmp_path: Path) -> None:
    error = OSError(number, os.strerror(number))
    assert type(obstacle(error, "fork")) is NothingStarts
    assert type(obstacle(error, "write", tmp_path / "missing")) is NothingStarts
    assert type(obstacle(error, "write", tmp_path)) is CannotStart


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(ValueError, match="a bug"), Obstacles("fork"):
        raise ValueError("a bug")
    with pytest.raises(NoRoom, match="cannot fork: Cannot allocate memory"), Obstacles("fork"):
        raise MemoryError
