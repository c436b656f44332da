"""The record of an earlier sweep is set aside whole: all of it but the lock, or nothing."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.processes import first_fast
from helpers.reliability import conf
from hsm.core.engine.submission import claim
from hsm.core.errors import HsmError
from hsm.core.program.program import Program
from hsm.core.record.job import Job
from hsm.core.record.journal import Journal
from hsm.core.record.lock import LockFile, is_locked
from hsm.core.record.paths import SweepPaths
from hsm.core.record.setting_aside import set_aside
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

#: What there is beside the journal, files of a later hsm among them.
_FILES = {
    "logs/0.out": "out",
    "logs/0.err": "err",
    "results/0.pkl": "value",
    "launched.json": "{}",
    "git.diff": "diff",
    "launcher.log": "log",
    "requests/0": "",
    "large/ab.json": "1",
    "metrics/0.jsonl": "2",
    "of a later hsm": "3",
    ".hidden": "4",
}


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    """Those of a sweep that has ended."""
    made = SweepPaths(tmp_path / "sweep")
    journal = Journal(made, "earlier", {})
    journal.submit([Job(0, "earlier_0")])
    journal.close("finished")
    for name, text in _FILES.items():
        (made.hsm_dir / name).parent.mkdir(exist_ok=True)
        (made.hsm_dir / name).write_text(text)
    return made


def _record(folder: Path) -> dict[str, bytes]:
    """All files but the lock, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def _check_set_aside(paths: SweepPaths, before: dict[str, bytes], target: Path | None) -> None:
    assert target == paths.sweep_dir / ".hsm.1"
    assert _record(target) == before
    assert _record(paths.hsm_dir) == {}
    assert not (target / "lock").exists()
    assert is_locked(paths.lock)


