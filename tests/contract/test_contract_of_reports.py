"""Whatever the place, what a job reports is read, and it may end early."""

from __future__ import annotations

import math
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from contract_jobs import STAY
from contract_support import (
    Place,
    Recorder,
    journal_events,
    noted_pid,
    points,
    start_python,
    states,
)
from helpers.processes import is_running, wait_for
from hsm import Job, JobFailed, read_sweep
from hsm.core.record.job import Ending, JobState
from hsm.core.record.metrics import Measured, Measurement, Value, measurements, read_measured
from hsm.core.record.paths import SweepPaths
from reporting_jobs import (
    SCRIPT,
    SHELL,
    ask,
    ask_slowly,
    fail_once,
    prune_itself,
    report_in_children,
    spoil,
    sweep_inside,
    three_steps,
)

pytestmark = pytest.mark.thorough

FOLDERS = (Path(__file__).parent, Path(__file__).parents[1])


class Pruner:
    """Notes what it is asked, and ends jobs that get as far as a step."""

    def __init__(self, at: int = 2) -> None:
        self.at = at
        self.asked: list[tuple[int, int | None, dict[str, object]]] = []

    def __call__(self, job: Job, measurement: Measurement) -> str | None:
        step, values = measurement
        self.asked.append((job.num, step, dict(values)))
        return f"pruned at step {step}" if step is not None and step >= self.at else None


def ending(num: int = 0) -> Ending:
    outcome = read_sweep("s").jobs[num].outcome
    assert outcome is not None
    return outcome


def stderr(num: int = 0) -> str:
    return SweepPaths("s").stderr(num).read_text()


# --- jobs that ask ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("return", 0),
        ("raise", 0),
        ("raise Optuna's", 0),
        ("fail", 1),
        ("exit", 3),
        ("exit at once", 4),
    ],
)
def test_a_job_that_was_told_is_pruned_however_it_ends(place: Place, how: str, code: int) -> None:
    with place.source(max_retries=2, retry_delay=0) as source:
        source.pruning = pruner = Pruner()
        [job_id] = source.submit_jobs(points(how), "s", "s", function=ask)
        assert states(source) == ["PRUNED"]
        assert source.result(job_id) == 2.0
        assert source.job(job_id).ending() == "pruned at step 2"
    end = ending()
    assert (end.exit_code, end.reason, end.objective) == (code, "pruned at step 2", 2.0)
    assert (end.value, end.signal) == (None, None)
    assert pruner.asked == [(0, step, {"value": float(step)}) for step in range(3)]
    assert ("Traceback" in stderr()) == (how == "fail")
    # Nothing is left of the answers.
    assert [path.name for path in SweepPaths("s").metrics.iterdir()] == ["0.jsonl"]


def test_a_job_that_was_told_and_is_killed_has_failed(place: Place) -> None:
    with place.source() as source:
        source.pruning = Pruner()
        source.submit_jobs(points("signal"), "s", "s", function=ask)
        assert states(source) == ["FAILED"]
    assert ending().describe() == "killed by SIGKILL"


def test_a_job_that_was_told_and_stays_is_ended_by_its_timeout(place: Place) -> None:
    with place.source(timeout=1.5) as source:
        source.pruning = Pruner()
        source.submit_jobs(points("stay"), "s", "s", function=ask)
        assert states(source) == ["TIMEOUT"]


def test_a_job_that_was_told_can_be_cancelled(place: Place) -> None:
    with place.source() as source:
        source.pruning = Pruner()
        [job_id] = source.submit_jobs(points("stay"), "s", "s", function=ask)
        wait_for(lambda: read_measured(SweepPaths("s"), 0).was_told, "the answer")
        source.cancel_job(job_id)
        assert states(source) == ["CANCELLED"]


