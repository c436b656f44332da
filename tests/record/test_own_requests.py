"""Requests that only a sweep's owner may make: their order, their answers, and hostile files."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from helpers.processes import wait_for
from hsm.core.errors import HsmError
from hsm.core.record import own_requests
from hsm.core.record.controls import (
    Cancel,
    CancelPending,
    Change,
    Continue,
    Control,
    Explain,
    Pause,
    Prioritize,
)
from hsm.core.record.listener import Listener
from hsm.core.record.own_requests import Answer
from hsm.core.record.paths import SweepPaths
from hsm.core.record.requests import Request, ask, drop_requests, take_requests

#: One request of each kind.
KINDS: list[Control] = [
    Pause(),
    Pause(running=True),
    Continue(),
    Change({"max_parallel_jobs": 8}),
    Change({"timeout": None, "max_retries": 0}, now=True),
    Change({"timeout": 1.5}),
    Prioritize((1, 2, 7), -3),
    CancelPending(),
    Explain(),
    Explain(4),
]
NAME = "00000000000000000001-00000000.json"


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    return paths


def taken(paths: SweepPaths) -> list[Control]:
    return [request.control for request in take_requests(paths)]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def put(paths: SweepPaths, name: str, data: bytes) -> Path:
    """A file in the folder of requests, which is made if it is missing."""
    for folder in (paths.requests, paths.own_requests):
        folder.mkdir(mode=0o700, exist_ok=True)
    path = paths.own_requests / name
    path.write_bytes(data)
    return path


def test_requests_come_as_they_were_sent_and_in_their_order(paths: SweepPaths) -> None:
    for control in KINDS:
        own_requests.send(paths, control)
    assert taken(paths) == KINDS
    assert taken(paths) == []
    assert not paths.requests.exists()


def test_a_thousand_requests_keep_their_order(paths: SweepPaths) -> None:
    sent: list[Control] = [Explain(num) for num in range(1200)]
    for control in sent:
        own_requests.send(paths, control)
    assert taken(paths) == sent[:1000]
    assert taken(paths) == sent[1000:]


def test_requests_to_cancel_come_first(paths: SweepPaths) -> None:
    own_requests.send(paths, Pause())
    ask(paths, 3)
    ask(paths, None)
    assert taken(paths) == [Cancel(), Cancel(3), Pause()]


def test_the_files_are_the_owners_alone(paths: SweepPaths) -> None:
    before = os.umask(0)
    try:
        name = own_requests.send(paths, Pause())
    finally:
        os.umask(before)
    assert (mode(paths.own_requests), mode(paths.own_requests / name)) == (0o700, 0o600)


def test_a_group_that_shares_the_sweep_gets_at_no_request(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "shared")
    paths.create(shared=True)
    own_requests.send(paths, Pause())
    assert mode(paths.requests) & 0o070
    assert not mode(paths.own_requests) & 0o077
    assert taken(paths) == [Pause()]


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o720, 0o701])
def test_a_folder_that_others_may_enter_is_not_used(paths: SweepPaths, bits: int) -> None:
    own_requests.send(paths, Pause())
    paths.own_requests.chmod(bits)
    assert taken(paths) == []
    with pytest.raises(HsmError, match="another user may have written it"):
        own_requests.send(paths, Pause())


def test_another_user_is_not_obeyed(paths: SweepPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    name = own_requests.send(paths, Pause())
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert taken(paths) == []
        assert not own_requests.is_waiting(paths, name)
        with pytest.raises(HsmError, match="another user may have written it"):
            own_requests.send(paths, Pause())
    assert taken(paths) == [Pause()]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_belongs_to_another_user_is_not_obeyed(paths: SweepPaths, what: str) -> None:
    name = own_requests.send(paths, Pause())
    path = paths.own_requests if what == "folder" else paths.own_requests / name
    os.chown(path, 65534, -1)
    assert taken(paths) == []
    if what == "file":  # It is gone, and others are taken.
        own_requests.send(paths, Continue())
        assert taken(paths) == [Continue()]


def test_a_request_can_be_taken_back(paths: SweepPaths) -> None:
    name = own_requests.send(paths, Pause())
    assert own_requests.is_waiting(paths, name)
    assert own_requests.take_back(paths, name)
    assert not own_requests.is_waiting(paths, name)
    assert not own_requests.take_back(paths, name)
    assert taken(paths) == []
    assert not paths.requests.exists()


def test_an_answer_is_read_once_and_leaves_nothing(paths: SweepPaths) -> None:
    name = own_requests.send(paths, Explain(3))
    assert own_requests.read_answer(paths, name) is None
    [request] = take_requests(paths)
    assert request.name == name
    own_requests.answer(paths, name, Answer(["job 3 waits", "for memory"]))
    assert own_requests.read_answer(paths, name) == Answer(["job 3 waits", "for memory"])
    assert own_requests.read_answer(paths, name) is None
    assert not paths.requests.exists()


def test_an_answer_comes_though_the_folder_was_removed_meanwhile(paths: SweepPaths) -> None:
    """As by another asker, who found it empty."""
    name = own_requests.send(paths, Pause())
    assert taken(paths) == [Pause()]
    own_requests.remove_empty(paths)
    assert not paths.requests.exists()
    own_requests.answer(paths, name, Answer(["paused"]))
    assert own_requests.read_answer(paths, name) == Answer(["paused"])


def test_an_answer_that_nobody_reads_goes_when_it_is_old(paths: SweepPaths) -> None:
    name = own_requests.send(paths, Explain())
    assert taken(paths) == [Explain()]
    own_requests.answer(paths, name, Answer(["x"]))
    assert taken(paths) == []
    [left] = paths.own_requests.iterdir()
    long_ago = time.time() - 1000
    os.utime(left, (long_ago, long_ago))
    assert taken(paths) == []
    assert not paths.requests.exists()


def test_an_answer_too_long_for_a_file_says_so(paths: SweepPaths) -> None:
    name = own_requests.send(paths, Explain())
    assert taken(paths) == [Explain()]
    own_requests.answer(paths, name, Answer(["x" * 100_000] * 20))
    assert own_requests.read_answer(paths, name) == Answer(["(the answer is too long)"])


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"lines": 3}', b"[" * 100_000, b"\xff"])
def test_an_answer_that_makes_no_sense_is_said_to(paths: SweepPaths, data: bytes) -> None:
    put(paths, NAME.replace(".json", ".answer"), data)
    found = own_requests.read_answer(paths, NAME)
    assert found == Answer([], "its answer makes no sense")


# --- what may lie in the folder ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it is empty"),
        (b'{"request": "pau', "it is not JSON"),
        (b"[" * 100_000, "it is too large or nested too deeply"),
        (b"[1]", "it is a list, not an object"),
        (b"{}", "request is missing"),
        (b'{"request": 3}', "request is 3, not a string"),
        (b'{"request": "jump"}', "unknown request 'jump'"),
        (b'{"request": "set"}', "it sets none of max_parallel_jobs, timeout, max_retries"),
        (b'{"request": "set", "gpu_busy": 1}', "this hsm does not know 'gpu_busy'"),
        (b'{"request": "set", "max_parallel_jobs": 0}', "max_parallel_jobs is 0, not"),
        (b'{"request": "set", "max_parallel_jobs": null}', "max_parallel_jobs is null"),
        (b'{"request": "set", "timeout": -1}', "timeout is -1, not"),
        (b'{"request": "set", "timeout": NaN}', "timeout is nan, not"),
        (b'{"request": "pause", "running": 1}', "running is 1, not true or false"),
        (b'{"request": "priority", "jobs": [1]}', "priority is missing"),
        (b'{"request": "priority", "jobs": [-1], "priority": 1}', "jobs are not all numbers"),
        (b'{"request": "priority", "jobs": [1], "priority": 1e9}', "priority is 1000000000.0"),
        (b'{"request": "cancel", "which": "best"}', "which is 'best', not 'pending'"),
        (b'{"request": "explain", "job": "3"}', "job is '3', not an integer"),
    ],
)
def test_what_makes_no_sense_is_answered_and_does_nothing(
    paths: SweepPaths, data: bytes, problem: str
) -> None:
    put(paths, NAME, data)
    assert taken(paths) == []
    answer = own_requests.read_answer(paths, NAME)
    assert answer is not None
    assert problem in answer.error
    assert not paths.requests.exists()


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _hard_link(path: Path, outside: Path) -> None:
    path.hardlink_to(outside)


def _pipe(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def _huge(path: Path, outside: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("make", [_link, _hard_link, _pipe, _huge])
def test_what_is_no_small_file_of_its_own_is_removed_and_does_nothing(
    paths: SweepPaths, tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text('{"request": "pause"}')
    path = put(paths, NAME, b"")
    path.unlink()
    make(path, outside)
    own_requests.send(paths, Continue())
    assert taken(paths) == [Continue()]
    assert not os.path.lexists(path)
    assert outside.read_text() == '{"request": "pause"}'


@pytest.mark.parametrize("entry", ["requests", "requests/own"])
def test_no_link_is_followed(paths: SweepPaths, tmp_path: Path, entry: str) -> None:
    outside = tmp_path / "outside"
    (outside / "own").mkdir(parents=True, mode=0o700)
    for folder in (outside, outside / "own"):
        folder.chmod(0o700)
        (folder / NAME).write_text('{"request": "pause"}')
    link = paths.hsm_dir / entry
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside / "own" if entry.endswith("own") else outside)
    with pytest.raises(HsmError, match=f"cannot write .*/{entry}: it is a link"):
        own_requests.send(paths, Pause())
    assert taken(paths) == []
    drop_requests(paths)
    assert (outside / NAME).exists()
    assert (outside / "own" / NAME).exists()


def test_half_a_request_is_not_taken_and_goes_when_it_is_old(paths: SweepPaths) -> None:
    half = put(paths, f".{NAME}.4711", b'{"request": "pau')
    folder = paths.own_requests / "folder"
    folder.mkdir()
    assert taken(paths) == []
    assert half.exists()
    long_ago = time.time() - 1000
    for path in (half, folder):
        os.utime(path, (long_ago, long_ago))
    assert taken(paths) == []
    assert not paths.requests.exists()


def test_what_an_earlier_launcher_was_asked_is_dropped(paths: SweepPaths) -> None:
    own_requests.send(paths, Pause())
    put(paths, NAME.replace(".json", ".answer"), b"{}")
    put(paths, f".{NAME}.4711", b"{}")
    drop_requests(paths)
    assert not paths.requests.exists()
    assert taken(paths) == []


def test_a_request_that_would_be_too_large_is_refused(paths: SweepPaths) -> None:
    with pytest.raises(HsmError, match="the request has more than 1048576 bytes"):
        own_requests.send(paths, Prioritize(tuple(range(400_000)), 1))
    assert not paths.requests.exists()


def test_the_numbers_of_100_000_jobs_fit(paths: SweepPaths) -> None:
    asked = Prioritize(tuple(range(100_000)), 1)
    own_requests.send(paths, asked)
    assert taken(paths) == [asked]


def test_a_listener_never_sees_a_half(paths: SweepPaths) -> None:
    """Requests of 100 kB, from two threads at once, all arrive whole."""
    seen: list[Request] = []
    listener = Listener(lambda _, request: seen.append(request), "listener")
    listener.add(paths)
    asked = [Prioritize(tuple(range(20_000)), priority) for priority in range(40)]

    def send(part: Sequence[Control]) -> None:
        for control in part:
            own_requests.send(paths, control)

    threads = [threading.Thread(target=send, args=[it]) for it in (asked[::2], asked[1::2])]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: len(seen) >= len(asked), "the requests")
    finally:
        listener.stop()
    priorities = [it.control.priority for it in seen if isinstance(it.control, Prioritize)]
    assert sorted(priorities) == list(range(40))
    assert [it for it in priorities if not it % 2] == list(range(0, 40, 2))


def test_a_request_is_json_that_people_can_read(paths: SweepPaths) -> None:
    name = own_requests.send(paths, Change({"max_parallel_jobs": 8}, now=True))
    text = (paths.own_requests / name).read_text()
    assert json.loads(text) == {"request": "set", "max_parallel_jobs": 8, "now": True}
