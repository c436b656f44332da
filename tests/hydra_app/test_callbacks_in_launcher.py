"""Callbacks that gather over jobs: with `hsm_in_launcher`, on_job_end is called in the launcher."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import App, both_methods
from helpers.sweepers import Sweep

_BODY = """
    import json

    from hydra.core.hydra_config import HydraConfig
    from hydra.experimental.callback import Callback


    def is_job():
        return "HSM_JOB_NUM" in os.environ


    def exit_code(returned):
        attempts = getattr(returned, "job", None) and returned.job.attempts
        return attempts[-1].exit_code if attempts else None


    class Gather(Callback):
        hsm_in_launcher = True

        def __init__(self):
            self.values = []

        def on_job_start(self, config, **kwargs):
            if not is_job():
                note("started in the launcher")

        def on_job_end(self, config, job_return, **kwargs):
            if is_job():
                return
            with open("told.jsonl", "a") as file:
                job, own = config.hydra.job, HydraConfig.get().job
                facts = {
                    "job": config.job,
                    "num": [job.num, own.num, job_return.hydra_cfg.hydra.job.num],
                    "id": job.id,
                    "dirname": job.override_dirname,
                    "directory": config.hydra.runtime.output_dir,
                    "status": job_return.status.name,
                    "returned": str(job_return._return_value),
                    "exit_code": exit_code(job_return._return_value),
                    "overrides": list(job_return.overrides),
                    "cfg": dict(job_return.cfg),
                }
                file.write(json.dumps(facts) + "\\n")
            if os.path.exists(f"block-{config.job}"):
                note("blocked")
                stay()
            if os.path.exists(f"break-{config.job}"):
                raise ValueError(f"broken {config.job}")
            self.values.append(job_return._return_value)

        def on_multirun_end(self, config, **kwargs):
            note("values", json.dumps(self.values))


    class Silent(Gather):
        "Does not ask."

        hsm_in_launcher = False

        def on_job_end(self, config, job_return, **kwargs):
            if not is_job():
                note("told without asking")

        def on_multirun_end(self, config, **kwargs):
            pass


    def job(cfg):
        if cfg.job == 1:
            raise ValueError("one")
        if cfg.job == 2:
            os._exit(3)
        if cfg.job == 3:
            sys.exit(42)
        if cfg.job == 4:
            stay()
        return cfg.job
"""
_CALLBACKS = tuple(
    f"+hydra.callbacks.{name}._target_=__main__.{name}" for name in ("Silent", "Gather")
)


def _told(folder: Path) -> dict[int, dict[str, Any]]:
    """What the callback was told in the launcher, once for each job, by the job's number."""
    lines = (folder / "told.jsonl").read_text().splitlines()
    told = {facts["num"][0]: facts for facts in map(json.loads, lines)}
    assert len(told) == len(lines)
    assert not (folder / "told without asking").exists()
    assert not (folder / "started in the launcher").exists()
    return told


def _values(folder: Path) -> list[Any]:
    """What it has gathered, in the order in which the jobs ended."""
    values: list[Any] = json.loads((folder / "values").read_text())
    return values


def test_a_callback_that_asks_is_told_of_each_job_whatever_became_of_it(tmp_path: Path) -> None:
    (tmp_path / "break-5").touch()
    done = App(tmp_path, _BODY).run("job=0,1,2,3,5,6", *_CALLBACKS)
    assert done.code == 1
    told = _told(tmp_path)
    returned = {num: (facts["status"], facts["returned"]) for num, facts in told.items()}
    assert returned == {
        0: ("COMPLETED", "0"),
        1: ("FAILED", "one"),
        2: ("FAILED", "job 2 (job=2) FAILED: exit code 3"),
        3: ("FAILED", "job 3 (job=3) FAILED: exit code 42"),
        4: ("COMPLETED", "5"),
        5: ("COMPLETED", "6"),
    }
    assert [told[num]["exit_code"] for num in range(4)] == [None, None, 3, 42]
    for num, facts in told.items():
        job = (0, 1, 2, 3, 5, 6)[num]
        assert facts["num"] == [num] * 3
        assert (facts["job"], facts["cfg"]) == (job, {"job": job})
        assert facts["id"] == f"{done.sweep.sweep_id}_{num}"
        assert facts["dirname"] == f"job={job}"
        assert facts["overrides"] == [f"job={job}"]
        assert facts["directory"] == str(tmp_path / "sweep" / str(num))
    assert "Callback Gather.on_job_end raised ValueError: broken 5" in done.screen


