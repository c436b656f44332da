from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.processes import PATIENCE, wait_for
from hsm import JobManager, JobState, LocalComputeSource, LocalManager, SettingsError
from hsm.core.engine.compute_source import ComputeSource, SweepDisplay
from hsm.core.record.job import Ending, Job
from hsm.core.record.journal import SweepInUse
from hsm.core.record.paths import SweepPaths


@pytest.fixture
def source() -> Iterator[LocalComputeSource]:
    source = LocalComputeSource(max_parallel_jobs=2)
    yield source
    source.close(cancel=True)


def double(params: Mapping[str, Any]) -> int:
    return 2 * int(params["x"])


def waiting_for(name: str) -> Callable[[Any], str]:
    """What a job does: wait for a file."""

    def job(params: Any) -> str:
        while not Path(name).exists():
            time.sleep(0.02)
        return name

    return job


COMBINATIONS: list[dict[str, Any]] = [{"x": x} for x in range(5)]


# --- from submission to results
# -------------------------------------------------------------------------------------------------


def test_a_sweep_from_parameters_to_results(
    source: LocalComputeSource, capsys: pytest.CaptureFixture[str]
) -> None:
    manager = JobManager()
    job_ids = manager.submit_sweep(COMBINATIONS, source, "mine", "out", function=double)
    assert job_ids == [f"mine_{x}" for x in range(5)]
    statuses = manager.monitor_jobs(job_ids, source)
    assert statuses == dict.fromkeys(job_ids, JobState.COMPLETED)
    results = manager.collect_results("out")
    assert [(row["x"], row["value"]) for row in results] == [(x, 2 * x) for x in range(5)]
    screen = capsys.readouterr().out
    assert "mine: 5 jobs: 5 completed" in screen
    assert "value of 5 jobs:\n  job  x  value\n    4  4      8\n" in screen
    assert "results: out" in screen


def test_submitting_does_not_wait(source: LocalComputeSource, project_dir: Path) -> None:
    manager = JobManager()
    job_ids = manager.submit_sweep(COMBINATIONS, source, "s", "out", function=waiting_for("go"))
    assert not any(source.get_job_status(job_id).is_final for job_id in job_ids)
    assert [row["state"] for row in manager.collect_results("out")][2:] == ["PENDING"] * 3
    (project_dir / "go").touch()
    assert set(manager.monitor_jobs(job_ids, source).values()) == {JobState.COMPLETED}


@pytest.mark.parametrize(
    "program",
    [
        {"function": lambda params: print("x is", params["x"])},
        {"command": ["echo", "x is", "{x}"]},
        {"command": "echo x is {x}"},
        {"script": "say.sh"},
        {"script": "say.sh", "args_style": "flags-equals"},
        {"command": "./say.sh {args}"},
        {"command": ["./say.sh", "{args}"], "args_style": "flags-equals"},
    ],
)
def test_what_jobs_run(
    source: LocalComputeSource, program: dict[str, Any], project_dir: Path
) -> None:
    (project_dir / "say.sh").write_text("#!/bin/sh\necho x is ${1#*x=}\n")
    (project_dir / "say.sh").chmod(0o755)
    manager = JobManager()
    job_ids = manager.submit_sweep([{"x": 7}], source, "s", "out", **program)
    assert manager.monitor_jobs(job_ids, source) == {"s_0": JobState.COMPLETED}
    assert (project_dir / "out" / "0" / "stdout.log").read_text() == "x is 7\n"


def test_hsm_yaml_says_what_jobs_run(source: LocalComputeSource, project_dir: Path) -> None:
    (project_dir / "train.py").write_text(
        "import json, os, sys, pathlib\n"
        "out = {'argv': sys.argv, 'cwd': os.getcwd()}\n"
        "out['params'] = json.loads(os.environ['HSM_PARAMS'])\n"
        "pathlib.Path(os.environ['HSM_JOB_DIR'], 'results.json').write_text(json.dumps(out))\n"
    )
    (project_dir / "hsm.yaml").write_text("script: train.py\n")
    manager = JobManager()
    job_ids = manager.submit_sweep([{"lr": 1e-5, "name": "a b"}], source, "s", "out")
    manager.monitor_jobs(job_ids, source)
    (row,) = manager.collect_results("out")
    assert row["argv"] == ["./train.py", "lr=1e-05", "name='a b'"]
    assert row["cwd"] == str(project_dir)
    assert (row["params.lr"], row["params.name"]) == (1e-5, "a b")


