"""Sweepers that submit in batches and do not mind failures, as Optuna's: to hsm one sweep."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from helpers.processes import App, Finished, first_fast
from helpers.reliability import journal_events
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

_SWEEPER = """
    from dataclasses import dataclass
    from pathlib import Path

    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins
    from hydra.plugins.sweeper import Sweeper


    class Tolerant(Sweeper):
        "Eight jobs in batches of two; notes what each came to."

        def setup(self, *, hydra_context, task_function, config):
            self.config = config
            self.launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context, task_function=task_function, config=config
            )

        def sweep(self, arguments):
            with open("returned", "a") as file:
                for first in range(0, 8, 2):
                    batch = [[f"job={first}"], [f"job={first + 1}"]]
                    for result in self.launcher.launch(batch, initial_job_idx=first):
                        try:
                            print(result.return_value, file=file)
                        except Exception as error:
                            print(type(error).__name__, file=file)


    @dataclass
    class TolerantConf:
        _target_: str = "hydra_plugins.tolerant.Tolerant"


    ConfigStore.instance().store(group="hydra/sweeper", name="tolerant", node=TolerantConf)
"""


class Batches:
    """An app whose sweeper is `Tolerant`."""

    def __init__(self, folder: Path, body: str) -> None:
        self.folder = folder
        self.app = App(folder, body)
        (folder / "hydra_plugins").mkdir()
        (folder / "hydra_plugins" / "tolerant.py").write_text(dedent(_SWEEPER))

    def run(self, **settings: Any) -> Finished:
        # The script's own folder is on sys.path, and hydra_plugins is a namespace.
        return self.app.run("hydra/sweeper=tolerant", "job=0", **settings)

    def returned(self) -> list[str]:
        """What the sweeper got for each job."""
        return (self.folder / "returned").read_text().split()


def test_batches_are_one_sweep_with_one_record(tmp_path: Path) -> None:
    batches = Batches(tmp_path, "def job(cfg): return 10 // (cfg.job - 3)")
    done = batches.run()
    assert done.code == 0
    values = [str(10 // (n - 3)) if n != 3 else "ZeroDivisionError" for n in range(8)]
    assert batches.returned() == values
    assert done.states == ["COMPLETED"] * 3 + ["FAILED"] + ["COMPLETED"] * 4
    events = [event["event"] for event in journal_events(done.sweep_dir)]
    assert (events.count("sweep"), events.count("close"), events[-1]) == (1, 1, "close")
    assert read_sweep(done.sweep_dir).closed == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"", b"\0" * 40, None], ids=["empty", "zeros", "gone"])
def test_a_completed_job_whose_result_file_is_damaged_still_has_its_value(
    tmp_path: Path, damage: bytes | None
) -> None:
    """As a power cut can leave it: the journal has the value, the file is empty, zeroed or gone."""
    batches = Batches(tmp_path, "def job(cfg): return cfg.job + 0.5")
    assert batches.run().code == 0
    result = tmp_path / "sweep" / ".hsm" / "results" / "1.pkl"
    if damage is None:
        result.unlink()
    else:
        result.write_bytes(damage)
    done = batches.run(resume="true")
    assert done.code == 0
    assert batches.returned()[8:] == [str(n + 0.5) for n in range(8)]
    assert [len(job.attempts) for job in done.jobs.values()] == [1] * 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    first_fast({"max_failures": 3}, {"max_consecutive_failures": 3}, {"fail_fast": "true"}),
)
def test_failures_count_over_all_batches(tmp_path: Path, setting: dict[str, Any]) -> None:
    batches = Batches(tmp_path, "def job(cfg): raise ValueError(cfg.job)")
    done = batches.run(**setting)
    started = [job.num for job in done.jobs.values() if job.attempts]
    # Two run at a time: beside the job that breaks the policy one more may have been started.
    assert len(started) <= 4
    assert any("fail" in job.ending() for job in done.jobs.values() if not job.attempts) or (
        len(done.jobs) == len(started)
    )


@pytest.mark.slow
def test_the_median_is_that_of_all_batches(tmp_path: Path) -> None:
    """Of batches of two none has the three completed jobs that a median takes."""
    batches = Batches(
        tmp_path,
        """
        def job(cfg):
            if cfg.job == 7:
                time.sleep(12)
            time.sleep(0.2)
            return cfg.job
        """,
    )
    done = batches.run(timeout_factor=10, seconds=40)
    assert done.states == ["COMPLETED"] * 7 + ["TIMEOUT"]
