from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from helpers.processes import SOURCE
from hsm.core.errors import SettingsError
from hsm.core.record import registry
from hsm.core.record.journal import Journal
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import (
    find_sweep,
    has_sweep,
    known_sweeps,
    register,
    registry_file,
)
from hsm.core.record.setting_aside import set_aside


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Of a user who has never started a sweep."""
    return tmp_path / "state"


def start(sweep_id: str, directory: Path | None = None) -> Path:
    """A sweep that was started; gives its directory."""
    directory = Path.cwd().parent / "sweeps" / sweep_id if directory is None else directory
    Journal(SweepPaths(directory), sweep_id, {}).close("finished")
    register(sweep_id, directory)
    return directory


def ids() -> list[str]:
    return [sweep.sweep_id for sweep in known_sweeps()]


def test_where_a_sweep_was_started_is_known(tmp_path: Path) -> None:
    directory = start("one")
    [sweep] = known_sweeps()
    assert sweep.cwd == Path.cwd()
    assert sweep.belongs_to(Path.cwd())
    assert sweep.belongs_to(directory.parent)
    assert not sweep.belongs_to(tmp_path / "other")


def test_what_an_older_hsm_wrote_is_still_read() -> None:
    directory = start("one")
    entry = {"sweep_id": "one", "dir": str(directory), "time": 1.5}
    registry_file().write_text(json.dumps(entry) + "\n")
    [sweep] = known_sweeps()
    assert (sweep.sweep_id, sweep.time, sweep.cwd) == ("one", 1.5, None)
    assert not sweep.belongs_to(Path.cwd())
    assert find_sweep("one").sweep_dir == directory


def test_a_compacted_list_still_knows_where_sweeps_were_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start("one")
    monkeypatch.setattr(registry, "_MAX_SIZE", 400)
    start("two")
    start("three")
    newest = next(known_sweeps())
    assert (newest.sweep_id, newest.cwd) == ("three", Path.cwd())


# --- the list
# -------------------------------------------------------------------------------------------------


def test_sweeps_are_listed_newest_first() -> None:
    directories = [start(name) for name in ("one", "two", "three")]
    sweeps = list(known_sweeps())
    assert [sweep.sweep_id for sweep in sweeps] == ["three", "two", "one"]
    assert [sweep.paths.sweep_dir for sweep in reversed(sweeps)] == directories
    assert sweeps[0].time >= sweeps[1].time >= sweeps[2].time


def test_nobody_has_started_a_sweep() -> None:
    assert ids() == []
    assert not registry_file().exists()


def test_a_sweep_that_is_resumed_is_the_newest_again_and_listed_once() -> None:
    directory = start("one")
    start("two")
    register("one", directory)
    assert ids() == ["one", "two"]


def test_only_the_last_sweep_of_a_directory_is_listed() -> None:
    directory = start("one")
    paths = SweepPaths(directory)
    lock = LockFile(paths.lock)
    set_aside(paths, lock)
    lock.release()
    start("two", directory)
    assert ids() == ["two"]
    assert has_sweep("two")
    assert not has_sweep("one")


@pytest.mark.parametrize("name", ["größer", 'a "b"', "back\\slash"])
def test_a_sweep_of_any_name_is_found_by_its_id(tmp_path: Path, name: str) -> None:
    directory = start(name, tmp_path / name / "s")
    start("other", tmp_path / "other" / name)
    assert find_sweep(name).sweep_dir == directory
    register("another", directory)
    assert not has_sweep(name)


def test_a_sweep_whose_directory_is_gone_is_not_listed() -> None:
    shutil.rmtree(start("one"))
    start("two")
    assert ids() == ["two"]


def test_a_relative_directory_is_remembered_as_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("one", Path("outputs/one"))
    monkeypatch.chdir(tmp_path)
    assert find_sweep("one").sweep_dir == tmp_path / "project" / "outputs" / "one"


def test_lines_that_are_no_entries_are_skipped() -> None:
    start("one")
    with registry_file().open("a") as file:
        file.write('[]\nnull\n{"sweep_id": 3, "dir": "/", "time": 1}\n{"sweep_id": "x"}\n\n{"sw')
    start("two")  # Does not weld onto the torn line.
    assert ids() == ["two", "one"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HSM_STATE_DIR": "/a", "XDG_STATE_HOME": "/b"}, "/a/sweeps.jsonl"),
        ({"XDG_STATE_HOME": "/b"}, "/b/hsm/sweeps.jsonl"),
        ({"XDG_STATE_HOME": "relative"}, "/home/me/.local/state/hsm/sweeps.jsonl"),
        ({"HSM_STATE_DIR": " "}, "/home/me/.local/state/hsm/sweeps.jsonl"),
        ({}, "/home/me/.local/state/hsm/sweeps.jsonl"),
    ],
)
def test_where_the_list_lies(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HSM_STATE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(name, value)
    assert registry_file() == Path(expected)


@pytest.mark.parametrize("place", ["/proc/hsm", "/dev/null", "/dev/full"])
def test_a_place_that_cannot_be_written_is_nobodys_failure(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSM_STATE_DIR", place)
    start("one")
    assert ids() == []
    assert find_sweep(str(tmp_path / "sweeps" / "one")).sweep_dir == tmp_path / "sweeps" / "one"


def test_a_full_disk_is_nobodys_failure(state_dir: Path) -> None:
    state_dir.mkdir()
    (state_dir / "sweeps.jsonl").symlink_to("/dev/full")
    start("one")


def test_many_writers_lose_nothing(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    program = (
        "import sys; from hsm.core.record.registry import register\n"
        "for n in range(100): register(f'{sys.argv[1]}-{n}', f'/nowhere/{sys.argv[1]}/{n}')"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(n)]) for n in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    lines = (state_dir / "sweeps.jsonl").read_text().splitlines()
    expected = {f"{writer}-{n}" for writer in range(4) for n in range(100)}
    assert {json.loads(line)["sweep_id"] for line in lines} == expected
    assert len(lines) == 400


def test_writers_that_compact_lose_nothing_that_is_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_MAX_SIZE", 4000)
    directory = start("kept")

    def write(name: str) -> None:
        for n in range(50):
            register(f"{name}-{n}", directory / name / str(n))
            register(name, directory)

    threads = [threading.Thread(target=write, args=(f"writer{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Only one directory is still there, and whoever wrote last has named it.
    assert len(ids()) == 1
    assert registry_file().stat().st_size < 4500


def test_a_long_list_keeps_what_is_there_and_drops_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = start("gone")
    for n in range(6):
        start(f"sweep-{n}")
    shutil.rmtree(gone)
    size = registry_file().stat().st_size
    monkeypatch.setattr(registry, "_MAX_SIZE", size)
    start("newest")  # Makes it too long; some half of it is kept.
    assert ids()[:3] == ["newest", "sweep-5", "sweep-4"]
    assert "sweep-0" not in ids()
    assert registry_file().stat().st_size <= size // 2
    assert "gone" not in registry_file().read_text()
    assert sorted(path.name for path in registry_file().parent.iterdir()) == [
        "sweeps.jsonl",
        "sweeps.lock",
    ]
    start("later")
    assert ids()[:2] == ["later", "newest"]


def test_a_writer_that_hangs_delays_others_only_briefly(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_TIMEOUT", 0.05)
    state_dir.mkdir()
    with (state_dir / "sweeps.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start("one")
    assert ids() == ["one"]


def test_a_child_that_is_forked_meanwhile_does_not_keep_the_lock(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the fork server of a sweep in another thread might be."""
    read_end, write_end = os.pipe()
    children: list[int] = []
    append = registry._append

    def fork_and_append(path: Path, line: bytes) -> int:
        children.append(os.fork())
        if children[-1] == 0:
            os.close(write_end)
            os.read(read_end, 1)  # until the parent closes its end
            os._exit(0)
        return append(path, line)

    monkeypatch.setattr(registry, "_append", fork_and_append)
    register("one", state_dir)
    with (state_dir / "sweeps.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Raises if the child still held it.
    os.close(write_end)
    os.close(read_end)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0


# --- finding
# -------------------------------------------------------------------------------------------------


def test_a_sweep_is_found_by_id_prefix_directory_and_as_the_last(tmp_path: Path) -> None:
    directory = start("train-1")
    start("fit-1")
    other = start("train-2")
    for name in ("train-1", str(directory), f"{directory}/", "../sweeps/train-1"):
        assert find_sweep(name).sweep_dir.resolve() == directory
    assert find_sweep("last").sweep_dir == other
    assert find_sweep("fit").sweep_dir == find_sweep("f").sweep_dir == tmp_path / "sweeps" / "fit-1"


def test_an_id_wins_over_ids_that_begin_with_it() -> None:
    directory = start("train")
    start("train-1")
    assert find_sweep("train").sweep_dir == directory


def test_the_last_sweep_that_is_still_there() -> None:
    directory = start("one")
    shutil.rmtree(start("two"))
    assert find_sweep("last").sweep_dir == directory


def test_a_sweep_that_is_not_in_the_list_is_found_by_its_directorys_name(tmp_path: Path) -> None:
    """Such as one that somebody else started, or where there is no home directory."""
    for place in (tmp_path / "outputs" / "mine", tmp_path / "project" / "ours"):
        Journal(SweepPaths(place), "x", {}).close("finished")
    assert find_sweep("mine", roots=[tmp_path / "outputs"]).sweep_dir == tmp_path / "outputs/mine"
    assert find_sweep("ours").sweep_dir == tmp_path / "project" / "ours"
    with pytest.raises(SettingsError, match="no sweep 'mine': there are none yet"):
        find_sweep("mine")


def test_a_beginning_that_fits_several_is_refused_with_their_names() -> None:
    for n in range(7):
        start(f"train-{n}")
    with pytest.raises(SettingsError) as caught:
        find_sweep("train", origin="SWEEP")
    assert str(caught.value) == (
        "7 sweeps match 'train': train-6, train-5, train-4, train-3, train-2, …"
    )


def test_of_several_sweeps_of_one_id_the_one_that_was_started_here_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = start("base", tmp_path / "scratch" / "base")
    monkeypatch.chdir(tmp_path)
    start("base", tmp_path / "other" / "base")
    monkeypatch.chdir(tmp_path / "project")
    assert find_sweep("base").sweep_dir == own


def test_of_several_sweeps_of_one_id_the_one_below_here_is_meant(tmp_path: Path) -> None:
    here = tmp_path / "project" / "outputs" / "base"
    start("base", here)
    start("base", tmp_path / "other" / "base")
    assert find_sweep("base").sweep_dir == here
    start("base", tmp_path / "project" / "again" / "base")
    with pytest.raises(
        SettingsError, match=r"3 sweeps match 'base': .*/again/base, .*/other/base, .*/outputs"
    ):
        find_sweep("base")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("trian-1", "did you mean train-1?"),
        ("zzzzzz", r"no sweep 'zzzzzz' \(newest: fit-1\); give an id, its start, a directory, or "),
        ("", "newest: fit-1"),
        ("./nowhere", "no sweep in .*/project/nowhere"),
        ("~/nowhere", "no sweep in .*/nowhere"),
        (".", "no sweep in .*/project"),
    ],
)
def test_an_unknown_sweep_is_one_line_with_the_near_one(name: str, hint: str) -> None:
    start("train-1")
    start("fit-1")
    with pytest.raises(SettingsError, match=hint) as caught:
        find_sweep(name)
    assert "\n" not in str(caught.value)


def test_there_is_no_last_sweep() -> None:
    with pytest.raises(SettingsError, match="no sweeps yet"):
        find_sweep("last")
