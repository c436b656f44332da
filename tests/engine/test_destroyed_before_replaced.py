"""Nothing that exists goes before what replaces it is there."""

from __future__ import annotations

import atexit
import errno
import json
import os
import pickle
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import PATIENCE, wait_for
from helpers.reliability import points, side_lines, source, start_driver, write_driver
from hsm.core.engine import kept_reports
from hsm.core.engine.kept_reports import ResultLost
from hsm.core.program import reports
from hsm.core.program.reports import Outcome
from hsm.core.record import registry, resume
from hsm.core.record.job import Ending, Job, JobFailed, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.journal_header import JournalError
from hsm.core.record.paths import SweepPaths
from hsm.core.record.resume import SweepChanged, open_sweep, save_files
from hsm.core.record.sweep import read_sweep
from hsm.core.results.results_table import Results
from hsm.core.user_files import replacing

pytestmark = pytest.mark.thorough

# --- what jobs returned
# -------------------------------------------------------------------------------------------------

_RERUN = """
    def job(params):
        side(params)
        if "wait" in sys.argv:
            note(f"began-{params['x']}")
            wait_for("go")
        return {"set", params["x"], *sys.argv[2:]}  # JSON has no sets: only the file holds it

    if __name__ == "__main__":
        with source(max_parallel_jobs=1) as made:
            points = [{"x": x} for x in range(3)]
            resume = "first" not in sys.argv
            ids = made.submit_jobs(points, "s", "sweep", function=job, resume=resume)
            note("submitted")
            made.wait()
            note("values", sorted(map(str, made.result(ids[2]))))
"""


def _run(folder: Path, *words: str, **settings: Any) -> None:
    with start_driver(folder, settings, *words) as running:
        assert running.process.wait(PATIENCE) == 0, (folder / "screen.err").read_text()


def test_a_rerun_that_is_interrupted_keeps_what_it_did_not_replace(tmp_path: Path) -> None:
    write_driver(tmp_path, _RERUN)
    _run(tmp_path, "first")
    results = SweepPaths(tmp_path / "sweep").results
    before = {path.name: path.read_bytes() for path in results.iterdir()}
    with start_driver(tmp_path, {"rerun": "all"}, "wait") as running:
        running.wait_for_files("began-0")
        # A job that the journal does not say has started keeps its earlier end.
        wait_for(
            lambda: str(read_sweep(tmp_path / "sweep").jobs[0].state) == "RUNNING", "its start"
        )
        assert {path.name: path.read_bytes() for path in results.iterdir()} == before
        running.process.send_signal(signal.SIGKILL)
        running.assert_all_gone(PATIENCE)
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before
    jobs = read_sweep(tmp_path / "sweep").jobs
    assert [str(jobs[num].state) for num in range(3)] == ["CANCELLED", "COMPLETED", "COMPLETED"]
    _run(tmp_path, "again")
    assert [line["x"] for line in side_lines(tmp_path)] == [0, 1, 2, 0, 0]
    assert (tmp_path / "values").read_text() == "['2', 'first', 'set']"
    assert sorted(path.name for path in results.iterdir()) == ["0.pkl", "1.pkl", "2.pkl"]


def _job(*endings: Ending) -> Job:
    """Job 0 after attempts that ended so."""
    job = Job(0, "s_0")
    for ending in endings:
        if job.state.is_final:
            job.requeue()
        job.start(1.0, 1)
        job.end(2.0, ending)
    return job


_COMPLETED = Ending(JobState.COMPLETED, exit_code=0)


def _report(paths: SweepPaths, attempt: int, value: object) -> None:
    reports.write(str(paths.attempt_result(0, attempt)), Outcome(value), attempt)


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    return paths


def test_whenever_the_launcher_dies_the_record_has_the_value_of_the_attempt_it_shows(
    paths: SweepPaths,
) -> None:
    once, twice = _job(_COMPLETED), _job(_COMPLETED, _COMPLETED)
    _report(paths, 1, {1})
    assert kept_reports.read_value(paths, once) == {1}  # Recorded, and not renamed yet.
    kept_reports.keep(paths, once)
    assert kept_reports.read_value(paths, once) == {1}
    _report(paths, 2, {2})
    assert kept_reports.read_value(paths, once) == {1}  # Reported, and not recorded yet.
    assert kept_reports.read_value(paths, twice) == {2}
    kept_reports.keep(paths, twice)
    assert kept_reports.read_value(paths, twice) == {2}
    assert os.listdir(paths.results) == ["0.pkl"]
    with paths.result(0).open("rb") as file:
        assert pickle.load(file) == {2}  # As documented.