@pytest.mark.parametrize(("x", "code"), [("raise", 1), (0, 0), (5, 5)])
def test_a_script_that_was_told_is_pruned(place: Place, x: object, code: int) -> None:
    Path("fit.py").write_text(SCRIPT)
    with place.source() as source:
        source.pruning = Pruner()
        source.submit_jobs(points(x), "s", "s", script="fit.py")
        assert states(source) == ["PRUNED"]
    end = ending()
    assert (end.exit_code, end.reason, end.objective) == (code, "pruned at step 2", 2.0)
    assert stderr() == ("hsm: pruned: too slow\n" if x == "raise" else "")


def test_a_shell_script_can_ask(place: Place) -> None:
    asks = "import hsm, sys; sys.exit(hsm.should_prune())"
    script = (
        "step=0; while [ $step -lt 100 ]; do "
        'echo "{{\\"step\\": $step, \\"a\\": 1}}" >> $HSM_METRICS; '
        f"{sys.executable} -c '{asks}' || exit 0; step=$((step + 1)); done; exit 9"
    )
    with place.source() as source:
        source.pruning = Pruner()
        source.submit_jobs(points(1), "s", "s", command=["sh", "-c", script])
        assert states(source) == ["PRUNED"]
    assert ending().reason == "pruned at step 2"


def test_a_job_that_goes_on_is_asked_for_each_step_and_completes(place: Place) -> None:
    found: list[tuple[Ending, Measured]] = []

    def scoring(job: Job, ending: Ending, measured: Measured) -> Ending:
        found.append((ending, measured))
        return replace(ending, objective=math.nan)

    with place.source() as source:
        source.pruning, source.scoring = (pruner := Pruner(at=100)), scoring
        [job_id] = source.submit_jobs(points(1), "s", "s", function=three_steps)
        assert states(source) == ["COMPLETED"]
        assert source.result(job_id) == 0.5
    steps = [(0, step, {"loss": 1 + step}) for step in range(3)]
    assert pruner.asked == [*steps, (0, None, {"parameters": 12})]
    [(end, measured)] = found
    assert (str(end.state), end.whole("value")) == ("COMPLETED", 0.5)
    latest: dict[str, Value] = {"loss": 3, "parameters": 12}
    assert measured == Measured(latest, step=2, count=4)
    assert math.isnan(float(str(ending().objective)))
    assert journal_events("s")[-2]["objective"] == "nan"


# --- jobs that do not ask ---------------------------------------------------------------------


def test_hsm_can_end_the_job(place: Place) -> None:
    with place.source(max_retries=1) as source:
        source.pruning, source.prune_mode = Pruner(), "stop"
        source.submit_jobs(points(5), "s", "s", command=SHELL)
        assert states(source) == ["PRUNED"]
    end = ending()
    assert (end.signal, end.reason, end.objective) == ("SIGTERM", "pruned at step 2", 5)
    assert not is_running(noted_pid(5))


def test_hsm_ends_a_job_that_does_not_react(place: Place) -> None:
    with place.source(kill_grace=0.3) as source:
        source.pruning, source.prune_mode = Pruner(), "stop"
        deaf = [*SHELL[:2], 'trap "" TERM; ' + SHELL[2].replace("exec sleep 60", "sleep 60; exit")]
        source.submit_jobs(points(5), "s", "s", command=deaf)
        assert states(source) == ["PRUNED"]
    assert (ending().signal, ending().reason) == ("SIGKILL", "pruned at step 2")


def test_who_never_asks_goes_on_with_one_warning_for_all(place: Place) -> None:
    recorder = Recorder()
    with place.source(recorder) as source:
        source.pruning = pruner = Pruner(at=0)
        ids = source.submit_jobs(points(1, 2), "s", "s", command=SHELL)
        for x in (1, 2):
            noted_pid(x)
        wait_for(lambda: len(pruner.asked) == 6, "all steps")
        for job_id in ids:
            source.cancel_job(job_id)
        assert states(source) == ["CANCELLED"] * 2
    warnings = [text for text in recorder.messages if "hsm.should_prune()" in text]
    assert len(warnings) == 1
    assert "prune=stop" in warnings[0]


