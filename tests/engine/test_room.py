"""Waiting for room, without any job: `hsm.core.engine.room` and the errors that it waits for."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from helpers.processes import first_fast
from hsm.core.engine.backend import CannotStart, NoRoom, NothingStarts
from hsm.core.engine.obstacles import Obstacles, obstacle
from hsm.core.engine.room import PATIENCE, Room


def test_the_pauses_between_tries_grow_until_there_is_room() -> None:
    room, now, pauses = Room(), 100.0, []
    assert room.opens(now) == 0.0
    for _ in range(9):
        room.tries("a job")
        assert room.refused("a job", "cannot fork", now, is_busy=True) is None
        pauses.append(room.opens(now))
        now += pauses[-1]
        assert room.opens(now) == 0.0
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0])
    room.tries("a job")
    room.found("a job")
    assert room.shortage == ""
    room.refused("a job", "cannot fork", now, is_busy=True)
    assert room.opens(now) == pytest.approx(0.05)


def test_while_no_job_runs_patience_ends() -> None:
    room = Room()
    assert room.refused("a job", "cannot fork", 100.0, is_busy=False) is None
    assert room.refused("a job", "cannot fork", 100.0 + PATIENCE, is_busy=False) is None
    assert room.refused("a job", "cannot fork", 101.0 + PATIENCE, is_busy=True) is None
    assert room.refused("a job", "cannot fork", 102.0 + PATIENCE, is_busy=False) is None
    waited = room.refused("a job", "cannot fork", 103.0 + 2 * PATIENCE, is_busy=False)
    assert waited == pytest.approx(PATIENCE + 1)


def test_one_job_at_a_time_tries_again() -> None:
    """Or each would take a part of what is enough for one."""
    room = Room()
    for job in ("a", "b"):  # which started at the same time
        room.tries(job)
    for job in ("a", "b"):
        room.refused(job, "cannot fork", 100.0, is_busy=True)
    assert room.opens(101.0) == 0.0
    room.tries("a")
    assert room.opens(1000.0) > 0.0
    room.found("b")  # It had started before.
    assert room.opens(1000.0) > 0.0
    room.refused("a", "cannot fork", 1000.0, is_busy=True)
    assert 0.0 < room.opens(1000.0) < 1.0
    room.freed("c")
    assert room.opens(1000.0) == 0.0
    room.tries("b")
    room.freed("b")  # It ended without having tried: it was cancelled.
    assert room.opens(1000.0) == 0.0


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
