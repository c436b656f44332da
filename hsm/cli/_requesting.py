"""Asking a running sweep's launcher to do something, and waiting until it has."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hsm.core.errors import HsmError
from hsm.core.record import own_requests, requests
from hsm.core.record.controls import Control
from hsm.core.record.own_requests import Answer
from hsm.core.record.paths import SweepPaths
from hsm.core.record.replay import Replay

_INTERVAL = 0.1
#: Seconds that a launcher has to take a request; it looks twice a second.
_TAKE_TIMEOUT = 5.0
#: Seconds that it then has to do what was asked for.
_ANSWER_TIMEOUT = 30.0


@contextmanager
def running_sweep(paths: SweepPaths) -> Iterator[Replay]:
    """Follow the journal of a sweep that is running and the user's own.

    Raises:
        HsmError: it is not.
    """
    with Replay(paths) as replay:
        replay.catch_up()
        check_running(replay)
        uid = requests.launcher_uid(paths)
        if uid is not None and uid != os.geteuid():
            whose = f"{replay.sweep.sweep_id} is run by {_user(uid)}"
            raise HsmError(f"{whose}: only they can change how it goes on")
        yield replay


def check_running(replay: Replay) -> None:
    """Raise HsmError if the sweep is over."""
    if replay.is_over:
        raise HsmError(f"{replay.sweep.sweep_id} is not running: {replay.sweep.status}")


def carry_out(replay: Replay, control: Control) -> list[str]:
    """Ask for something and wait until it is done; returns what the launcher says about it.

    Raises:
        HsmError: it is not done.
    """
    paths, sweep_id = replay.sweep.paths, replay.sweep.sweep_id
    name = own_requests.send(paths, control)
    wait(replay, lambda: not own_requests.is_waiting(paths, name), _TAKE_TIMEOUT)
    if own_requests.take_back(paths, name):
        check_running(replay)
        raise HsmError(
            f"the launcher of {sweep_id}, on {replay.sweep.latest.get('host')}, does not respond: "
            "nothing was changed; it may be stopped, on another machine, or of an older hsm"
        )
    found: list[Answer] = []

    def is_answered() -> bool:
        answer = own_requests.read_answer(paths, name)
        found.extend([answer] if answer is not None else [])
        return bool(found)

    wait(replay, is_answered, _ANSWER_TIMEOUT)
    if not found and not is_answered():
        check_running(replay)
        raise HsmError(f"the launcher of {sweep_id} took the request, but has not answered it yet")
    if found[0].error:
        raise HsmError(f"{sweep_id}: {found[0].error}")
    return found[0].lines


def wait(replay: Replay, condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until the condition holds or the sweep is over; False if neither happens in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if replay.is_over:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_INTERVAL)
        replay.advance()
    return True


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