def _cannot_rename(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """These are mounts; what is below them is on another file system."""
    rename = os.rename

    def of_mounts(source: str | Path, target: str | Path) -> None:
        if Path(source) in folders:
            raise OSError(errno.EBUSY, "Device or resource busy", str(source))
        if any(folder in Path(source).parents for folder in folders):
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", of_mounts)


def test_all_of_it_is_moved_in_one_step(paths: SweepPaths) -> None:
    before = _record(paths.hsm_dir)
    lock = LockFile(paths.lock)
    _check_set_aside(paths, before, set_aside(paths, lock))
    journal = Journal(paths, "new", {}, lock=lock)
    journal.close("finished")
    assert not is_locked(paths.lock)
    assert read_sweep(paths.sweep_dir).sweep_id == "new"


@pytest.mark.parametrize("where", [".hsm", ".hsm and results"])
def test_what_is_a_mount_is_moved_file_by_file(
    paths: SweepPaths, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    before = _record(paths.hsm_dir)
    lock = LockFile(paths.lock)
    with monkeypatch.context() as patched:
        _cannot_rename(patched, paths.hsm_dir, *([paths.results] if "results" in where else []))
        target = set_aside(paths, lock)
    _check_set_aside(paths, before, target)
    lock.release()


def test_nothing_is_set_aside_where_there_is_no_sweep(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    lock = LockFile(paths.lock)
    assert set_aside(paths, lock) is None
    lock.release()
    assert os.listdir(paths.sweep_dir) == [".hsm"]


def test_earlier_records_stay(paths: SweepPaths) -> None:
    (paths.sweep_dir / ".hsm.1").mkdir()
    (paths.sweep_dir / ".hsm.2").symlink_to("/nowhere")
    lock = LockFile(paths.lock)
    assert set_aside(paths, lock) == paths.sweep_dir / ".hsm.3"
    lock.release()


@pytest.mark.parametrize("fails", ["journal.jsonl", "results", "launched.json", ".hidden"])
def test_what_cannot_be_moved_is_told_and_all_stays_where_it_was(
    paths: SweepPaths, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    before = _record(paths.hsm_dir)
    lock = LockFile(paths.lock)
    with monkeypatch.context() as patched:
        _cannot_rename(patched, paths.hsm_dir)
        rename = os.rename

        def refuse(source: str | Path, target: str | Path) -> None:
            if Path(source) == paths.hsm_dir / fails:
                raise PermissionError(errno.EACCES, "Permission denied", str(source))
            rename(source, target)

        # The other file system takes no renames at all: what is left is copied.
        patched.setattr(os, "rename", refuse)
        with pytest.raises(HsmError, match=f"{fails}: Permission denied"):
            set_aside(paths, lock)
    assert _record(paths.hsm_dir) == before
    assert not (paths.sweep_dir / ".hsm.1").exists()
    assert is_locked(paths.lock)
    _check_set_aside(paths, before, set_aside(paths, lock))
    lock.release()


def test_a_new_record_that_cannot_be_locked_leaves_the_earlier_one(
    paths: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _record(paths.hsm_dir)
    lock = LockFile(paths.lock)

    def refuse(_: LockFile) -> None:
        paths.lock.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(LockFile, "retake", refuse)
        with pytest.raises(HsmError, match="No space left"):
            set_aside(paths, lock)
    assert _record(paths.hsm_dir) == before
    assert lock.is_current()
    _check_set_aside(paths, before, set_aside(paths, lock))
    lock.release()


class _Killed(BaseException):
    """The launcher dies here: nothing is tidied up."""


def _begin_as_hydra_does(paths: SweepPaths) -> None:
    lock = LockFile(paths.lock)
    set_aside(paths, lock)
    Journal(paths, "new", {}, lock=lock).close("finished")


def _begin_as_the_api_does(paths: SweepPaths) -> None:
    lock, _ = claim(paths, Program(command=("true",)), conf(), resumes=False)
    Journal(paths, "new", {}, lock=lock).close("finished")


@pytest.mark.parametrize("begin", [_begin_as_hydra_does, _begin_as_the_api_does])
@pytest.mark.parametrize("dies_at", [1, 2, 5, 9])
def test_what_was_interrupted_is_finished_by_the_next_sweep_there(
    paths: SweepPaths,
    monkeypatch: pytest.MonkeyPatch,
    dies_at: int,
    begin: Callable[[SweepPaths], None],
) -> None:
    before = _record(paths.hsm_dir)
    lock = LockFile(paths.lock)
    with monkeypatch.context() as patched:
        _cannot_rename(patched, paths.hsm_dir, paths.results)
        rename, calls = os.rename, 0

        def die(source: str | Path, target: str | Path) -> None:
            nonlocal calls
            calls += 1
            if calls == dies_at + 1:  # the first is that of all of it
                raise _Killed
            rename(source, target)

        patched.setattr(os, "rename", die)
        with pytest.raises(_Killed):
            set_aside(paths, lock)
    lock.release()
    if dies_at == 1 and begin is _begin_as_the_api_does:
        # Nothing has been moved: it is an earlier sweep still.
        with pytest.raises(HsmError, match="holds an earlier sweep"):
            begin(paths)
        assert _record(paths.hsm_dir).items() >= before.items()
        return
    begin(paths)
    assert _record(paths.sweep_dir / ".hsm.1") == before
    assert set(_record(paths.hsm_dir)) <= {"journal.jsonl", "git.diff"}
    assert read_sweep(paths.sweep_dir).sweep_id == "new"


_IN_A_NAMESPACE = """
mount -t tmpfs tmpfs "$1"/.hsm && cp -a "$1"/copy/. "$1"/.hsm && rm -r "$1"/copy
mount -t tmpfs tmpfs "$1"/.hsm/metrics && echo 2 > "$1"/.hsm/metrics/0.jsonl
"$2" -c '
import sys
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.setting_aside import set_aside
paths = SweepPaths(sys.argv[1])
print(set_aside(paths, LockFile(paths.lock)).name)
' "$1" && ls -A "$1"/.hsm "$1"/.hsm/metrics && ls -A "$1"/.hsm.1/metrics
"""


def _has_namespaces() -> bool:
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.call([unshare, "-m", "true"]) == 0


@pytest.mark.skipif(not _has_namespaces(), reason="no mount namespaces")
def test_real_mounts(paths: SweepPaths) -> None:
    before = _record(paths.hsm_dir)
    paths.hsm_dir.rename(paths.sweep_dir / "copy")
    paths.hsm_dir.mkdir()
    ended = subprocess.run(
        ["unshare", "-m", "bash", "-c", _IN_A_NAMESPACE, "-", paths.sweep_dir, sys.executable],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == [
        ".hsm.1",
        *(f"{paths.hsm_dir}:", "lock", "metrics"),
        *(f"{paths.hsm_dir}/metrics:", "0.jsonl"),
    ]
    assert _record(paths.sweep_dir / ".hsm.1").keys() == before.keys()


_SET_ASIDE = """
import sys
from hsm.core.errors import HsmError
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.setting_aside import set_aside
paths = SweepPaths(sys.argv[1])
try:
    print(set_aside(paths, LockFile(paths.lock)).name)
except HsmError as error:
    print(error)
"""
_RESULTS = 'cp -a "$1"/.hsm/results "$1"/copy; mount {} "$1"/.hsm/results; cp -a "$1"/copy/. $_'


def _in_a_namespace(paths: SweepPaths, *steps: str) -> list[str]:
    """What setting aside says after these mounts, and what the last step prints."""
    program = '"$2" -c "$3" "$1"'
    script = "; ".join(("set -e", *steps[:-1], program, *steps[-1:]))
    words = ["unshare", "-m", "bash", "-c", script, "-", str(paths.sweep_dir), sys.executable]
    return subprocess.check_output([*words, _SET_ASIDE], text=True).splitlines()


@pytest.mark.skipif(not _has_namespaces(), reason="no mount namespaces")
@pytest.mark.parametrize(
    "mount", first_fast("-t tmpfs tmpfs", '--bind "$(mktemp -d -p "$1")"', "-t ramfs ramfs")
)
def test_a_mount_below_the_record_stays_and_what_it_holds_is_set_aside(
    paths: SweepPaths, mount: str
) -> None:
    """Else it would be mounted there again, over the results of the new sweep."""
    before = _record(paths.hsm_dir)
    name, *left = _in_a_namespace(
        paths,
        _RESULTS.format(mount),
        'mkdir "$1"/.hsm/results/lost+found',
        'ls -A "$1"/.hsm "$1"/.hsm/results',
    )
    assert name == ".hsm.1"
    assert left == [f"{paths.hsm_dir}:", "lock", "results", "", f"{paths.results}:", "lost+found"]
    assert _record(paths.sweep_dir / ".hsm.1") == before


@pytest.mark.skipif(not _has_namespaces(), reason="no mount namespaces")
@pytest.mark.parametrize(
    ("name", "mounts", "why"),
    [
        pytest.param(
            "journal.jsonl",
            ('mount --bind "$1"/.hsm/journal.jsonl{,}',),
            "is a mount",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "results",
            (_RESULTS.format("-t tmpfs tmpfs"), 'mount -o remount,ro "$1"/.hsm/results'),
            "is a mount that cannot be written",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "results",
            (
                'mv "$1" "$1".all; mkdir "$1"; mount -t tmpfs -o size=1m tmpfs "$1"',
                'cp -a "$1".all/. "$1"; mount -t tmpfs tmpfs "$1"/.hsm/results',
                'head -c 5000000 /dev/zero > "$1"/.hsm/results/0.pkl',
            ),
            "is a mount, and the sweep's own disk has no room for its 4.8 MiB",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_mount_that_is_in_the_way_is_named_before_anything_is_moved(
    paths: SweepPaths, name: str, mounts: tuple[str, ...], why: str
) -> None:
    message, *left = _in_a_namespace(paths, *mounts, 'ls -A "$1"')
    assert message == (
        f"cannot set aside the earlier sweep in {paths.sweep_dir}: {paths.hsm_dir / name} {why}; "
        "unmount it, or use another directory"
    )
    assert ".hsm.1" not in left


def test_a_move_that_fails_at_a_mount_is_undone(
    paths: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other file system becomes read-only in the middle of it."""
    before = _record(paths.hsm_dir)
    lock = LockFile(paths.lock)
    with monkeypatch.context() as patched:
        _cannot_rename(patched, paths.hsm_dir, paths.results, paths.results / "0.pkl")
        unlink = Path.unlink

        def refuse(path: Path, missing_ok: bool = False) -> None:
            if path == paths.results / "0.pkl":
                raise OSError(errno.EROFS, "Read-only file system", str(path))
            unlink(path, missing_ok=missing_ok)

        patched.setattr(Path, "unlink", refuse)
        with pytest.raises(HsmError, match=r"0\.pkl: Read-only file system"):
            set_aside(paths, lock)
        assert _record(paths.hsm_dir) == before
        assert not (paths.sweep_dir / ".hsm.1").exists()
    _check_set_aside(paths, before, set_aside(paths, lock))
    lock.release()
