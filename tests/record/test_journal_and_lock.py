"""The launcher looks whether its journal and its lock are still the ones on disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import PATIENCE, RunningSweep, wait_for
from helpers.reliability import (
    Recorder,
    journal_events,
    points,
    side_lines,
    source,
    start_driver,
    write_driver,
)
from hsm.core.errors import HsmError
from hsm.core.local import LocalComputeSource
from hsm.core.record import journal_file
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal, JournalLost
from hsm.core.record.lock import Locked, LockFile, is_locked
from hsm.core.record.paths import SweepPaths
from hsm.core.record.replay import Replay
from hsm.core.record.resume import open_sweep
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough


def _append_a_line(paths: SweepPaths) -> None:
    with paths.journal.open("a") as file:
        file.write('{"event": "close", "reason": "somebody says so", "time": 1}\n')


def _edit_with_sed(paths: SweepPaths) -> None:
    subprocess.run(["sed", "-i", "s/submit/SUBMIT/", str(paths.journal)], check=True)


def _copy_backup_over(paths: SweepPaths) -> None:
    backup = paths.sweep_dir / "backup"
    backup.write_bytes(paths.journal.read_bytes().split(b"\n")[0] + b"\n")
    shutil.copyfile(backup, paths.journal)  # the same inode


def _move_backup_over(paths: SweepPaths) -> None:
    backup = paths.sweep_dir / "backup"
    shutil.copyfile(paths.journal, backup)
    with backup.open("a") as file:
        file.write("{}\n")
    backup.replace(paths.journal)


def _truncate(paths: SweepPaths) -> None:
    os.truncate(paths.journal, 0)


def _cut(paths: SweepPaths) -> None:
    os.truncate(paths.journal, paths.journal.stat().st_size - 5)


def _remove(paths: SweepPaths) -> None:
    paths.journal.unlink()


def _remove_all(paths: SweepPaths) -> None:
    gone = paths.hsm_dir.with_name("gone")
    paths.hsm_dir.rename(gone)  # in one step: a launcher may be about to write it anew
    shutil.rmtree(gone)


def _put_link(paths: SweepPaths) -> None:
    stranger = paths.sweep_dir / "stranger"
    stranger.write_text("a stranger's\n")
    paths.journal.unlink()
    paths.journal.symlink_to(stranger)


def _put_folder(paths: SweepPaths) -> None:
    paths.journal.unlink()
    paths.journal.mkdir()


def _put_pipe(paths: SweepPaths) -> None:
    paths.journal.unlink()
    os.mkfifo(paths.journal)


_CHANGES = (
    *(_append_a_line, _edit_with_sed, _copy_backup_over, _move_backup_over, _truncate, _cut),
    *(_remove, _remove_all, _put_link, _put_folder, _put_pipe),
)


@pytest.fixture(autouse=True)
def checks_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record is preceded by a check, however little time has passed."""
    monkeypatch.setattr(journal_file, "_CHECKED_FOR", 0.0)


def _run(paths: SweepPaths, job: Job, journal: Journal) -> None:
    job.start(1.0, 7)
    journal.start(job)
    job.end(2.0, Ending(JobState.COMPLETED, exit_code=0, value=job.num))
    journal.end(job)


@pytest.mark.parametrize("change", _CHANGES)
def test_a_journal_that_somebody_changes_is_written_anew(
    tmp_path: Path, change: Callable[[SweepPaths], None]
) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    notices: list[str] = []
    journal = Journal(paths, "s", {})
    journal.tell_to(notices.append)
    jobs = [Job(num, f"s_{num}", "", {"x": num}) for num in range(3)]
    journal.submit(jobs)
    _run(paths, jobs[0], journal)
    change(paths)
    is_there = os.path.lexists(paths.journal)
    found = paths.journal.read_bytes() if paths.journal.is_file() else None
    _run(paths, jobs[1], journal)
    _run(paths, jobs[2], journal)
    journal.close("finished")

    sweep = read_sweep(paths.sweep_dir)
    assert sweep.problems == []
    assert [(job.state, job.value) for job in sweep.jobs.values()] == [
        (JobState.COMPLETED, num) for num in range(3)
    ]
    assert sweep.closed == "finished"
    about_journal = [text for text in notices if "journal.jsonl" in text]
    assert len(about_journal) == 1, notices  # one line, once
    aside = sorted(paths.hsm_dir.glob("journal.replaced-*"))
    assert len(aside) == is_there  # Nothing that somebody made is destroyed.
    if found is not None:
        assert aside[0].read_bytes() == found
    if change is _put_link:
        assert (paths.sweep_dir / "stranger").read_text() == "a stranger's\n"