@pytest.mark.slow
@both_methods
def test_it_gathers_over_all_batches_and_shows_it_when_the_multirun_ends(
    tmp_path: Path, start_method: str
) -> None:
    batches = ("hydra.sweeper.max_batch_size=2",)
    app = App(tmp_path, _BODY)
    done = app.run("job=5,6,7", *_CALLBACKS, *batches, start_method=start_method)
    assert done.code == 0, done.screen
    assert sorted(_values(tmp_path)) == [5, 6, 7]
    assert sorted(_told(tmp_path)) == [0, 1, 2]


@pytest.mark.slow
def test_it_is_told_of_a_job_that_timed_out_and_of_one_that_never_started(tmp_path: Path) -> None:
    app = App(tmp_path, _BODY)
    app.run("job=4,5", *_CALLBACKS, timeout=1, max_parallel_jobs=1, fail_fast="true")
    told = _told(tmp_path)
    assert [told[num]["returned"] for num in (0, 1)] == [
        "job 0 (job=4) TIMEOUT: timeout after 1 s",
        "job 1 (job=5) CANCELLED: never started: fail_fast: job 0 did not complete",
    ]
    assert [told[num]["cfg"] for num in (0, 1)] == [{"job": 4}, {"job": 5}]


@pytest.mark.slow
def test_it_is_told_of_a_job_whose_config_cannot_be_composed(tmp_path: Path) -> None:
    subdir = "hydra.sweep.subdir='${hydra.job.num}${nothing}'"
    App(tmp_path, _BODY).run("job=6,7", subdir, *_CALLBACKS)
    told = _told(tmp_path)
    assert [told[num]["status"] for num in (0, 1)] == ["FAILED"] * 2
    assert "nothing" in told[0]["returned"]


@pytest.mark.slow
def test_jobs_that_a_resume_does_not_run_again_are_told_too(tmp_path: Path) -> None:
    app = App(tmp_path, _BODY)
    assert app.run("job=5,6", *_CALLBACKS).code == 0
    (tmp_path / "told.jsonl").unlink()
    assert app.run("job=5,6,7", *_CALLBACKS, resume="true").code == 0
    assert sorted(_values(tmp_path)) == [5, 6, 7]
    assert sorted(_told(tmp_path)) == [0, 1, 2]


@pytest.mark.slow
def test_ctrl_c_while_a_callback_blocks_ends_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "block-5").touch()
    app = App(tmp_path, _BODY)
    with app.start("job=5,4,6", *_CALLBACKS, max_parallel_jobs=2) as sweep:
        sweep.wait_for_files("blocked")
        sweep.process.send_signal(signal.SIGINT)
        sweep.assert_all_gone()
        done = sweep.finish()
    assert done.code == 130, done.screen
    assert "Traceback" not in done.screen
    assert done.sweep.closed == "interrupted by SIGINT"
    assert 1 not in _told(tmp_path)  # The jobs that were cancelled by it are not told.


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["asking", "threads"])
def test_it_is_told_of_jobs_that_a_sweeper_submits_or_launches_in_threads(
    tmp_path: Path, kind: str
) -> None:
    sweep = Sweep(tmp_path, _BODY.replace("if cfg.job == ", "if cfg.job == 100 + "))
    done = sweep.run(kind, *_CALLBACKS)
    assert done.code == 0, done.screen
    assert sorted(_values(tmp_path)) == [0, 1, 2]
    assert sorted(_told(tmp_path)) == [0, 1, 2]
