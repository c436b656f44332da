"""A Hydra job that ends early is PRUNED, and what a sweeper gets is what it has reported last."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.hydra import ends, read_json, run_python, run_sweep, succeed, write_files
from helpers.processes import FORK_OR_SLOW_SPAWN

APP = """
    import json, sys
    from pathlib import Path

    import hydra
    import hsm
    from hydra.experimental.callback import Callback


    class Noting(Callback):
        def on_job_end(self, config, job_return, **kwargs):
            note = [job_return.status.name, job_return.return_value]
            Path(f"callback-{config.kind}.json").write_text(json.dumps(note))


    @hydra.main(version_base=None, config_path=None)
    def main(config):
        for step in range(3):
            hsm.report(step * 0.5, step=step)
        if config.kind == "hsm":
            raise hsm.Pruned("too slow")
        if config.kind == "optuna":
            raise type("TrialPruned", (Exception,), {"__module__": "optuna.exceptions"})
        return 7.0


    if __name__ == "__main__":
        main()
"""

SWEEPER = """
    import json
    from pathlib import Path

    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins
    from hydra.plugins.sweeper import Sweeper


    class Telling(Sweeper):
        def setup(self, *, hydra_context, task_function, config):
            self.launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context, task_function=task_function, config=config
            )

        def sweep(self, arguments):
            jobs = [[f"+kind={kind}"] for kind in ("hsm", "optuna", "none")]
            told = [
                [result.status.name, result.return_value, result.cfg.kind]
                for result in self.launcher.launch(jobs, initial_job_idx=0)
            ]
            Path("told.json").write_text(json.dumps(told))


    ConfigStore.instance().store(
        group="hydra/sweeper", name="telling", node={"_target_": "hydra_plugins.telling.Telling"}
    )
"""


@pytest.mark.parametrize("start_method", FORK_OR_SLOW_SPAWN)
def test_a_pruned_job_has_completed_for_a_sweeper(tmp_path: Path, start_method: str) -> None:
    write_files(tmp_path, {"train.py": APP, "hydra_plugins/telling.py": SWEEPER})
    done = succeed(
        run_sweep(
            tmp_path,
            "hydra/sweeper=telling",
            "+hydra.callbacks.noting._target_=__main__.Noting",
            start_method=start_method,
            env={"PYTHONPATH": str(tmp_path)},
        )
    )
    assert read_json(tmp_path / "told.json") == [
        ["COMPLETED", 1.0, "hsm"],
        ["COMPLETED", 1.0, "optuna"],
        ["COMPLETED", 7.0, "none"],
    ]
    assert read_json(tmp_path / "callback-hsm.json") == ["COMPLETED", 1.0]
    assert read_json(tmp_path / "callback-optuna.json") == ["COMPLETED", 1.0]
    assert "2 pruned" in done.text
    assert "job 0 PRUNED" in done.text
    assert "Traceback" not in done.text
    for num, reason in enumerate(["too slow", "pruned at step 2"]):
        end = ends(tmp_path / "sweep")[num]
        assert (end["state"], end["exit_code"], end["reason"]) == ("PRUNED", 0, reason)
        assert end["objective"] == 1.0
        assert not {"value", "error_type", "error_message"} & set(end)
        assert (tmp_path / "sweep" / ".hsm" / "logs" / f"{num}.err").read_text() == ""
        assert "Traceback" not in (tmp_path / "sweep" / str(num) / "train.log").read_text()


def test_a_pruned_job_fails_no_sweep_of_hydras_own_sweeper(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": APP})
    done = succeed(run_sweep(tmp_path, "+kind=hsm,none", "hydra.launcher.fail_fast=true"))
    assert "1 completed" in done.text
    assert "1 pruned" in done.text
    again = succeed(run_sweep(tmp_path, "+kind=hsm,none", "hydra.launcher.resume=true"))
    assert "2 of 2 jobs are already done and will not run again" in again.text


def test_without_hsm_the_app_runs_as_ever(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": APP})
    succeed(run_python(tmp_path, "train.py", "+kind=none"))
    done = run_python(tmp_path, "train.py", "+kind=hsm")
    assert done.code == 1
    assert "hsm.Pruned: too slow" in done.text