def test_no_attempt_has_the_report_of_an_earlier_one(paths: SweepPaths) -> None:
    _report(paths, 1, {1})
    kept_reports.keep(paths, _job(_COMPLETED))
    crashed = _job(_COMPLETED, Ending(JobState.FAILED, signal="SIGSEGV"))
    assert kept_reports.read(paths, crashed) is None
    lost = _job(_COMPLETED, _COMPLETED)  # A power cut took its file.
    with pytest.raises(ResultLost, match="job 0: the return value is lost"):
        kept_reports.read_value(paths, lost)
    never_started = Job(0, "s_0")
    assert kept_reports.read(paths, never_started) is None


def test_a_report_of_an_older_hsm_is_read(paths: SweepPaths) -> None:
    reports.write(str(paths.result(0)), Outcome({1}))
    assert kept_reports.read_value(paths, _job(_COMPLETED)) == {1}
    failed = Ending(JobState.FAILED, error_type="ValueError", error_message="no")
    assert kept_reports.read(paths, _job(_COMPLETED, failed)) is None


def test_a_number_that_comes_again_finds_nothing_in_its_place(paths: SweepPaths) -> None:
    """A backup of the journal was restored: attempt 1 is not on record, its report is there."""
    _report(paths, 1, {1})
    kept_reports.make_room(paths.attempt_result(0, 1))
    assert not paths.attempt_result(0, 1).exists()


def _dies_the_second_time(params: dict[str, Any]) -> Any:
    if os.environ["HSM_ATTEMPT"] != "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return {params["x"]}


def test_a_rerun_that_crashes_is_failed_and_has_no_old_report(tmp_path: Path) -> None:
    with source() as made:
        made.wait(made.submit_jobs(points(1), "s", tmp_path / "s", function=_dies_the_second_time))
    with source(rerun="all") as made:
        (job_id,) = made.submit_jobs(
            points(1), "s", tmp_path / "s", function=_dies_the_second_time, resume=True
        )
        with pytest.raises(JobFailed, match="SIGKILL"):
            made.result(job_id)
        assert made.report(job_id) is None
    with (tmp_path / "s" / ".hsm" / "results" / "0.pkl").open("rb") as file:
        assert pickle.load(file) == {1}  # Nothing has replaced it.


def _attempt(params: dict[str, Any]) -> Any:
    return {int(os.environ["HSM_ATTEMPT"])}


def test_a_report_that_is_removed_at_once_is_known_all_the_same(tmp_path: Path) -> None:
    """Somebody removes all results just when a job has written its own: its value is on record."""

    def job(params: dict[str, Any]) -> int:
        results = SweepPaths(tmp_path).results
        atexit.register(shutil.rmtree, results)
        return 10 * int(params["x"])

    with source(max_parallel_jobs=1, start_method="fork") as made:
        ids = made.submit_jobs(points(1, 2), "s", tmp_path, function=job)
        made.wait()
        assert [made.job(job_id).ending() for job_id in ids] == ["completed"] * 2
    assert [job.value for job in read_sweep(tmp_path).jobs.values()] == [10, 20]


