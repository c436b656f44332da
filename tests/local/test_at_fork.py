"""What a forked child forgets, and the memory that it shares with its parent."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.processes import both_methods
from hsm.core.at_fork import in_child
from hsm.core.local.processes.note import Note


class Thing:
    """Can be told to forget."""

    def __init__(self) -> None:
        self.forgotten = 0

    def forget(self) -> None:
        self.forgotten += 1


def exit_code_of_child(code: object) -> int:
    """Fork a child that exits with what `code` returns."""
    assert callable(code)
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(code())
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_forgets_what_its_parent_keeps() -> None:
    thing = Thing()
    in_child(thing, Thing.forget)
    assert exit_code_of_child(lambda: thing.forgotten) == 1
    assert thing.forgotten == 0


def test_a_childs_own_child_has_nothing_to_forget() -> None:
    thing = Thing()
    in_child(thing, Thing.forget)
    assert exit_code_of_child(lambda: exit_code_of_child(lambda: thing.forgotten)) == 1


def test_what_is_gone_is_not_called() -> None:
    thing, other = Thing(), Thing()
    in_child(thing, lambda gone: other.forget())
    del thing
    gc.collect()
    assert exit_code_of_child(lambda: other.forgotten) == 0


def test_a_note_is_read_by_the_parent_of_who_wrote_it() -> None:
    note = Note(100)
    assert note.read() is None
    assert exit_code_of_child(lambda: int(note.write(b"a\0b"))) == 1
    assert note.read() == b"a\0b"
    note.clear()
    assert note.read() is None
    note.close()


def test_a_note_that_is_too_long_leaves_nothing() -> None:
    note = Note(10)
    assert note.write(b"0123456789")
    assert not note.write(b"0123456789a")
    assert note.read() is None
    note.close()


_SWEEP = """
import os, subprocess, sys
from hsm import LocalComputeSource

def job(params):
    print("out", params["x"])
    print("err", params["x"], file=sys.stderr)
    assert sys.stdin.read() == "" and os.read(0, 1) == b""
    assert subprocess.run(["sh", "-c", "! read line && test -e /dev/stdin"]).returncode == 0
    return params["x"]

if __name__ == "__main__":
    with LocalComputeSource(2, start_method=sys.argv[1], show_output=False) as made:
        work = {"function": job} if sys.argv[2] == "function" else {
            "command": ["sh", "-c", "echo out {x}; echo err {x} >&2; ! read line"]
        }
        made.submit_jobs([{"x": 0}, {"x": 1}], "s", "sweep", **work)
        states = set(map(str, made.wait().values()))
        os._exit(0 if states == {"COMPLETED"} else 1)
"""


@pytest.mark.parametrize("what", ["function", "command"])
@both_methods
@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_a_launcher_without_standard_streams_has_jobs_with_theirs(
    tmp_path: Path, closed: str, start_method: str, what: str
) -> None:
    """Whatever it opens has the numbers of those, which are a job's streams."""
    (tmp_path / "app.py").write_text(_SWEEP)
    line = f"exec {sys.executable} app.py {start_method} {what} {closed}"
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    logs = tmp_path / "sweep" / ".hsm" / "logs"
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    for num in range(2):
        assert (logs / f"{num}.out").read_text() == f"out {num}\n"
        assert (logs / f"{num}.err").read_text() == f"err {num}\n"