@pytest.mark.parametrize(
    ("x", "reason"), [("too slow", "too slow"), ("", "pruned at step 3"), ("own", None)]
)
def test_a_job_can_say_itself_that_it_ends_early(place: Place, x: str, reason: str | None) -> None:
    with place.source(fail_fast=True, max_retries=1) as source:
        [job_id] = source.submit_jobs(points(x), "s", "s", function=prune_itself)
        assert states(source) == ["PRUNED"]
        assert source.result(job_id) == 0.25
    end = ending()
    assert (end.exit_code, end.reason) == (0, reason or "pruned at step 3")
    assert (end.objective, end.error_type, stderr()) == (0.25, None, "")


def test_a_script_can_say_itself_that_it_ends_early(place: Place) -> None:
    Path("fit.py").write_text(
        "import hsm\nhsm.log(size=3)\nraise hsm.Pruned('too large\\nby far')\n"
    )
    with place.source() as source:
        source.submit_jobs(points(1), "s", "s", script="fit.py")
        assert states(source) == ["PRUNED"]
    assert (ending().reason, ending().objective) == ("too large", 3)
    assert stderr() == "hsm: pruned: too large\nby far\n"


def test_an_exception_that_a_script_catches_is_none_that_ends_it(place: Place) -> None:
    Path("fit.py").write_text(
        "import hsm\n"
        "try:\n    raise hsm.Pruned\n"
        "except hsm.Pruned:\n    raise ValueError from None\n"
    )
    with place.source() as source:
        source.submit_jobs(points(1), "s", "s", script="fit.py")
        assert states(source) == ["FAILED"]
    assert "ValueError" in stderr()


# --- retries, children, policies --------------------------------------------------------------


def test_a_retry_begins_anew(place: Place) -> None:
    with place.source(max_retries=1, retry_delay=0) as source:
        source.pruning = pruner = Pruner(at=100)
        source.submit_jobs(points(1), "s", "s", function=fail_once)
        assert states(source) == ["COMPLETED"]
    assert [(step, values["loss"]) for _, step, values in pruner.asked] == [
        *((0, 10), (1, 11)),
        *((0, 20), (1, 21)),
    ]
    paths = SweepPaths("s")
    first, second = read_sweep("s").jobs[0].attempts
    assert first.metrics == 0
    assert second.metrics == Path(paths.metrics_text(0)).stat().st_size // 2
    starts = [event for event in journal_events("s") if event["event"] == "start"]
    assert [event.get("metrics") for event in starts] == [None, second.metrics]
    assert read_measured(paths, 0, second.metrics).latest == {"loss": 21}
    assert [it.values["loss"] for it in measurements(paths, 0)] == [10, 11, 20, 21]


def test_a_resumed_job_begins_anew(place: Place) -> None:
    for resume in (False, True):
        with place.source(rerun="all") as source:
            source.submit_jobs(points(1), "s", "s", function=three_steps, resume=resume)
            assert states(source) == ["COMPLETED"]
    first, second = read_sweep("s").jobs[0].attempts
    assert second.metrics > first.metrics
    assert read_measured(SweepPaths("s"), 0, second.metrics).count == 4


def test_a_pruned_job_does_not_run_again_when_the_sweep_is_resumed(place: Place) -> None:
    for rerun in ("unfinished", "failed"):
        with place.source(rerun=rerun) as source:
            source.submit_jobs(points("x"), "s", "s", function=prune_itself, resume=True)
            assert states(source) == ["PRUNED"]
    assert len(read_sweep("s").jobs[0].attempts) == 1


def test_children_of_a_job_report_too(place: Place) -> None:
    with place.source() as source:
        source.submit_jobs(points(1), "s", "s", function=report_in_children)
        assert states(source) == ["COMPLETED"]
    measured = read_measured(SweepPaths("s"), 0)
    assert (measured.count, measured.unusable) == (151, 0)
    assert [measured.latest[f"rank{rank}"] for rank in range(3)] == [49] * 3


