"""A journal read as it grows tells the same as one that is read at its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.journal_header import JournalError
from hsm.core.record.paths import SweepPaths
from hsm.core.record.replay import Replay
from hsm.core.record.sweep import read_sweep


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    return SweepPaths(tmp_path / "sweep")


def _states(replay: Replay) -> list[str]:
    return [str(job.state) for job in replay.sweep.jobs.values()]


def _is_over(replay: Replay) -> bool:
    return replay.is_over


def test_each_call_tells_what_is_new(paths: SweepPaths) -> None:
    journal = Journal(paths, "s", {})
    jobs = [Job(num, f"s_{num}") for num in range(2)]
    with Replay(paths) as replay:
        assert replay.advance() == []
        journal.submit(jobs)
        assert [record["event"] for record in replay.advance()] == ["submit"]
        assert _states(replay) == ["PENDING", "PENDING"]
        assert replay.advance() == []
        jobs[0].start(1.0, 7)
        journal.start(jobs[0])
        jobs[0].end(2.0, Ending(JobState.COMPLETED, exit_code=0))
        journal.end(jobs[0])
        assert [(r["event"], r["job"]) for r in replay.advance()] == [("start", 0), ("end", 0)]
        assert _states(replay) == ["COMPLETED", "PENDING"]
        assert not _is_over(replay)
        journal.close("finished")
        replay.advance()
        assert _is_over(replay)
        assert replay.sweep.jobs == read_sweep(paths.sweep_dir).jobs


def test_a_line_that_is_half_written_waits_for_its_end(paths: SweepPaths) -> None:
    Journal(paths, "s", {}).close("finished")
    line = json.dumps(
        {"event": "submit", "jobs": [{"job": 0, "id": "s_0", "label": "", "params": {}}]}
    )
    with Replay(paths) as replay, paths.journal.open("a") as file:
        replay.advance()
        file.write(line[:30])
        file.flush()
        assert replay.advance() == []
        file.write(line[30:] + "\n")
        file.flush()
        assert len(replay.advance()) == 1
        assert replay.sweep.problems == []


def test_any_cut_of_a_journal_into_pieces_gives_the_same_sweep(
    paths: SweepPaths, tmp_path: Path
) -> None:
    data = (Path(__file__).parents[1] / "data" / "journal_v1.jsonl").read_bytes()
    paths.create()
    paths.journal.write_bytes(data)
    whole = read_sweep(paths.sweep_dir)
    for size in (7, 100, 1000):
        other = SweepPaths(tmp_path / str(size))
        other.create()
        first = data.index(b"\n") + 1
        other.journal.write_bytes(data[:first])
        with Replay(other) as replay, other.journal.open("ab", buffering=0) as file:
            for start in range(first, len(data), size):
                file.write(data[start : start + size])
                # What a launcher that is gone has left behind has ended; and may start again.
                replay.advance()
            assert replay.sweep.closed == whole.closed
            assert replay.sweep.jobs.keys() == whole.jobs.keys()


def test_a_launcher_that_dies_leaves_cancelled_jobs(paths: SweepPaths) -> None:
    journal = Journal(paths, "s", {})
    journal.submit([Job(0, "s_0")])
    with Replay(paths) as replay:
        replay.advance()
        assert not _is_over(replay)
        journal._lock.release()  # what the kernel does for a process that was killed
        replay.advance()
        assert _is_over(replay)
        assert replay.sweep.closed is None
        assert _states(replay) == ["CANCELLED"]


def test_damaged_lines_are_counted_from_the_top(paths: SweepPaths) -> None:
    Journal(paths, "s", {}).close("finished")
    with paths.journal.open("a") as file:
        file.write("{\n\n")
    with Replay(paths) as replay:
        replay.advance()
        assert [problem.split(":")[0] for problem in replay.sweep.problems] == ["line 3", "line 4"]
        assert len(read_sweep(paths.sweep_dir).problems) == 2


@pytest.mark.parametrize("text", ["", "{}\n", '{"v": 99, "sweep_id": "s"}\n', "x\n"])
def test_a_journal_that_cannot_be_read(paths: SweepPaths, text: str) -> None:
    with pytest.raises(JournalError):
        Replay(paths)
    paths.create()
    paths.journal.write_text(text)
    with pytest.raises(JournalError):
        Replay(paths)