def test_a_source_may_say_what_its_jobs_run() -> None:
    manager = JobManager()
    with LocalComputeSource(2, script="/bin/echo", args_style="flags") as source:
        job_ids = manager.submit_sweep([{"x": 1}], source, "s", "out")
    assert source.get_job_status(job_ids[0]) is JobState.COMPLETED
    assert Path("out/0/stdout.log").read_text() == "--x 1\n"


# --- refusals
# -------------------------------------------------------------------------------------------------


def test_with_nothing_to_run_it_says_how_to_name_it(source: LocalComputeSource) -> None:
    with pytest.raises(SettingsError, match="nothing to run: pass script=, command= or") as caught:
        JobManager().submit_sweep(COMBINATIONS, source, "s", "out")
    assert "\n" not in str(caught.value)
    assert not Path("out").exists()


def test_a_directory_with_an_earlier_sweep_is_refused(
    source: LocalComputeSource, project_dir: Path
) -> None:
    manager = JobManager()
    with LocalComputeSource(1) as first:
        manager.submit_sweep([{}], first, "s", "out", command="true")
    before = (project_dir / "out" / ".hsm" / "journal.jsonl").read_bytes()
    with pytest.raises(SettingsError, match="holds an earlier sweep"):
        manager.submit_sweep([{}], source, "s", "out", command="true")
    assert (project_dir / "out" / ".hsm" / "journal.jsonl").read_bytes() == before
    # The source is still good for another.
    job_ids = manager.submit_sweep([{}], source, "t", "out2", command="true")
    assert manager.monitor_jobs(job_ids, source) == {"t_0": JobState.COMPLETED}


def test_an_earlier_sweep_may_be_resumed(source: LocalComputeSource, project_dir: Path) -> None:
    manager = JobManager()
    command = "sh -c 'echo ran; test {x} = 0 || test -e go'"
    with LocalComputeSource(1) as first:
        manager.submit_sweep([{"x": 0}, {"x": 1}], first, "s", "out", command=command)
    assert [row["state"] for row in manager.collect_results("out")] == ["COMPLETED", "FAILED"]
    (project_dir / "go").touch()
    combinations = [{"x": x} for x in range(3)]
    job_ids = manager.submit_sweep(combinations, source, "s", "out", command=command, resume=True)
    assert job_ids == ["s_0", "s_1", "s_2"]
    assert set(manager.monitor_jobs(job_ids, source).values()) == {JobState.COMPLETED}
    results = manager.collect_results("out")
    assert [(row["x"], row["state"]) for row in results] == [(x, "COMPLETED") for x in range(3)]
    assert [row["attempts"] for row in results] == [1, 2, 1]


def test_a_directory_in_use_is_refused(source: LocalComputeSource) -> None:
    manager = JobManager()
    manager.submit_sweep([{}], source, "s", "out", command="true")
    with LocalComputeSource(1) as other, pytest.raises(SweepInUse, match="in use by this process"):
        manager.submit_sweep([{}], other, "t", "out", command="true")


def test_a_parameter_that_no_argument_can_hold_starts_nothing(source: LocalComputeSource) -> None:
    manager = JobManager()
    combinations: list[dict[str, Any]] = [{"x": 1}, {"x": "a\0b"}]
    with pytest.raises(SettingsError, match="NUL"):
        manager.submit_sweep(combinations, source, "s", "out", command="echo {x}")
    assert source.jobs() == []
    # And the directory is still free.
    job_ids = manager.submit_sweep(combinations[:1], source, "s", "out", command="echo {x}")
    assert manager.monitor_jobs(job_ids, source) == {"s_0": JobState.COMPLETED}


