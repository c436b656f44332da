"""The locks that keep sweeps of one machine off each other's GPUs."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from helpers.processes import PATIENCE
from hsm.core.gpu.locks import STALE_AFTER, GpuLocks
from hsm.core.gpu.turns import Turns

KEY, OTHER = "GPU-0001", "MIG-GPU-1/2/0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "locks"


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_files() -> list[str]:
    """The names of the files that this process has open."""
    return [
        os.readlink(place)
        for fd in os.listdir("/proc/self/fd")
        if os.path.lexists(place := f"/proc/self/fd/{fd}")
    ]


HOLDER = """
import sys
from pathlib import Path
from hsm.core.gpu.locks import GpuLocks
locks = GpuLocks(Path(sys.argv[1]))
locks.sweep = "s_7"
assert locks.try_take(sys.argv[2:]) is None
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(folder: Path, *keys: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds these locks until it is ended."""
    command = [sys.executable, "-c", HOLDER, str(folder), *keys]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_one_sweep_has_a_gpu_at_a_time(folder: Path) -> None:
    one, two = GpuLocks(folder), GpuLocks(folder)
    one.sweep = "s1"
    assert one.try_take([KEY]) is None
    assert one.held == {KEY}
    assert two.try_take([KEY]) == f"pid {os.getpid()}, sweep s1"
    one.release([KEY])
    assert two.try_take([KEY]) is None
    two.close()
    assert one.trouble == two.trouble == ""


def test_several_are_taken_together_or_none_is(folder: Path) -> None:
    one, two = GpuLocks(folder), GpuLocks(folder)
    assert one.try_take([OTHER]) is None
    assert two.try_take([KEY, OTHER]) is not None
    assert two.held == frozenset()
    assert one.try_take([KEY, OTHER]) is None
    one.close()
    assert two.try_take([KEY, OTHER]) is None
    two.close()


def test_everybody_may_use_them_whatever_the_umask(folder: Path) -> None:
    locks = GpuLocks(folder)
    with umask(0o077):
        assert locks.try_take([KEY, OTHER]) is None
        locks.take_turn()
    assert mode(folder) == 0o1777
    assert {mode(path) for path in folder.iterdir()} == {0o666}
    assert sorted(path.name for path in folder.iterdir()) == [
        "GPU-0001.lock",
        "MIG-GPU-1%2F2%2F0.lock",
        "turn",
    ]
    assert not [path for path in folder.parent.iterdir() if path.name.startswith("locks.")]
    locks.close()


def test_the_kernel_frees_those_of_a_killed_launcher(folder: Path) -> None:
    locks = GpuLocks(folder)
    with holder(folder, KEY, OTHER) as process:
        assert locks.try_take([OTHER]) == f"pid {process.pid}, sweep s_7"
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
        assert locks.try_take([KEY, OTHER]) is None
    locks.close()


def test_no_child_keeps_a_lock(folder: Path) -> None:
    locks = GpuLocks(folder)
    assert locks.try_take([KEY]) is None
    locks.take_turn()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os.close(writing)
            found = open_files()
            has_some = locks.held or locks.has_turn or any(str(folder) in name for name in found)
            os.read(reading, 1)
            os._exit(1 if has_some else 0)
        os._exit(2)
    os.close(reading)
    listed = subprocess.run(
        ["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, check=True
    )
    assert str(folder) not in listed.stdout
    assert GpuLocks(folder).try_take([KEY]) is not None  # The child has not freed it either.
    locks.close()
    other = GpuLocks(folder)
    assert other.try_take([KEY]) is None
    other.close()
    os.close(writing)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_lock_on_a_removed_file_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes next would make another file, and have the GPU as well."""
    one, two = GpuLocks(folder), GpuLocks(folder)
    flock, removed = fcntl.flock, list[int]()

    def remove_first(fd: int, how: int) -> None:
        if not removed and how & fcntl.LOCK_EX:
            removed.append(fd)
            (folder / f"{KEY}.lock").unlink()
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    assert one.try_take([KEY]) is None
    assert removed
    assert two.try_take([KEY]) is not None
    one.close()


def test_the_folder_may_be_removed_at_any_time(folder: Path) -> None:
    locks = GpuLocks(folder)
    assert locks.try_take([KEY]) is None
    locks.close()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert locks.try_take([KEY, OTHER]) is None
    assert locks.trouble == ""
    assert len(list(folder.iterdir())) == 2
    locks.close()


def test_no_lock_follows_a_link_or_opens_what_is_no_file(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    GpuLocks(folder).try_take(["x"])
    (folder / f"{KEY}.lock").symlink_to(victim)
    os.mkfifo(folder / "GPU-fifo.lock")
    os.link(victim, folder / "GPU-hard.lock")
    for key in (KEY, "GPU-fifo"):
        locks = GpuLocks(folder)
        assert locks.try_take([key]) is None  # It goes on without that lock, and says so.
        assert "other sweeps may use the same GPUs" in locks.trouble
        assert f"{key}.lock" in locks.trouble
        locks.close()
    locks = GpuLocks(folder)
    assert locks.try_take(["GPU-hard"]) is None
    locks.close()
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("there", ["a link", "a file", "too open", "no parent", "not writable"])
def test_a_folder_that_cannot_be_trusted_is_told_once_and_not_used(
    there: str, tmp_path: Path
) -> None:
    folder = tmp_path / "locks"
    if there == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o1777)
        folder.symlink_to(tmp_path / "elsewhere")
    elif there == "a file":
        folder.write_text("")
    elif there == "too open":
        folder.mkdir()
        folder.chmod(0o777)
    elif there == "no parent":
        folder = tmp_path / "nowhere" / "locks"
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    else:
        folder.mkdir(mode=0o500)
    one, two = GpuLocks(folder), GpuLocks(folder)
    assert one.try_take([KEY, OTHER]) is None
    assert two.try_take([KEY]) is None
    assert one.take_turn() == two.take_turn() == ("", frozenset())
    one.keep_turn([KEY])
    assert one.trouble.startswith(f"other sweeps may use the same GPUs: no locks in {folder}: ")
    assert "\n" not in one.trouble
    assert not (tmp_path / "elsewhere").exists() or not os.listdir(tmp_path / "elsewhere")
    one.close()
    two.close()


def test_a_folder_of_another_user_must_have_the_mode(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(mode=0o755)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    found = os.stat(folder).st_uid
    locks = GpuLocks(folder)
    locks.try_take([KEY])
    if found != 0:
        assert "belongs to another user" in locks.trouble
    folder.chmod(0o1777)
    other = GpuLocks(folder)
    other.try_take([KEY])
    assert other.trouble == ""
    locks.close()
    other.close()


def test_what_a_file_says_of_its_holder_is_not_trusted(folder: Path) -> None:
    one = GpuLocks(folder)
    one.try_take([KEY])
    for text in ("99999999999999", "7 \x1b[31m", "x" * 100_000, "", "\xff"):
        (folder / f"{KEY}.lock").write_text(text)
        assert GpuLocks(folder).try_take([KEY]) == "pid unknown"
    one.close()


def test_a_variable_names_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSM_GPU_LOCKS", str(folder))
    locks = GpuLocks()
    assert locks.try_take([KEY]) is None
    assert (folder / f"{KEY}.lock").exists()
    locks.close()


# --- the turn ---------------------------------------------------------------------------------


def test_whoever_has_the_turn_says_for_what(folder: Path) -> None:
    one, two = GpuLocks(folder), GpuLocks(folder)
    one.sweep = "s1"
    assert one.take_turn() == ("", frozenset())
    assert two.take_turn() == (f"pid {os.getpid()}, sweep s1", frozenset())
    one.keep_turn([KEY, OTHER])
    assert two.take_turn()[1] == {KEY, OTHER}
    assert not two.has_turn
    one.keep_turn([KEY])
    assert two.take_turn()[1] == {KEY}
    one.give_turn()
    assert two.take_turn() == ("", frozenset())
    assert one.take_turn()[1] == frozenset()  # What the last holder wanted is no more.
    two.close()


def test_a_turn_that_is_not_kept_up_counts_for_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = GpuLocks(folder), GpuLocks(folder)
    one.take_turn()
    one.keep_turn([KEY])
    long_ago = time.time() - STALE_AFTER - 1
    os.utime(folder / "turn", (long_ago, long_ago))
    assert two.take_turn() == ("", frozenset())
    assert not two.has_turn
    later = time.monotonic() + 2
    monkeypatch.setattr(time, "monotonic", lambda: later)
    one.keep_turn([KEY])
    assert two.take_turn()[1] == {KEY}
    one.close()


def test_a_turn_whose_file_was_removed_is_given_up_for_a_new_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = GpuLocks(folder), GpuLocks(folder)
    one.take_turn()
    one.keep_turn([KEY])
    (folder / "turn").unlink()
    later = time.monotonic() + 2
    monkeypatch.setattr(time, "monotonic", lambda: later)
    one.keep_turn([KEY])
    assert not one.has_turn
    assert one.take_turn() == ("", frozenset())
    one.keep_turn([KEY])
    assert two.take_turn()[1] == {KEY}
    one.close()


def test_a_gpu_that_others_use_is_tried_once_in_a_round(tmp_path: Path) -> None:
    tried: list[str] = []

    class Noting(GpuLocks):
        def try_take(self, keys: Iterable[str]) -> str | None:
            tried.extend(keys := list(keys))
            return super().try_take(keys)

    other, turns = GpuLocks(tmp_path / "locks"), Turns(Noting(tmp_path / "locks"))
    other.try_take(["b"])
    for rounds in (1, 2):
        turns.begin_round()
        for _ in range(3):
            assert turns.claim(1, [], {"a": False, "b": False}, 0.0, keeps=False) == []
            assert list(turns.others) == ["b"]
        turns.end_round()
        assert tried == ["a", "b"] * rounds
    other.close()