def test_pruned_jobs_are_neither_failures_nor_completed(place: Place) -> None:
    with place.source(max_parallel_jobs=1, max_failures=1, timeout_factor=1000.0) as source:
        source.submit_jobs(points(*"abcd"), "s", "s", function=prune_itself)
        assert states(source) == ["PRUNED"] * 4
    assert read_sweep("s").closed == "finished"


def test_a_sweep_inside_a_job_has_reports_of_its_own(place: Place) -> None:
    with place.source() as source:
        source.pruning = Pruner(at=1)
        [job_id] = source.submit_jobs(points(1), "s", "s", function=sweep_inside)
        assert states(source) == ["PRUNED"]
        assert source.result(job_id) == 2.0
    [inner] = measurements(SweepPaths("inner"), 0)
    assert inner == Measurement(0, {"value": 5})
    assert [it.step for it in measurements(SweepPaths("s"), 0)] == [0, 1]
    assert read_sweep("inner").jobs[0].value is False


# --- what goes wrong --------------------------------------------------------------------------


def test_lines_that_make_no_sense_are_told_once_per_job(place: Place) -> None:
    recorder = Recorder()
    script = 'printf "\\377\\nno json\\n{{\\"loss\\": 1}}\\n[1]\\n{{\\"lo" >> "$HSM_METRICS"'
    with place.source(recorder) as source:
        source.submit_jobs(points(1), "s", "s", command=["sh", "-c", script])
        assert states(source) == ["COMPLETED"]
    where = SweepPaths("s").metrics_text(0)
    assert recorder.messages == [f"job 0: 3 lines of its reports cannot be used: {where}"]
    assert read_measured(SweepPaths("s"), 0).latest == {"loss": 1}


@pytest.mark.parametrize("what", ["pipe", "link", "folder", "hole"])
def test_what_a_job_puts_in_place_of_its_reports_harms_nobody(place: Place, what: str) -> None:
    with place.source() as source:
        source.pruning = Pruner(at=100)
        [job_id] = source.submit_jobs(points(what), "s", "s", function=spoil)
        assert states(source) == ["COMPLETED"]
        assert source.result(job_id) == "done"


def test_very_many_lines_are_all_judged(place: Place) -> None:
    count = 50_000
    program = f'for n in range({count}): print(\'{{"step": %d, "a": 1}}\' % n)\n'
    Path("lines.py").write_text(program)
    with place.source() as source:
        source.pruning = pruner = Pruner(at=1 << 60)
        command = ["sh", "-c", f"{sys.executable} lines.py >> $HSM_METRICS"]
        source.submit_jobs(points(1), "s", "s", command=command)
        assert states(source) == ["COMPLETED"]
    assert [step for _, step, _ in pruner.asked] == list(range(count))


def test_judging_that_hangs_holds_no_job_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsm.core.engine.measuring._LONGEST_JUDGING", 0.1)
    recorder, is_over = Recorder(), threading.Event()

    def hangs(job: Job, measurement: Measurement) -> str | None:
        is_over.wait()
        return None

    with place.source(recorder) as source:
        source.pruning = hangs
        source.submit_jobs(points(1, 2), "s", "s", function=three_steps)
        assert states(source) == ["COMPLETED"] * 2
        is_over.set()
    assert [text for text in recorder.messages if "has taken more than 0.1 s" in text]
    assert {job.state for job in read_sweep("s").jobs.values()} == {JobState.COMPLETED}


def test_an_error_of_what_prunes_ends_the_pruning_and_no_job(place: Place) -> None:
    recorder = Recorder()

    def broken(job: Job, measurement: Measurement) -> str | None:
        raise ZeroDivisionError("oh")

    with place.source(recorder) as source:
        source.pruning = broken
        source.submit_jobs(points(1, 2), "s", "s", function=three_steps)
        assert states(source) == ["COMPLETED"] * 2
    [message] = [text for text in recorder.messages if "pruned" in text]
    assert message.startswith("no more jobs are pruned, as judging job ")
    assert "ZeroDivisionError('oh')" in message