class Kernel(Enum):
    RBF = 1


class Size(int, Enum):
    SMALL = 32


@pytest.mark.parametrize(
    "program",
    [
        {"function": dict},
        {"command": ["sh", "-c", 'printf %s "$HSM_PARAMS" > "$HSM_JOB_DIR/results.json"']},
    ],
)
def test_parameters_are_plain_wherever_they_come_from(
    source: LocalComputeSource, program: dict[str, Any]
) -> None:
    given = {
        "rate": np.float32(0.5),
        "steps": np.int64(3),
        "fast": np.bool_(True),
        "sizes": [np.int32(1), np.arange(2)],
        "data": Path("a/b"),
        "kernel": Kernel.RBF,
        "size": Size.SMALL,
        "nested": {"path": Path("c")},
    }
    plain = {
        "rate": 0.5,
        "steps": 3,
        "fast": True,
        "sizes": [1, [0, 1]],
        "data": "a/b",
        "kernel": "RBF",
        "size": 32,
        "nested": {"path": "c"},
    }
    manager = JobManager()
    (job_id,) = manager.submit_sweep([given], source, "s", "out", **program)
    assert manager.monitor_jobs([job_id], source) == {job_id: JobState.COMPLETED}
    assert source.job(job_id).params == plain
    if "function" in program:
        value = source.result(job_id)
    else:
        value = json.loads(Path("out/0/results.json").read_text())
    assert value == plain
    assert {name: type(value[name]) for name in plain} == {
        name: type(plain[name]) for name in plain
    }


@pytest.mark.parametrize("program", [{"function": double}, {"command": "true"}])
@pytest.mark.parametrize(
    ("combinations", "named"),
    [
        ([1, 2, 3], "combination 0: param_combinations must be a list of mappings"),
        ({"x": 1}, "to values, not {'x': 1}"),
        (None, "submit_jobs: param_combinations must be a list of mappings"),
        ("x=1", "to values, not 'x=1'"),
        ([{}, [("x", 1)]], "combination 1: param_combinations must be a list of mappings"),
        ([{1: 2}], "combination 0: a parameter's name must be a string, not 1"),
        ([{"x": object}], "combination 0: JSON cannot hold {'x': <class 'object'>}: "),
    ],
)
def test_what_is_no_list_of_parameters_is_refused_in_one_line(
    source: LocalComputeSource, program: dict[str, Any], combinations: Any, named: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(named)):
        JobManager().submit_sweep(combinations, source, "s", "out", **program)
    assert not Path("out").exists()


def test_parameters_that_hold_themselves_are_refused(source: LocalComputeSource) -> None:
    point: dict[str, Any] = {}
    point["x"] = point
    with pytest.raises(SettingsError, match="combination 0"):
        JobManager().submit_sweep([point], source, "s", "out", function=double)


BAD_IDS = ["../../esc", "", "last", "a/b", "a\nb", 3, ".hidden", "~me", "-x", "x" * 201]


@pytest.mark.parametrize("sweep_id", BAD_IDS)
def test_what_is_no_name_for_a_directory_is_no_id(
    source: LocalComputeSource, sweep_id: Any
) -> None:
    for submit in (
        lambda: JobManager().submit_sweep([{}], source, sweep_id, "out", command="true"),
        lambda: source.submit_jobs([{}], sweep_id, "out", command="true"),
        lambda: LocalManager(1).run([{}], sweep_id=sweep_id, command="true"),
    ):
        with pytest.raises(SettingsError, match=r"sweep id (must be|has at most)"):
            submit()
    assert not Path("out").exists()
    assert not Path("outputs").exists()


def test_a_job_of_another_source_cannot_be_monitored(source: LocalComputeSource) -> None:
    with pytest.raises(SettingsError, match="that source has no job 's_0'"):
        JobManager().monitor_jobs(["s_0"], source)