@pytest.mark.parametrize("change", _CHANGES)
def test_what_is_recorded_before_the_next_check_is_not_lost(
    tmp_path: Path, change: Callable[[SweepPaths], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    journal = Journal(paths, "s", {})
    journal.tell_to(lambda notice: None)
    jobs = [Job(num, f"s_{num}", "", {"x": num}) for num in range(2)]
    journal.submit(jobs)
    monkeypatch.setattr(journal_file, "_CHECKED_FOR", 1e9)
    _run(paths, jobs[0], journal)
    change(paths)
    _run(paths, jobs[1], journal)
    journal.close("finished")
    sweep = read_sweep(paths.sweep_dir)
    assert (sweep.problems, sweep.closed) == ([], "finished")
    assert [job.value for job in sweep.jobs.values()] == [0, 1]


def test_another_file_with_the_same_content_is_taken_without_a_word(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    notices: list[str] = []
    journal = Journal(paths, "s", {})
    journal.tell_to(notices.append)
    shutil.copyfile(paths.journal, tmp_path / "copy")
    (tmp_path / "copy").replace(paths.journal)
    journal.submit([Job(0, "s_0")])
    journal.close("finished")
    assert notices == []
    assert list(read_sweep(paths.sweep_dir).jobs) == [0]
    assert not list(paths.hsm_dir.glob("journal.replaced-*"))


def test_a_resumed_journal_is_written_anew_with_what_earlier_launchers_wrote(
    tmp_path: Path,
) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    first = Journal(paths, "s", {})
    first.submit([Job(0, "s_0")])
    first.close("finished")
    second = Journal(paths, "s", {})
    second.resume([])
    before = paths.journal.read_bytes()
    os.truncate(paths.journal, 0)
    second.submit([Job(1, "s_1")])
    second.close("finished")
    assert paths.journal.read_bytes().startswith(before)


@pytest.mark.parametrize("how", ["unlink", "rename"])
def test_a_lock_that_was_removed_is_taken_again(tmp_path: Path, how: str) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    notices: list[str] = []
    journal = Journal(paths, "s", {})
    journal.tell_to(notices.append)
    if how == "unlink":
        paths.lock.unlink()
    else:
        (paths.hsm_dir / "other").write_text("")
        (paths.hsm_dir / "other").rename(paths.lock)
    assert not is_locked(paths.lock)
    journal.look()
    assert is_locked(paths.lock)
    assert len(notices) == 1
    with pytest.raises(Locked):
        LockFile(paths.lock)
    journal.close("finished")
    LockFile(paths.lock).release()


_HOLDER = """
import sys, time
from pathlib import Path
from hsm.core.record.lock import LockFile
lock = LockFile(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def _held_by_another(path: Path) -> Iterator[int]:
    """Another process holds the lock at `path`, on a file of its own; gives its pid."""
    own = path.with_name("own")
    command = [sys.executable, "-c", _HOLDER, str(own)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        own.replace(path)
        yield other.pid
        other.communicate()


def test_a_journal_that_another_launcher_has_taken_over_is_left_to_it(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    lost: list[str] = []
    journal = Journal(paths, "s", {})
    journal.tell_to(on_lost=lost.append)
    with _held_by_another(paths.lock) as pid:
        before = paths.journal.read_bytes()
        for _ in range(2):
            with pytest.raises(JournalLost, match=f"taken over by process {pid}"):
                journal.submit([Job(0, "s_0")])
        journal.close("finished")
        assert paths.journal.read_bytes() == before
        assert len(lost) == 1
        assert is_locked(paths.lock)


def test_a_journal_that_cannot_be_written_anew_ends_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    lost: list[str] = []
    journal = Journal(paths, "s", {})
    journal.tell_to(on_lost=lost.append)
    os.truncate(paths.journal, 0)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(JournalLost, match="Permission denied"):
        journal.submit([Job(0, "s_0")])
    journal.close("finished")
    assert len(lost) == 1
    names = sorted(path.name for path in paths.hsm_dir.glob("*journal*"))
    assert names == ["journal.jsonl", "journal.replaced-1.jsonl"]


def test_a_full_disk_only_puts_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    journal = Journal(paths, "s", {})
    job = Job(0, "s_0")
    journal.submit([job])
    os.truncate(paths.journal, 0)
    write, is_full = os.write, True

    def write_with_no_room(fd: int, data: bytes) -> int:
        if is_full:
            raise OSError(28, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", write_with_no_room)
    job.start(1.0, 7)
    with pytest.raises(OSError, match="No space left"):
        journal.start(job)
    is_full = False
    job.end(2.0, Ending(JobState.COMPLETED, exit_code=0))
    journal.end(job)
    journal.close("finished")
    assert read_sweep(paths.sweep_dir).jobs[0].state is JobState.COMPLETED


def test_many_records_are_restored_although_the_disk_was_full_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    journal = Journal(paths, "s", {})
    count = 1000  # more than what is written to the journal's copy at once
    for number in range(count):
        journal.append("note", number=number, text="x" * 100)
    whole = paths.journal.read_bytes()
    os.truncate(paths.journal, 100)
    write = os.write

    def write_a_part(fd: int, data: bytes) -> int:
        if len(data) == 1:
            raise OSError(28, "No space left on device")
        return write(fd, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", write_a_part)
    with pytest.raises(OSError, match="No space left"):
        journal.append("note", number=count)
    monkeypatch.undo()
    journal.append("note", number=count)
    journal.close("finished")
    restored = paths.journal.read_bytes()
    assert restored.startswith(whole)
    numbers = [json.loads(line).get("number") for line in restored.splitlines()]
    assert numbers == [None, *range(count + 1), None]


# --- a launcher
# -------------------------------------------------------------------------------------------------

_STEPS = """
    def job(params):
        side(params)
        note(f"began-{params['x']}")
        wait_for(f"go-{params['x']}")
        return params["x"]

    if __name__ == "__main__":
        from hsm.core.engine.foreground import run_to_end
        from hsm.display import make_display
        from hsm.core.program.program import find_program
        from hsm.core.record.paths import SweepPaths
        made = source()
        display = make_display("plain", show_output=False, paths=SweepPaths("sweep"),
                               running=made.running, title="s")
        points = [{"x": x} for x in range(int(sys.argv[2]))]
        program = find_program(job, None, None, None)
        feed = made.feed_jobs(points, "s", "sweep", program, resume="r" in sys.argv)
        interruption = run_to_end(made, feed, display)
        if interruption is not None:
            print("END", interruption.headline, flush=True)
            sys.exit(interruption.exit_code)
        print("END", *[str(state) for state in made.wait(feed.job_ids).values()], flush=True)
"""


def _screen(running: RunningSweep) -> str:
    return (running.folder / "screen.out").read_text() + (running.folder / "screen.err").read_text()


@pytest.mark.parametrize("change", [_edit_with_sed, _copy_backup_over, _remove_all])
def test_a_sweep_whose_journal_is_changed_is_recorded_as_it_was(
    tmp_path: Path, change: Callable[[SweepPaths], None]
) -> None:
    write_driver(tmp_path, _STEPS)
    with start_driver(tmp_path, {"max_parallel_jobs": 1}, "4") as running:
        paths = SweepPaths(running.sweep_dir)
        for num in range(4):
            running.wait_for_files(f"began-{num}")
            if num == 2:
                running.wait_until_running(num)  # Nothing is written while it is changed.
                change(paths)
            running.touch(f"go-{num}")
        assert running.process.wait(PATIENCE) == 0, _screen(running)
    assert "END COMPLETED COMPLETED COMPLETED COMPLETED" in _screen(running)
    assert _screen(running).count("was changed from outside") == 1
    sweep = read_sweep(paths.sweep_dir)
    assert [str(job.state) for job in sweep.jobs.values()] == ["COMPLETED"] * 4
    assert sweep.closed == "finished"
    with start_driver(tmp_path, {"max_parallel_jobs": 1}, "4", "r") as again:
        assert again.process.wait(PATIENCE) == 0, _screen(again)
    assert len(side_lines(tmp_path)) == 4  # Nothing ran again.


@pytest.mark.parametrize("change", [_remove, _truncate, _edit_with_sed, _move_backup_over])
def test_what_is_changed_as_a_resume_begins_is_not_lost(
    tmp_path: Path, change: Callable[[SweepPaths], None]
) -> None:
    """Between the moment in which the record was read and the first line that is written to it."""
    paths = SweepPaths(tmp_path)
    with source() as first:
        first.submit_jobs(points(1, 2), "s", tmp_path, command=["true"])
    before = paths.journal.read_bytes()
    lock, resumption = open_sweep(paths, "unfinished", {}, {}, accept_changes=True)
    change(paths)
    journal = Journal(paths, "s", {}, lock=lock, file=resumption.journal_file)
    journal.resume([])
    journal.close("finished")
    assert paths.journal.read_bytes().startswith(before)
    sweep = read_sweep(tmp_path)
    assert [str(job.state) for job in sweep.jobs.values()] == ["COMPLETED"] * 2
    assert sweep.problems == []


def _has_begun_a_job(sweep_dir: Path) -> bool:
    return any(event["event"] == "start" for event in journal_events(sweep_dir))


def test_what_is_changed_while_nothing_is_recorded_is_seen_too(tmp_path: Path) -> None:
    write_driver(tmp_path, _STEPS)
    with start_driver(tmp_path, {"max_parallel_jobs": 1}, "1") as running:
        running.wait_for_files("began-0")
        paths = SweepPaths(running.sweep_dir)
        wait_for(lambda: _has_begun_a_job(running.sweep_dir), "the start")
        before = paths.journal.read_bytes()
        shutil.rmtree(paths.hsm_dir)
        wait_for(lambda: is_locked(paths.lock), "the lock to be taken again")
        wait_for(paths.journal.exists, "the journal to be written anew")
        assert paths.journal.read_bytes() == before
        running.touch("go-0")
        assert running.process.wait(PATIENCE) == 0


def test_two_launchers_never_work_side_by_side(tmp_path: Path) -> None:
    """The lock is removed, and a second launcher resumes the sweep: the first one ends."""
    write_driver(tmp_path, _STEPS)
    with start_driver(tmp_path, {"max_parallel_jobs": 1}, "3") as first:
        first.wait_for_files("began-0")
        first.touch("go-0")
        first.wait_until_ended(0)
        first.wait_for_files("began-1")
        first.wait_until_running(1)  # From here on, it writes nothing by itself.
        paths = SweepPaths(first.sweep_dir)
        with _held_by_another(paths.lock) as pid:
            before = paths.journal.read_bytes()
            assert first.process.wait(PATIENCE) == 1
            first.assert_all_gone(PATIENCE)
            assert f"Stopped: {paths.sweep_dir} was taken over by process {pid}" in _screen(first)
            assert paths.journal.read_bytes() == before  # It is the other one's.
    assert not (tmp_path / "began-2").exists()
    with start_driver(tmp_path, {"max_parallel_jobs": 1}, "3", "r") as second:
        second.touch("go-1")
        second.touch("go-2")
        assert second.process.wait(PATIENCE) == 0, _screen(second)
    assert [line["x"] for line in side_lines(tmp_path)] == [0, 1, 1, 2]


def test_a_source_that_is_overtaken_starts_nothing_more_and_says_so(tmp_path: Path) -> None:
    recorder = Recorder()
    with source(recorder, max_parallel_jobs=1) as made:
        ids = made.submit_jobs(points(1), "s", tmp_path / "sweep", command=["true"])
        made.wait(ids)
        paths = SweepPaths(tmp_path / "sweep")
        with _held_by_another(paths.lock):
            with pytest.raises(HsmError, match=r"taken over|takes no more jobs"):
                made.submit_jobs(points(2), "s", tmp_path / "sweep", command=["true"])
            assert any("taken over" in text for text in recorder.messages)
            made.close()
    assert len(journal_events(tmp_path / "sweep")) == 4


def test_a_source_without_a_display_logs_what_happened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with source() as made:
        assert isinstance(made, LocalComputeSource)
        made.wait(made.submit_jobs(points(1), "s", tmp_path / "sweep", command=["true"]))
        os.truncate(tmp_path / "sweep" / ".hsm" / "journal.jsonl", 0)
        made.wait(made.submit_jobs(points(2), "s", tmp_path / "sweep", command=["true"]))
    assert "was changed from outside" in caplog.text
    assert len(read_sweep(tmp_path / "sweep").jobs) == 2


@pytest.mark.parametrize("change", [_truncate, _remove, _move_backup_over])
def test_whoever_watches_sees_the_journal_that_is_there(
    tmp_path: Path, change: Callable[[SweepPaths], None]
) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    journal = Journal(paths, "s", {})
    jobs = [Job(num, f"s_{num}") for num in range(2)]
    journal.submit(jobs)
    _run(paths, jobs[0], journal)
    with Replay(paths) as replay:
        told = replay.advance()
        assert [record["event"] for record in told] == ["submit", "start", "end"]
        change(paths)
        replay.advance()  # Whatever is there meanwhile, it is no error.
        _run(paths, jobs[1], journal)
        events = [(record["event"], record.get("job")) for record in replay.advance()]
        assert events[-2:] == [("start", 1), ("end", 1)]
        states = [str(job.state) for job in replay.sweep.jobs.values()]
        assert states == ["COMPLETED", "COMPLETED"]
        journal.close("finished")
        replay.advance()
        assert replay.is_over
