"""Lines that are as hsm writes them are read without parsing, and mean what parsing them means."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from hsm import read_sweep
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.job_table import JobTable
from hsm.core.record.journal import Journal
from hsm.core.record.journal_header import open_journal
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import Sweep, begin
from hsm.display.counts import Counts

DATA = Path(__file__).parents[1] / "data"


def written(
    sweep_dir: Path, jobs: int = 30, sweep_id: str = "s", *, has_gpus: bool = False
) -> list[bytes]:
    """The lines of a journal that hsm has written, of which some are unusual."""
    journal = Journal(SweepPaths(sweep_dir), sweep_id, {})
    kinds: list[dict[str, Any]] = [
        {},
        {"value": 0.25, "job_dir": "/a/b"},
        {"value": {"loss": 1e-05, "name": "x", "ok": True, "none": None}},
        {"value": [1, 2]},
        {"value": "größe"},
        {"exit_code": 3, "state": JobState.FAILED},
        {"exit_code": None, "signal": "SIGKILL", "state": JobState.FAILED},
        {"reason": 'a "quoted" one', "state": JobState.TIMEOUT},
    ]
    on_gpus: list[dict[str, Any]] = [
        {},
        {"gpu_memory": 5 << 30, "gpu_load": 97.5},
        {"gpu_memory": 0},
        {"gpu_load": 100.0, "value": 0.25, "job_dir": "/a/b"},
    ]
    made = [
        Job(num, f"{sweep_id}_{num}", f"x={num}", {"x": num, "s": "a b", "f": 1e-7, "n": None})
        for num in range(jobs)
    ]
    journal.submit(made)
    for job in made[: jobs - 3]:
        facts = {"exit_code": 0, "state": JobState.COMPLETED, **kinds[job.num % len(kinds)]}
        attempt = job.start(1000.5 + job.num, 100 + job.num)
        if has_gpus:
            facts = {"exit_code": 0, "state": JobState.COMPLETED, **on_gpus[job.num % 4]}
            attempt.slot, attempt.waited = job.num % 3, job.num / 8
            gpus: list[list[int | str]] = [[0], [10, 11], ["MIG-größe"], ["0", 1]]
            attempt.gpus = gpus[job.num % 4]
        journal.start(job)
        if job.num == jobs - 4:
            break
        job.end(1001.25, Ending(seconds=0.5, cpu_seconds=1e-05, max_memory=4096, **facts))
        journal.end(job)
    journal.close("interrupted by SIGINT")
    return SweepPaths(sweep_dir).journal.read_bytes().splitlines()


def parsed(lines: list[bytes], paths: SweepPaths) -> Sweep:
    """The sweep in these lines, each parsed."""
    header = json.loads(lines[0])
    sweep = Sweep(header["sweep_id"], paths, header, last_time=header["time"])
    for number, line in enumerate(lines[1:], start=2):
        sweep.take(number, line)
    sweep.settle()
    return sweep


def facts(sweep: Sweep) -> Any:
    """All that is known of a sweep, for comparing."""
    about = (sweep.closed, sweep.seconds, sweep.last_time, sweep.problems, sweep.problem_count)
    jobs = [(num, repr(job), job.before) for num, job in sweep.jobs.items()]
    return about, jobs, sweep.jobs.count_states()


@pytest.mark.parametrize("has_gpus", [False, True])
def test_usual_and_unusual_lines_read_as_if_each_was_parsed(tmp_path: Path, has_gpus: bool) -> None:
    lines = written(tmp_path, has_gpus=has_gpus)
    whole = parsed(lines, SweepPaths(tmp_path))
    assert facts(read_sweep(tmp_path)) == facts(whole)
    sweep = read_sweep(tmp_path)
    assert [repr(job) for job in sweep.jobs.once()] == list(map(repr, whole.jobs.values()))
    assert sweep.jobs.by_state() == whole.jobs.by_state()


@pytest.mark.parametrize("seed", range(40))
def test_damaged_and_shuffled_lines_read_as_if_each_was_parsed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    first, *lines = written(tmp_path, has_gpus=seed % 2 == 1)
    for _ in range(chance.randrange(1, 12)):
        at = chance.randrange(len(lines))
        line = bytearray(lines[at])
        deed = chance.randrange(5)
        if deed == 0 and line:
            line[chance.randrange(len(line))] = chance.choice(b'"{}[],:0123456789ab\\-. \x00\xff')
        elif deed == 1:
            lines.insert(chance.randrange(len(lines)), lines[at])
        elif deed == 2:
            del lines[at]
            continue
        elif deed == 3:
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
            continue
        else:
            line = line.replace(*chance.choice(CHANGES))
        lines[at] = bytes(line)
    paths = SweepPaths(tmp_path)
    paths.journal.write_bytes(b"\n".join([first, *lines, b""]))
    assert facts(read_sweep(tmp_path, alive=False)) == facts(parsed([first, *lines], paths))


#: What somebody else may have written instead.
CHANGES = [
    (b'"attempt":1', b'"attempt":2'),
    (b'"time":1', b'"time":99999999999999'),
    (b'"time":1', b'"time":01'),
    (b'"job":3', b'"job":4'),
    (b'"job":1', b'"job":01'),
    (b'"exit_code":0', b'"exit_code":null'),
    (b'"exit_code":0', b'"exit_code":00'),
    (b'"id":"s_5"', b'"id":"s_6"'),
    (b'{"x":7,', b'{"x":7,"x":{"y":[1]},'),
    (b'"seconds":0.5', b'"seconds":1e999'),
    (b'"seconds":0.5', b'"seconds":00.5'),
    (b',"time"', b',"more":3,"time"'),
    (b'"COMPLETED"', b'"RUNNING"'),
    (b'"slot":1', b'"slot":-1'),
    (b'"gpus":[0]', b'"gpus":[0.5]'),
    (b'"gpus":[10,11]', b'"gpus":[]'),
    (b'"waited":1', b'"waited":"1"'),
    (b'"waited":1', b'"waited":01'),
    (b'"gpu_load":97.5', b'"gpu_load":100.5'),
    (b'"gpu_load":97.5', b'"gpu_load":07.5'),
    (b'"gpu_memory":0', b'"gpu_memory":0.5'),
]


@pytest.mark.parametrize("name", ["journal_v1.jsonl", "journal_v2"])
def test_older_journals_read_as_if_each_line_was_parsed(tmp_path: Path, name: str) -> None:
    source = DATA / name
    journals = [source] if source.is_file() else sorted(source.rglob("*.jsonl"))
    assert journals
    for number, journal in enumerate(journals):
        paths = SweepPaths(tmp_path / str(number))
        paths.create()
        paths.journal.write_bytes(journal.read_bytes())
        lines = journal.read_bytes().splitlines()
        assert facts(read_sweep(paths.sweep_dir, alive=False)) == facts(parsed(lines, paths))


@pytest.mark.parametrize("sweep_id", ["a.b+c", "a_1", 'quo"ted', "größe", "s" * 250])
def test_any_id_of_a_sweep(tmp_path: Path, sweep_id: str) -> None:
    lines = written(tmp_path, sweep_id=sweep_id)
    assert facts(read_sweep(tmp_path)) == facts(parsed(lines, SweepPaths(tmp_path)))


def test_a_sweep_that_was_read_has_no_object_for_a_job_until_it_is_asked_for(
    tmp_path: Path,
) -> None:
    written(tmp_path, 10)
    sweep = read_sweep(tmp_path)
    before = {job.num for job in sweep.jobs.made()}
    assert before == {6}  # which was running when the sweep ended
    sum(1 for _ in sweep.jobs.once())
    assert sweep.jobs.count_states() == {"COMPLETED": 5, "FAILED": 1, "CANCELLED": 4}
    assert {job.num for job in sweep.jobs.made()} == before
    assert sweep.jobs[0] is sweep.jobs[0]
    assert [job.num for job in sweep.jobs.where(lambda state: state.has_failed)] == [5]
    assert {job.num for job in sweep.jobs.made()} == before | {0, 5}
    with pytest.raises(KeyError):
        sweep.jobs[10]
    assert 10 not in sweep.jobs
    assert -1 not in sweep.jobs


def test_lines_of_jobs_with_gpus_are_usual_too(tmp_path: Path) -> None:
    written(tmp_path, 12, has_gpus=True)
    sweep = read_sweep(tmp_path)
    assert [job.num for job in sweep.jobs.made()] == [8]  # which was running when the sweep ended
    attempts = [job.attempts[0] for job in sweep.jobs.once() if job.attempts]
    assert [(each.slot, each.gpus, each.waited) for each in attempts[:5]] == [
        (0, [0], 0.0),
        (1, [10, 11], 0.125),
        (2, ["MIG-größe"], 0.25),
        (0, ["0", 1], 0.375),
        (1, [0], 0.5),
    ]
    assert [(each.gpu_memory, each.gpu_load) for each in attempts[:4]] == [
        (None, None),
        (5 << 30, 97.5),
        (0, None),
        (None, 100.0),
    ]
    assert sweep.jobs[1].attempts == [attempts[1]]
    assert sweep.jobs[3].attempts == [attempts[3]]


def test_counts_of_a_sweep_that_was_read_are_those_of_its_jobs(tmp_path: Path) -> None:
    written(tmp_path)
    read, told = Counts(), Counts()
    read.read(read_sweep(tmp_path).jobs, 999.0)
    told.submitted(list(read_sweep(tmp_path).jobs.values()), 999.0)
    for counts in (read, told):
        assert counts.total == 30
    assert (read.by_state, read.failed_jobs) == (told.by_state, told.failed_jobs)
    assert read.job_seconds == pytest.approx(told.job_seconds)
    assert read.wall_seconds(2000.0) == told.wall_seconds(2000.0)
    assert read.eta([1.0], 2000.0) == told.eta([1.0], 2000.0)


def test_a_job_is_in_a_table_once(tmp_path: Path) -> None:
    table = JobTable("s")
    assert table.add(Job(0, "s_0"))
    assert not table.add(Job(0, "s_9"))
    assert not table.add(Job(5, "s_0"))
    assert table.add(Job(7, "other"))
    assert not table.add(Job(8, "other"))
    assert list(table) == [0, 7]
    with open_journal(SweepPaths(_one_line(tmp_path))) as lines:
        sweep = begin(SweepPaths(tmp_path), lines)
    assert len(sweep.jobs) == 0


def _one_line(sweep_dir: Path) -> Path:
    Journal(SweepPaths(sweep_dir), "s", {}).close("finished")
    return sweep_dir