# --- monitoring
# -------------------------------------------------------------------------------------------------


def test_monitoring_shows_each_end_and_failure(capsys: pytest.CaptureFixture[str]) -> None:
    manager = JobManager()
    with LocalComputeSource(1) as source:
        job_ids = manager.submit_sweep(
            COMBINATIONS, source, "s", "out", command="sh -c 'sleep 0.1; echo bad >&2; exit {x}'"
        )
        statuses = manager.monitor_jobs(job_ids, source)
    assert list(statuses.values()) == [JobState.COMPLETED] + [JobState.FAILED] * 4
    screen = capsys.readouterr().out
    assert "job 4 FAILED" in screen
    assert "exit code 4" in screen
    assert "    bad\n" in screen
    assert "5 jobs: 1 completed, 4 failed" in screen


def test_a_sweep_that_has_ended_shows_its_summary(
    source: LocalComputeSource, capsys: pytest.CaptureFixture[str]
) -> None:
    job_ids = source.submit_jobs(COMBINATIONS, "s", "out", function=double)
    source.wait()
    statuses = JobManager().monitor_jobs([*job_ids, job_ids[0]], source)
    assert list(statuses) == job_ids
    assert "s: 5 jobs: 5 completed" in capsys.readouterr().out


def test_no_jobs_are_monitored_at_once(source: LocalComputeSource) -> None:
    assert JobManager().monitor_jobs([], source) == {}


