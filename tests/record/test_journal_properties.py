"""Whatever happens to a sweep, and to its journal: the record is read as what was."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from helpers.processes import wait_for
from helpers.reliability import Recorder, journal_events, points, source
from helpers.sweeps import PROFILE
from hsm.core.program.program import Program
from hsm.core.record.job import Ending, IllegalTransition, Job, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.paths import SweepPaths
from hsm.core.record.replay import Replay
from hsm.core.record.resume import open_sweep
from hsm.core.record.sweep import Sweep, read_sweep

pytestmark = pytest.mark.thorough

DATA = Path(__file__).resolve().parents[1] / "data"
FINAL = [state for state in JobState if state.is_final]
_TEXTS = st.none() | st.text(max_size=8)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)


def endings(*states: JobState) -> st.SearchStrategy[Ending]:
    return st.builds(
        Ending,
        state=st.sampled_from(states),
        exit_code=st.none() | st.integers(0, 255),
        signal=st.none() | st.sampled_from(["SIGKILL", "SIGSEGV"]),
        reason=_TEXTS,
        error_type=_TEXTS,
        error_message=_TEXTS,
        cpu_seconds=st.none() | st.floats(0, 1e6),
        max_memory=st.none() | st.integers(0, 1 << 50),
        value=_JSON,
    )


class SweepLives(RuleBasedStateMachine):
    """A sweep of several launchers, each of which ends in good order or dies, maybe mid-write."""

    def __init__(self) -> None:
        super().__init__()
        self.paths = SweepPaths(tempfile.mkdtemp(prefix="hsm-journal-"))
        self.journal: Journal | None = None
        self.jobs: dict[int, Job] = {}
        self.closed: str | None = None
        self.clock = 1000.0

    def teardown(self) -> None:
        self._drop()
        shutil.rmtree(self.paths.sweep_dir)

    def _drop(self) -> None:
        """As the kernel does it for a process that is killed."""
        if self.journal is not None:
            self.journal._file.close()
            self.journal._lock.release()
            self.journal._closed = True
            self.journal = None

    def _tick(self) -> float:
        self.clock += 0.5
        return self.clock

    def _pick(self, number: int, *states: JobState) -> Job | None:
        found = [job for job in self.jobs.values() if job.state in states]
        return found[number % len(found)] if found else None

    def _settled(self) -> dict[int, Job]:
        """The jobs as their launcher, if it is gone, has left them."""
        jobs = copy.deepcopy(self.jobs)
        if self.journal is not None:
            return jobs
        for job in jobs.values():
            if not job.state.is_final:
                reason = self.closed or "launcher died"
                if self.closed and job.state is JobState.PENDING:
                    reason = f"never started: {self.closed}"
                job.end(self._last_time(), Ending(JobState.CANCELLED, reason=reason))
        return jobs

    def _last_time(self) -> float:
        return float(read_sweep(self.paths.sweep_dir).last_time)

    @initialize()
    def begin(self) -> None:
        self.journal = Journal(self.paths, "demo", {"timeout": 2.0})

    @precondition(lambda self: self.journal is not None)
    @rule(params=st.lists(st.dictionaries(st.text(max_size=3), _JSON, max_size=2), max_size=3))
    def submit(self, params: list[dict[str, Any]]) -> None:
        assert self.journal is not None
        new = [
            Job(num, f"demo_{num}", f"label {num}", point)
            for num, point in enumerate(params, start=len(self.jobs))
        ]
        self.jobs.update((job.num, job) for job in new)
        self.journal.submit(new)

    @precondition(lambda self: self.journal is not None)
    @rule(number=st.integers(0, 99), pid=st.none() | st.integers(2, 1 << 22))
    def start(self, number: int, pid: int | None) -> None:
        assert self.journal is not None
        if (job := self._pick(number, JobState.PENDING)) is not None:
            job.start(self._tick(), pid)
            self.journal.start(job)

    @precondition(lambda self: self.journal is not None)
    @rule(number=st.integers(0, 99), ending=endings(*FINAL))
    def end(self, number: int, ending: Ending) -> None:
        assert self.journal is not None
        if (job := self._pick(number, JobState.RUNNING)) is not None:
            job.end(self._tick(), ending)
            self.journal.end(job)

    @precondition(lambda self: self.journal is not None)
    @rule(number=st.integers(0, 99), ending=endings(JobState.CANCELLED))
    def cancel_one_that_waits(self, number: int, ending: Ending) -> None:
        assert self.journal is not None
        if (job := self._pick(number, JobState.PENDING)) is not None:
            job.end(self._tick(), ending)
            self.journal.end(job)

    @precondition(lambda self: self.journal is not None)
    @rule(
        number=st.integers(0, 99),
        ending=endings(JobState.FAILED, JobState.TIMEOUT, JobState.OUT_OF_MEMORY),
    )
    def retry(self, number: int, ending: Ending) -> None:
        assert self.journal is not None
        if (job := self._pick(number, JobState.RUNNING)) is not None:
            job.retry(self._tick(), ending)
            self.journal.retry(job)

    @precondition(lambda self: self.journal is not None)
    @rule(reason=st.sampled_from(["finished", "interrupted by SIGINT", "fail_fast"]))
    def close(self, reason: str) -> None:
        assert self.journal is not None
        self.journal.close(reason)
        self.closed, self.journal = reason, None

    @precondition(lambda self: self.journal is not None)
    @rule(torn=st.sampled_from([b"", b"{", b'{"event":"end","job":0', b"\xff\x00", b"[1, 2"]))
    def die(self, torn: bytes) -> None:
        self._drop()
        self.closed = None
        with self.paths.journal.open("ab") as file:
            file.write(torn)

    @precondition(lambda self: self.journal is None)
    @rule(chosen=st.sets(st.integers(0, 20)))
    def resume(self, chosen: set[int]) -> None:
        self.jobs = self._settled()
        self.journal, self.closed = Journal(self.paths, "ignored", {}), None
        again = [job for job in self.jobs.values() if job.num in chosen]
        for job in again:
            job.requeue()
        self.journal.resume(again)

    @precondition(lambda self: self.journal is None and self.closed is not None)
    @rule()
    def go_on_with_the_next_batch(self) -> None:
        """As under Hydra: one launcher, one source after another."""
        self.jobs = self._settled()
        self.journal, self.closed = Journal(self.paths, "demo", {}), None
        new = Job(len(self.jobs), f"demo_{len(self.jobs)}", "", {})
        self.jobs[new.num] = new
        self.journal.submit([new])

    @invariant()
    def the_replay_is_what_was(self) -> None:
        sweep = read_sweep(self.paths.sweep_dir)
        assert sweep.problems == []
        assert _in_one_wording(sweep.jobs) == self._settled()
        assert (sweep.sweep_id, sweep.alive) == ("demo", self.journal is not None)
        assert sweep.closed == self.closed

    @invariant()
    def a_second_look_sees_the_same(self) -> None:
        replay = Replay(self.paths)
        replay.advance()
        assert _in_one_wording(replay.sweep.jobs) == self._settled()
        replay.close()


def _in_one_wording(jobs: Mapping[int, Job]) -> Mapping[int, Job]:
    """Whether a job that waits has been started before is a test of its own."""
    for job in jobs.values():
        if job.outcome is not None and job.outcome.reason is not None:
            reason = job.outcome.reason.replace("not retried: ", "never started: ")
            job.outcome = dataclasses.replace(job.outcome, reason=reason)
    return jobs


SweepLives.TestCase.settings = settings(
    PROFILE, max_examples=30, stateful_step_count=25, deadline=None
)
test_any_interleaving_replays_to_the_live_state = pytest.mark.slow(SweepLives.TestCase)


@pytest.mark.parametrize("state", list(JobState))
def test_the_journal_cannot_make_a_job_do_what_jobs_do_not(state: JobState) -> None:
    """Every event in every state: it is applied, or it raises and changes nothing."""
    for event in ("start", "end", "retry", "requeue"):
        for ending in map(Ending, JobState):
            job = Job(0, "s_0")
            if state is not JobState.PENDING:
                job.start(1.0, 42)
            if state.is_final:
                job.end(2.0, Ending(state))
            before = copy.deepcopy(job)
            try:
                if event == "start":
                    job.start(3.0, 43)
                elif event == "requeue":
                    job.requeue()
                else:
                    getattr(job, event)(3.0, ending)
            except IllegalTransition:
                assert job == before
            else:
                assert job.state is not before.state


# --- damage -----------------------------------------------------------------------------------


def double(params: dict[str, Any]) -> int:
    return 2 * int(params["x"])


def sweep_of_three(sweep_dir: Path) -> SweepPaths:
    with source(max_parallel_jobs=1) as made:
        made.submit_jobs(points(0, 1, 2), "demo", sweep_dir, function=double)
    return SweepPaths(sweep_dir)


def states(sweep: Sweep) -> list[str]:
    return [str(job.state) for job in sweep.jobs.values()]


@pytest.mark.slow
def test_a_journal_cut_at_any_byte_of_its_last_records_is_resumed_cleanly(tmp_path: Path) -> None:
    paths = sweep_of_three(tmp_path)
    program = Program(function=double)
    whole = paths.journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert [json.loads(line)["event"] for line in lines[-2:]] == ["end", "close"]
    for length in range(len(whole) - len(lines[-1]) - len(lines[-2]), len(whole) + 1):
        paths.journal.write_bytes(whole[:length])
        lock, resumption = open_sweep(
            paths, "unfinished", program.files(), program.record(), accept_changes=False
        )
        matches = resumption.match(points(0, 1, 2))
        with_its_end = length >= len(whole) - len(lines[-1])
        assert [match.runs for match in matches] == [False, False, not with_its_end]
        journal = Journal(paths, "demo", {}, lock=lock)
        again = [match.job for match in matches if match.runs and match.job is not None]
        for job in again:
            job.requeue()
        journal.resume(again)
        for job in again:
            job.start(5.0, 1)
            journal.start(job)
            job.end(6.0, Ending(JobState.COMPLETED, exit_code=0))
            journal.end(job)
        journal.close("finished")
        sweep = read_sweep(tmp_path)
        assert (states(sweep), sweep.problems) == (["COMPLETED"] * 3, [])


@pytest.mark.parametrize(
    "damage",
    [b"", b"\xff\xfe", b"null", b"[]", b'"text"', b"{}", b'{"event":"end"}', b'{"event":"x"}'],
)
def test_a_damaged_line_anywhere_is_named_and_the_rest_is_used(
    tmp_path: Path, damage: bytes
) -> None:
    paths = sweep_of_three(tmp_path)
    lines = paths.journal.read_bytes().splitlines()
    for number in range(3, len(lines) + 1):  # not the header, and not the jobs themselves
        damaged = [*lines[: number - 1], damage, *lines[number:]]
        paths.journal.write_bytes(b"\n".join(damaged) + b"\n")
        sweep = read_sweep(tmp_path)
        assert sweep.problems[0].startswith(f"line {number}: ")
        lost = json.loads(lines[number - 1])
        for num, state in enumerate(states(sweep)):
            if lost["event"] != "end" or lost["job"] != num:
                assert state == "COMPLETED", (number, num, sweep.problems)
            else:
                assert state == "CANCELLED"


def test_a_job_that_waited_for_its_retry_reads_as_not_retried(tmp_path: Path) -> None:
    recorder = Recorder()
    with source(recorder, max_retries=1, retry_delay=600) as made:
        made.submit_jobs(points(0), "s", tmp_path, command=["false"])
        wait_for(lambda: recorder.has("retried", 0), "the back-off")
        made.stop("enough")
    assert made.jobs()[0].ending() == "not retried: enough"
    assert read_sweep(tmp_path).jobs[0].ending() == "not retried: enough"


def test_a_sweep_with_a_damaged_line_is_resumed(tmp_path: Path) -> None:
    paths = sweep_of_three(tmp_path)
    lines = paths.journal.read_bytes().splitlines(keepends=True)
    (number,) = (n for n, line in enumerate(lines) if b'"end","job":1,' in line)
    lines[number] = b"%" * 20 + b"\n"
    paths.journal.write_bytes(b"".join(lines))
    with source(resume=True) as made:
        ids = made.submit_jobs(points(0, 1, 2), "demo", tmp_path, function=double)
        assert [made.result(job_id) for job_id in ids] == [0, 2, 4]
    jobs = read_sweep(tmp_path).jobs
    assert [len(job.attempts) for job in jobs.values()] == [1, 2, 1]


def test_lines_of_a_later_hsm_are_named_and_the_rest_is_used(tmp_path: Path) -> None:
    paths = sweep_of_three(tmp_path)
    *lines, last = paths.journal.read_bytes().splitlines(keepends=True)
    new = b'{"event":"checkpoint","job":0,"time":1.0}\n'
    extended = json.loads(lines[2]) | {"gpu": [0, 1]}
    lines[2] = json.dumps(extended).encode() + b"\n"
    paths.journal.write_bytes(b"".join([*lines, new, last]))
    sweep = read_sweep(tmp_path)
    assert states(sweep) == ["COMPLETED"] * 3
    assert sweep.problems == [f"line {len(lines) + 1}: unknown event 'checkpoint'"]


def test_a_frozen_journal_of_version_1_stays_readable(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    paths.create()
    shutil.copy(DATA / "journal_v1.jsonl", paths.journal)
    sweep = read_sweep(tmp_path)
    assert sweep.problems == []
    assert (sweep.sweep_id, sweep.closed) == ("train-20260131-235959-3fa9c1", None)
    assert sweep.header["git"]["commit"] == "2f0c7d5a9e4b1c3d8f6a7b9e0d1c2b3a4f5e6d7c"
    svm, tree, mlp, knn, gp = sweep.jobs.values()
    assert [job.ending() for job in sweep.jobs.values()] == [
        "completed",
        "out of memory: it used 5 GB, memory_limit is 4 GB",
        "timeout after 60 s",
        "launcher died",
        "launcher died",
    ]
    assert svm.value["accuracy"] == 0.9
    assert math.isnan(svm.value["loss"])
    assert (svm.duration, svm.job_dir) == (2.0, Path("/home/me/project/sweep/0"))
    assert [attempt.signal for attempt in tree.attempts] == ["SIGSEGV", None, "SIGKILL"]
    assert tree.attempts[1].error_message == "boom\nand more"
    assert mlp.params == {"model": "mlp", "lr": 0.1}
    assert (len(knn.attempts), len(gp.attempts)) == (1, 0)


def test_a_frozen_journal_of_version_1_is_resumed(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    paths.create()
    shutil.copy(DATA / "journal_v1.jsonl", paths.journal)
    models: list[dict[str, Any]]
    models = [{"model": "gp"}, {"lr": 0.1, "model": "mlp"}, {"model": "svm"}, {"model": "new"}]
    with source(resume=True) as made:
        ids = made.submit_jobs(models, "ignored", tmp_path, command=["true"])
        assert [made.job(job_id).num for job_id in ids] == [4, 2, 0, 5]
    sweep = read_sweep(tmp_path)
    assert (sweep.problems, sweep.closed) == ([], "finished")
    assert [len(job.attempts) for job in sweep.jobs.values()] == [1, 3, 2, 1, 1, 1]
    assert journal_events(tmp_path)[-1]["event"] == "close"
