"""The jobs' temporary directories, in a /tmp that others clean, and with what jobs leave there."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import PATIENCE, both_methods, wait_for
from helpers.reliability import points, source, start_driver, write_driver
from hsm.core.local.local_backend import LocalBackend
from hsm.core.local.scratch import Scratch, ShortNames
from hsm.core.record.job import JobState
from hsm.core.removal import remove_tree

MODES = {"nobody may write": 0o555, "nobody may enter": 0o000, "only to enter": 0o111}


def clean_tmp(params: Mapping[str, Any]) -> int:
    """The first job removes all temporary files, as a cleaner does; the others want theirs."""
    import tempfile

    if params["x"] == 0:
        shutil.rmtree(Path(os.environ["TMPDIR"]).parent)
    else:
        tempfile.NamedTemporaryFile().close()
    return int(params["x"])


@both_methods
def test_a_tmp_that_is_cleaned_under_a_sweep_costs_no_later_job(
    tmp_path: Path, start_method: str
) -> None:
    with source(start_method=start_method, max_parallel_jobs=1) as made:
        ids = made.submit_jobs(points(0, 1, 2), "s", tmp_path, function=clean_tmp)
        assert made.wait(timeout=PATIENCE) == dict.fromkeys(ids, JobState.COMPLETED)
        assert [made.result(job_id) for job_id in ids] == [0, 1, 2]
        assert isinstance(made._backend, LocalBackend)
        path = made._backend._scratch.path
    assert not path.exists()


@pytest.mark.slow
def test_the_directory_of_a_job_that_runs_is_made_again_too(tmp_path: Path) -> None:
    waits = "while [ ! -e {root}/go ]; do sleep 0.02; done; touch $TMPDIR/mine"
    cleans = 'rm -rf "$(dirname "$TMPDIR")"'
    with source(max_parallel_jobs=2) as made:
        first = made.submit_jobs(
            points(0), "s", tmp_path, command=["sh", "-c", waits.replace("{root}", str(tmp_path))]
        )
        wait_for(lambda: made.job(first[0]).attempts, "its start")
        for command in (cleans, "touch $TMPDIR/mine"):
            ids = made.submit_jobs(points(0), "s", tmp_path, command=["sh", "-c", command])
            assert made.wait(ids, timeout=PATIENCE) == {ids[0]: JobState.COMPLETED}
        (tmp_path / "go").touch()
        assert made.wait(first, timeout=PATIENCE) == {first[0]: JobState.COMPLETED}


@pytest.mark.slow
def test_files_that_a_cleaner_takes_one_by_one_are_written_again(tmp_path: Path) -> None:
    """Spawned jobs read the function from there."""
    with source(start_method="spawn", max_parallel_jobs=1) as made:
        ids = made.submit_jobs(points(1), "s", tmp_path, function=clean_tmp)
        made.wait(timeout=PATIENCE)
        assert isinstance(made._backend, LocalBackend)
        for file in made._backend._scratch.path.iterdir():
            file.unlink()
        ids += made.submit_jobs(points(2), "s", tmp_path, function=clean_tmp)
        assert [made.result(job_id) for job_id in ids] == [1, 2]


def test_cleaners_that_respect_locks_leave_it_alone() -> None:
    """systemd-tmpfiles takes this lock on a directory, or does not touch it."""
    scratch = Scratch(keep=False)
    scratch.make("0")
    fd = os.open(scratch.path, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(fd)
        assert (status.st_mode & 0o777, status.st_uid) == (0o700, os.geteuid())
    finally:
        os.close(fd)
        scratch.close()


@pytest.mark.parametrize("taken_by", ["a link", "a folder", "a file"])
def test_a_name_that_somebody_else_has_taken_is_not_used(tmp_path: Path, taken_by: str) -> None:
    scratch = Scratch(keep=False)
    before = Path(scratch.make("0")).parent
    shutil.rmtree(before)
    trap = tmp_path / "trap"
    trap.mkdir()
    try:
        if taken_by == "a link":
            before.symlink_to(trap)
        elif taken_by == "a folder":
            before.mkdir(0o777)
        else:
            before.touch()
        made = Path(scratch.make("1"))
        assert made.parent != before
        assert (made.parent / "0").is_dir()
        assert not list(trap.iterdir())
        scratch.close()
        assert not made.parent.exists()
        assert os.path.lexists(before)
    finally:
        if remove_tree(before) is not None:
            before.unlink()


def test_without_locks_there_is_a_directory_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    scratch = Scratch(keep=False)
    assert os.path.isdir(scratch.make("0"))
    scratch.close()
    assert not scratch._path or not scratch._path.exists()


#: A tree like Go's module cache, with a link that leads out of it. The program runs in a directory
#: of its own, and without the rights of a superuser, whom no mode stops.
_REMOVE_PROTECTED = """
import os, sys
from pathlib import Path
from hsm.core.removal import remove_tree
if os.geteuid() == 0:
    os.chown(".", 12345, 12345)
    os.setuid(12345)