def test_an_end_that_cannot_be_recorded_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source() as made:
        made.wait(made.submit_jobs(points(1), "s", tmp_path / "s", function=_attempt))
    with monkeypatch.context() as patched, source(rerun="all") as made:

        def refuse(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(Journal, "start", refuse)
        patched.setattr(Journal, "end", refuse)
        (job_id,) = made.submit_jobs(points(1), "s", tmp_path / "s", function=_attempt, resume=True)
        assert made.result(job_id) == {2}
    with source() as made:
        (job_id,) = made.submit_jobs(points(1), "s", tmp_path / "s", function=_attempt, resume=True)
        assert made.result(job_id) == {1}  # That of the attempt which the record shows.


# --- what a sweep was launched with
# -------------------------------------------------------------------------------------------------


def _changed_sweep(paths: SweepPaths) -> None:
    journal = Journal(paths, "s", {})
    save_files(paths, {"app.py": "old"})
    journal.close("finished")


def test_the_texts_of_a_sweep_are_replaced_in_one_step(paths: SweepPaths) -> None:
    _changed_sweep(paths)
    with pytest.raises(SweepChanged):
        open_sweep(paths, "unfinished", {"app.py": "new"}, {}, accept_changes=False)
    lock, _ = open_sweep(paths, "unfinished", {"app.py": "new"}, {}, accept_changes=True)
    lock.release()
    assert json.loads(paths.launched.read_text()) == {"files": {"app.py": "new"}}


def test_a_resume_that_cannot_write_the_new_texts_leaves_the_old_ones(
    paths: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    _changed_sweep(paths)

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(paths.launched))

    monkeypatch.setattr(resume, "replace_below", refuse)
    with pytest.raises(JournalError, match="No space left"):
        open_sweep(paths, "unfinished", {"app.py": "new"}, {}, accept_changes=True)
    assert json.loads(paths.launched.read_text()) == {"files": {"app.py": "old"}}


# --- files that people name
# -------------------------------------------------------------------------------------------------


_WRITE_TABLE = """
import sys
from hsm.core.results.results_table import Results
Results([{{"x": "y" * {size}}}], ["x"], sweep_id="s", paths=None).to_csv(sys.argv[1])
"""


def _table(size: int) -> Results:
    return Results([{"x": "y" * size}], ["x"], sweep_id="s", paths=SweepPaths("s"))


def test_a_table_that_the_disk_has_no_room_for_leaves_the_earlier_one(tmp_path: Path) -> None:
    code = _WRITE_TABLE.format(size=100_000)
    (tmp_path / "real").mkdir()
    table = tmp_path / "real" / "table.csv"
    table.write_text("earlier")
    (tmp_path / "link.csv").symlink_to(table)
    (tmp_path / "one.csv").write_text("earlier")
    os.link(tmp_path / "one.csv", tmp_path / "other.csv")
    for name in ("real/table.csv", "link.csv", "real/new.csv"):
        ended = subprocess.run(
            [sys.executable, "-c", code, name],
            cwd=tmp_path,
            capture_output=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        )
        assert b"File too large" in ended.stderr
    assert table.read_text() == "earlier"
    assert (tmp_path / "one.csv").read_text() == "earlier"
    assert os.listdir(tmp_path / "real") == ["table.csv"]


def test_a_file_that_is_replaced_keeps_its_mode_and_the_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    table = tmp_path / "real" / "table.csv"
    table.write_text("a much longer earlier table")
    table.chmod(0o640)
    link = tmp_path / "link.csv"
    link.symlink_to("real/table.csv")
    _table(3).to_csv(link)
    assert link.is_symlink()
    assert table.read_text() == "x\nyyy\n"
    assert stat.S_IMODE(table.stat().st_mode) == 0o640
    assert os.listdir(tmp_path / "real") == ["table.csv"]


def test_a_new_file_has_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        _table(3).to_csv(tmp_path / "new.csv")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new.csv").stat().st_mode) == 0o640


def test_a_file_with_two_names_keeps_both(tmp_path: Path) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("a much longer earlier table")
    os.link(first, second)
    _table(3).to_csv(first)
    assert first.read_text() == second.read_text() == "x\nyyy\n"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    _table(3).to_csv(pipe)
    reader.join(PATIENCE)
    assert found == ["x\nyyy\n"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_stdout_by_its_name_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    code = _WRITE_TABLE.format(size=3)
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code, "/dev/stdout"], stdout=out, check=True)
        assert os.path.samestat(os.fstat(out.fileno()), os.stat(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "x\nyyy\n"


def test_a_block_that_fails_changes_nothing(project_dir: Path) -> None:
    path = project_dir / "file"
    path.write_text("earlier")

    def write() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write()
    assert path.read_text() == "earlier"
    assert os.listdir(project_dir) == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="root can become somebody else")
def test_what_the_directory_does_not_take_is_written_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    (folder / "table").write_text("a much longer earlier table")
    (folder / "table").chmod(0o666)
    (folder / "fixed").write_text("earlier")
    (folder / "fixed").chmod(0o444)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.chdir(folder)
            os.setuid(65534)
            with replacing("table") as file:
                file.write(b"new")
            try:
                with replacing("fixed") as file:
                    file.write(b"new")
            except PermissionError:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (folder / "table").read_text() == "new"
    assert (folder / "fixed").read_text() == "earlier"


def test_a_list_of_sweeps_that_cannot_be_read_is_not_shortened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSM_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(registry, "_MAX_SIZE", 10)
    registry.register("a", tmp_path / "a")
    before = (tmp_path / "sweeps.jsonl").read_bytes()

    def refuse(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(registry, "open_linked", refuse)
    registry.register("b", tmp_path / "b")
    after = (tmp_path / "sweeps.jsonl").read_bytes()
    assert after.startswith(before)
    assert b'"b"' in after