def test_only_the_jobs_that_were_asked_for_are_shown(
    source: LocalComputeSource, project_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manager = JobManager()
    waiting = manager.submit_sweep([{}], source, "waits", "out", function=waiting_for("go"))
    job_ids = manager.submit_sweep(COMBINATIONS, source, "s", "out2", command="echo {x}")
    assert set(manager.monitor_jobs(job_ids[:3], source)) == set(job_ids[:3])
    assert not source.get_job_status(waiting[0]).is_final
    assert source.observers == []
    (project_dir / "go").touch()
    manager.monitor_jobs(waiting, source)
    screen = capsys.readouterr().out
    assert "s: 3 jobs: 3 completed" in screen
    assert "job 3" not in screen
    assert "waits: 1 job: 1 completed" in screen


def test_two_sweeps_are_shown_one_after_the_other(
    source: LocalComputeSource, capsys: pytest.CaptureFixture[str]
) -> None:
    manager = JobManager()
    first = manager.submit_sweep([{}], source, "first", "out", command="true")
    second = manager.submit_sweep([{}, {}], source, "second", "out2", command="true")
    statuses = manager.monitor_jobs([*first, *second], source)
    assert list(statuses) == [*first, *second]
    screen = capsys.readouterr().out
    assert screen.index("first: 1 job") < screen.index("second: 2 jobs")


def test_two_threads_may_monitor_one_source(source: LocalComputeSource, project_dir: Path) -> None:
    manager = JobManager()
    job_ids = manager.submit_sweep(COMBINATIONS, source, "s", "out", function=waiting_for("go"))
    seen: list[Mapping[str, JobState]] = []

    def monitor() -> None:
        seen.append(manager.monitor_jobs(job_ids, source))

    threads = [threading.Thread(target=monitor) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(source.observers) == 2, "both to watch")
    (project_dir / "go").touch()
    for thread in threads:
        thread.join(PATIENCE)
    assert seen == [dict.fromkeys(job_ids, JobState.COMPLETED)] * 2
    assert source.observers == []


class Recorder(SweepDisplay):
    """A display that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.made: dict[str, Any] = {}

    def make(self, progress: str, **options: Any) -> Recorder:
        self.made = {"progress": progress, **options}
        return self

    def __enter__(self) -> Recorder:
        self.told.append(("enter",))
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.told.append(("exit",))

    def jobs_submitted(self, jobs: Sequence[Job]) -> None:
        self.told.append(("submitted", len(jobs)))

    def job_started(self, job: Job) -> None:
        self.told.append(("started", job.num))

    def job_output(self, job: Job, stream: str, line: str) -> None:
        self.told.append(("output", job.num, stream, line))

    def job_retried(self, job: Job, delay: float) -> None:
        self.told.append(("retried", job.num))

    def job_ended(self, job: Job) -> None:
        self.told.append(("ended", job.num))

    def message(self, text: str) -> None:
        self.told.append(("message", text))

    def summary(self) -> None:
        self.told.append(("summary",))


def test_the_display_may_be_another(project_dir: Path) -> None:
    recorder = Recorder()
    manager = JobManager(display=recorder.make)
    with LocalComputeSource(1, show_output=True) as source:
        job_ids = manager.submit_sweep([{}, {}], source, "s", "out", function=waiting_for("go"))
        thread = threading.Thread(target=manager.monitor_jobs, args=(job_ids, source))
        thread.start()
        wait_for(lambda: ("enter",) in recorder.told, "the display")
        (running,) = wait_for(recorder.made["running"], "a running job")
        assert (running.num, running.label) == (0, "")
        (project_dir / "go").touch()
        thread.join(PATIENCE)
    assert recorder.made["title"] == "s"
    assert recorder.made["show_output"] is True
    assert recorder.made["paths"].sweep_dir == project_dir / "out"
    assert recorder.told.count(("started", 0)) == 1  # before the submission or after it
    assert [event for event in recorder.told if event != ("started", 0)] == [
        *(("submitted", 2), ("enter",), ("ended", 0), ("started", 1), ("ended", 1)),
        *(("exit",), ("summary",)),
    ]


def test_what_runs_in_another_sweep_of_the_source_is_not_shown(project_dir: Path) -> None:
    """Its jobs have the same numbers and labels."""
    recorder = Recorder()
    manager = JobManager(display=recorder.make)
    with LocalComputeSource(2) as source:
        ids = [
            manager.submit_sweep([{"x": 1}], source, name, name, function=waiting_for("go"))
            for name in ("one", "two")
        ]
        wait_for(lambda: len(source.running()) == 2, "two jobs")
        thread = threading.Thread(target=manager.monitor_jobs, args=(ids[1], source))
        thread.start()
        wait_for(lambda: ("enter",) in recorder.told, "the display")
        assert [running.job_id for running in recorder.made["running"]()] == ["two_0"]
        (project_dir / "go").touch()
        thread.join(PATIENCE)


def test_output_is_shown_also_where_nobody_monitors(capsys: pytest.CaptureFixture[str]) -> None:
    with LocalComputeSource(1, show_output=True) as source:
        source.submit_jobs([{"x": "a"}, {"x": "b"}], "s", "out", command="echo {x}")
    assert capsys.readouterr().out == "[0] a\n[1] b\n"


def test_output_is_shown_once_where_somebody_monitors(capsys: pytest.CaptureFixture[str]) -> None:
    manager = JobManager()
    with LocalComputeSource(2, show_output=True) as source:
        job_ids = manager.submit_sweep(
            [{"x": x} for x in range(8)], source, "s", "out", command="sh -c 'sleep 0.1; echo o{x}'"
        )
        manager.monitor_jobs(job_ids, source)
    screen = capsys.readouterr().out.splitlines()
    assert sorted(line for line in screen if "] o" in line) == [f"[{x}] o{x}" for x in range(8)]


class Instant(ComputeSource):
    """A source of somebody's own. Its jobs have ended before anybody looks."""

    def submit_jobs(
        self,
        param_combinations: Sequence[Mapping[str, Any]],
        sweep_id: str,
        sweep_dir: str | Path,
        **program: Any,
    ) -> list[str]:
        assert not program
        self.ids = [f"{sweep_id}_{num}" for num in range(len(param_combinations))]
        return self.ids

    def get_job_status(self, job_id: str) -> JobState:
        return dict.fromkeys(self.ids, JobState.COMPLETED)[job_id]

    def wait(
        self, job_ids: Sequence[str] | None = None, timeout: float | None = None
    ) -> dict[str, JobState]:
        return {job_id: self.get_job_status(job_id) for job_id in job_ids or self.ids}

    def cancel_job(self, job_id: str) -> bool:
        return False

    def close(self, *, cancel: bool = False) -> None: ...


def test_a_source_that_cannot_be_watched_is_waited_for(tmp_path: Path) -> None:
    manager, source = JobManager(), Instant()
    job_ids = manager.submit_sweep([{}, {}], source, "s", tmp_path)
    assert manager.monitor_jobs(job_ids, source) == dict.fromkeys(job_ids, JobState.COMPLETED)
    with pytest.raises(SettingsError):
        manager.monitor_jobs(["other"], source)


class Shown(Instant):
    """One that has more to tell: its jobs run until they are cancelled."""

    def submit_jobs(self, *args: Any, **program: Any) -> list[str]:
        ids = super().submit_jobs(*args, **program)
        self.where = SweepPaths(args[2])
        self.known = {job_id: Job(num, job_id, f"x={num}", {}) for num, job_id in enumerate(ids)}
        for job in self.known.values():
            job.start(time.time(), None)
        return ids

    def job(self, job_id: str) -> Job:
        return self.known[job_id]

    def jobs(self) -> list[Job]:
        return list(self.known.values())

    def paths(self, job_id: str) -> SweepPaths:
        return self.where

    def get_job_status(self, job_id: str) -> JobState:
        return self.known[job_id].state

    def wait(
        self, job_ids: Sequence[str] | None = None, timeout: float | None = None
    ) -> dict[str, JobState]:
        for job_id in job_ids or self.ids:
            self.cancel_job(job_id)
        return super().wait(job_ids, timeout)

    def cancel_job(self, job_id: str) -> bool:
        job = self.known[job_id]
        if job.state.is_final:
            return False
        job.end(time.time(), Ending(JobState.CANCELLED, reason="cancelled"))
        for observer in self.observers:
            observer.job_ended(job)
        return True


def test_a_source_of_ones_own_is_shown_as_far_as_it_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manager, source = JobManager(), Shown()
    job_ids = manager.submit_sweep([{}, {}], source, "s", tmp_path)
    states = manager.monitor_jobs(job_ids, source)
    assert states == dict.fromkeys(job_ids, JobState.CANCELLED)
    screen = capsys.readouterr().out
    assert "[0/2] job 0 started (x=0)" in screen
    assert "[2/2] job 1 CANCELLED" in screen
    assert "s: 2 jobs: 2 cancelled" in screen


def test_what_a_source_need_not_have_has_a_default(tmp_path: Path) -> None:
    plain, source = Instant(), Shown()
    plain.submit_jobs([{}], "p", tmp_path)
    job_ids = source.submit_jobs([{}, {}], "s", tmp_path)
    assert (plain.jobs(), plain.running(), plain.paths("p_0")) == ([], [], None)
    assert plain.observers == []
    with pytest.raises(KeyError):
        plain.job("p_0")
    plain.stop("enough")
    source.stop("enough")
    assert {source.get_job_status(job_id) for job_id in job_ids} == {JobState.CANCELLED}
    ended = threading.Event()
    assert source.when_ended(None, ended.set) == job_ids
    assert ended.wait(PATIENCE)


def test_jobs_that_run_before_anybody_watches_are_told_of_once(project_dir: Path) -> None:
    recorder = Recorder()
    manager = JobManager(display=recorder.make)
    with LocalComputeSource(2) as source:
        job_ids = manager.submit_sweep([{}, {}], source, "s", "out", function=waiting_for("go"))
        wait_for(lambda: len(source.running()) == 2, "two jobs")
        thread = threading.Thread(target=manager.monitor_jobs, args=(job_ids, source))
        thread.start()
        wait_for(lambda: ("enter",) in recorder.told, "the display")
        (project_dir / "go").touch()
        thread.join(PATIENCE)
    assert sorted(told for told in recorder.told if told[0] == "started") == [
        ("started", 0),
        ("started", 1),
    ]