outside, deep = Path("outside"), Path("top/mod/example.com@v1/deep")
outside.mkdir()
deep.mkdir(parents=True)
(outside / "kept").touch()
(deep / "file").touch()
(deep / "link").symlink_to(outside.resolve())
for folder in (outside, deep, *list(deep.parents)[:-2]):
    folder.chmod(int(sys.argv[1]))
left = remove_tree("top")
assert left is None, left
assert not os.path.lexists("top")
assert outside.stat().st_mode & 0o777 == int(sys.argv[1])
outside.chmod(0o755)
assert (outside / "kept").exists()
"""


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
def test_read_only_trees_are_removed_and_no_link_is_followed(tmp_path: Path, mode: int) -> None:
    command = [sys.executable, "-c", _REMOVE_PROTECTED, str(mode)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As with chattr +i, or what another user has put there: rmtree gets nowhere."""
    scratch = Scratch(keep=False)
    stays = Path(scratch.make("0"), "stays")
    stays.touch()
    unlink = os.unlink

    def refuse(path: str, **options: Any) -> None:
        if os.path.basename(path) == "stays":
            raise PermissionError(errno.EPERM, "Operation not permitted", path)
        unlink(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refuse)
        scratch.clean("0")
        scratch.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot remove {stays}: Operation not permitted; it stays"
    ]
    assert remove_tree(scratch.path) is None


@pytest.mark.slow
def test_a_killed_launchers_protected_files_are_removed_by_its_server(tmp_path: Path) -> None:
    write_driver(
        tmp_path,
        """
        def job(params):
            deep = Path(os.environ["TMPDIR"], "cache", "deep")
            deep.mkdir(parents=True)
            (deep / "file").touch()
            deep.chmod(0o555)
            note("where", os.environ["TMPDIR"])
            wait_for("never")

        with source(start_method="fork") as made:
            made.submit_jobs([{"x": 0}], "s", "sweep", function=job)
            made.wait()
        """,
    )
    with start_driver(tmp_path) as sweep:
        where = tmp_path / "where"
        wait_for(where.exists, "the job")
        sweep.process.send_signal(signal.SIGKILL)
        scratch = Path(where.read_text()).parent
        wait_for(lambda: not scratch.exists(), "its end")


def touch(path: Path) -> None:
    (path / "left").touch()


def touch_and_remove(path: Path) -> None:
    (path / "left").touch()
    (path / "left").unlink()


def open_to_all(path: Path) -> None:
    path.chmod(0o777)