def test_an_error_of_what_scores_is_told_and_the_end_recorded(place: Place) -> None:
    recorder = Recorder()

    def broken(job: Job, ending: Ending, measured: Measured) -> Ending:
        raise ZeroDivisionError("oh")

    with place.source(recorder) as source:
        source.scoring = broken
        source.submit_jobs(points(1), "s", "s", function=three_steps)
        assert states(source) == ["COMPLETED"]
    assert recorder.messages == ["job 0: its result cannot be found: ZeroDivisionError('oh')"]
    assert ending().value == 0.5


def test_what_never_ran_is_not_scored(place: Place) -> None:
    scored: list[int] = []

    def scoring(job: Job, ending: Ending, measured: Measured) -> Ending:
        scored.append(job.num)
        return ending

    with place.source(max_parallel_jobs=1) as source:
        source.scoring = scoring
        ids = source.submit_jobs(points(1, 2), "s", "s", command=STAY)
        noted_pid(1)
        for job_id in reversed(ids):
            source.cancel_job(job_id)
        assert states(source) == ["CANCELLED"] * 2
    assert scored == [0]


def test_a_job_that_failed_has_failed_whatever_it_has_reported(place: Place) -> None:
    with place.source() as source:
        source.pruning = Pruner(at=100)
        command = ["sh", "-c", 'echo "{{\\"loss\\": 1}}" >> $HSM_METRICS; exit 3']
        [job_id] = source.submit_jobs(points(1), "s", "s", command=command)
        assert states(source) == ["FAILED"]
        with pytest.raises(JobFailed):
            source.result(job_id)
    assert ending().objective is None


def test_running_jobs_show_what_they_have_reported(place: Place) -> None:
    for prunes in (False, True):
        with place.source() as source:
            if prunes:
                source.pruning = Pruner(at=100)
            [job_id] = source.submit_jobs(points(8), "s", f"s{prunes}", command=SHELL)

            def is_shown() -> bool:
                return [(it.step, dict(it.reported)) for it in source.running()] == [
                    (2, {"loss": 8})
                ]

            wait_for(is_shown, "the last report")
            source.cancel_job(job_id)
            states(source)


# --- the launcher dies ------------------------------------------------------------------------


def run_and_prune(place: Place, at: int, *, resume: bool = False) -> Pruner:
    """Run a job that asks after each step, and goes on until it is told; what its pruner saw."""
    with place.source() as source:
        source.pruning = pruner = Pruner(at)
        source.submit_jobs(points("return"), "s", "sweep", function=ask_slowly, resume=resume)
        source.wait()
    return pruner


def test_a_launcher_that_is_killed_leaves_nothing_and_a_resume_begins_the_job_anew(
    place: Place, project_dir: Path
) -> None:
    Path("launcher.py").write_text(
        "import sys\n"
        "from contract_support import Place\n"
        "from test_contract_of_reports import run_and_prune\n"
        "run_and_prune(Place(sys.argv[1]), 1 << 60)\n"
    )
    paths = SweepPaths("sweep")
    with start_python(project_dir, ["launcher.py", place.name], FOLDERS) as running:
        wait_for(lambda: (read_measured(paths, 0).step or 0) >= 3, "reports")
        running.wait_until_running(0)  # A resume knows of no other attempts.
        running.process.kill()
        running.assert_all_gone()
    pruner = run_and_prune(place, 2, resume=True)
    assert [step for _, step, _ in pruner.asked] == [0, 1, 2]
    job = read_sweep("sweep").jobs[0]
    assert [str(attempt.ending.state) for attempt in job.attempts if attempt.ending] == [
        "CANCELLED",
        "PRUNED",
    ]
    assert job.attempts[1].metrics > 0
    assert read_measured(paths, 0, job.attempts[1].metrics).step == 2