def replace(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.mkdir(0o700)


def remove(path: Path) -> None:
    path.rmdir()


@pytest.mark.parametrize("used_before", [False, True])
@pytest.mark.parametrize("deed", [touch, touch_and_remove, open_to_all, replace, remove])
def test_what_a_job_does_to_its_directory_is_not_seen_by_the_next(
    deed: Callable[[Path], None], used_before: bool
) -> None:
    scratch = Scratch(keep=False)
    if used_before:
        earlier = Path(scratch.make("7"))
        wait_for(lambda: time.time() > earlier.stat().st_ctime + 0.05, "another tick of the clock")
        scratch.clean("7")
    first = Path(scratch.make("0"))
    wait_for(lambda: time.time() > first.stat().st_ctime + 0.05, "another tick of the clock")
    deed(first)
    scratch.clean("0")
    assert not first.exists()
    second = Path(scratch.make("1"))
    assert (second.name, os.listdir(second)) == ("1", [])
    assert second.stat().st_mode & 0o777 == 0o700
    scratch.close()
    assert not first.parent.exists()


def test_an_untouched_directory_is_used_again_under_the_name_of_the_next_job() -> None:
    scratch = Scratch(keep=False)
    first = Path(scratch.make("0"))
    made = first.stat()
    scratch.clean("0")
    second, third = Path(scratch.make("1")), Path(scratch.make("2"))
    assert not first.exists()
    assert second.stat().st_ino == made.st_ino
    assert third.stat().st_ino != made.st_ino
    for num in (1, 2):
        scratch.clean(str(num))
    assert len(list(second.parent.iterdir())) == 2
    scratch.close()
    assert not first.parent.exists()


def test_a_job_that_runs_again_finds_its_own_directory_empty() -> None:
    """Its name, too, is among those that later jobs take."""
    scratch = Scratch(keep=False)
    for num in (0, 1, 2):
        scratch.make(str(num))
    for num in (1, 0, 2):
        scratch.clean(str(num))
    for num in (0, 3, 1):
        assert os.listdir(scratch.make(str(num))) == []
    assert sorted(path.name for path in scratch.path.iterdir()) == ["0", "1", "3"]
    scratch.close()


def test_a_closed_one_renames_nothing_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = Scratch(keep=False)
    scratch.make("0")
    scratch.clean("0")
    scratch.close()
    own = tmp_path / "own"
    (own / "0").mkdir(parents=True)
    monkeypatch.chdir(own)
    scratch.make("1")
    assert os.listdir(own) == ["0"]
    scratch.close()


@pytest.mark.parametrize("taken_by", ["a link", "a folder"])
def test_what_lies_where_directories_were_put_by_is_not_used(tmp_path: Path, taken_by: str) -> None:
    scratch = Scratch(keep=False)
    before = Path(scratch.make("0")).parent
    scratch.clean("0")
    shutil.rmtree(before)
    trap = tmp_path / "trap" if taken_by == "a link" else before
    (trap / "0").mkdir(parents=True)
    if taken_by == "a link":
        before.symlink_to(trap)
    try:
        made = Path(scratch.make("1"))
        assert made.parent != before
        assert os.listdir(trap) == ["0"]
        scratch.close()
        assert not made.parent.exists()
        assert os.path.lexists(before)
    finally:
        if remove_tree(before) is not None:
            before.unlink()


def test_a_spare_directory_that_somebody_uses_or_removes_becomes_no_jobs() -> None:
    scratch = Scratch(keep=False)
    for num in (0, 1):
        scratch.make(str(num))
    parent = scratch.path
    for num in (0, 1):
        scratch.clean(str(num))
    (parent / "0").rmdir()
    (parent / "1" / "file").touch()
    for num in (2, 3):
        assert os.listdir(scratch.make(str(num))) == []
    scratch.close()
    assert not parent.exists()


# --- several sweeps of one source, whose jobs have the same numbers -------------------------------

#: Notes its name in TMPDIR, waits until another job has done so, too, and lists TMPDIR.
_MEET = (
    'touch "$TMPDIR/{own}" "{root}/{own}.there"; until [ -e "{root}/{other}.there" ]; '
    'do sleep 0.02; done; ls "$TMPDIR"; echo "$TMPDIR"; {after}'
)


def test_jobs_of_two_sweeps_have_directories_of_their_own(tmp_path: Path) -> None:
    """The first to end takes only its own along."""
    waits = f'until [ -e "{tmp_path}/go" ]; do sleep 0.02; done; ls "$TMPDIR"'
    with source(max_parallel_jobs=2) as made:
        ids = []
        for own, other, after in (("a", "b", "true"), ("b", "a", waits)):
            script = _MEET.format(own=own, other=other, root=tmp_path, after=after)
            command = ["sh", "-c", script]
            ids += made.submit_jobs([{}], own, tmp_path / own, command=command)
        made.wait(ids[:1], timeout=PATIENCE)
        (tmp_path / "go").touch()
        assert made.wait(timeout=PATIENCE) == dict.fromkeys(ids, JobState.COMPLETED)
        printed = [made.paths(job_id).stdout(0).read_text().split() for job_id in ids]
    assert [words[0] for words in printed] == ["a", "b"]
    assert printed[1][2:] == ["b"]
    assert printed[0][1] != printed[1][1]


def own_x(params: Mapping[str, Any]) -> int:
    return int(params["x"])


@both_methods
def test_jobs_of_several_sweeps_get_their_own_parameters(tmp_path: Path, start_method: str) -> None:
    with source(start_method=start_method, max_parallel_jobs=4) as made:
        ids = [
            job_id
            for x in range(8)
            for job_id in made.submit_jobs(points(x), f"s{x}", tmp_path / str(x), function=own_x)
        ]
        assert [made.result(job_id) for job_id in ids] == list(range(8))


def test_short_names_differ_within_a_source() -> None:
    names = ShortNames()
    assert [names.of(*job) for job in (("a", 1), ("b", 1), ("a", 2), ("b", 1), ("c", 0))] == [
        "1",
        "1-1",
        "2",
        "1-1",
        "2-0",
    ]
