"""What a sweeper is told of each job: its value or its failure, as Hydra's JobReturn."""

from __future__ import annotations

import re
from typing import Any

import pytest

from helpers.hydra import (
    ends,
    read_json,
    run_sweep,
    succeed,
    write_files,
)
from helpers.processes import FORK_OR_SLOW_SPAWN

SWEEPER = """
    import json, sys, traceback
    from pathlib import Path

    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins
    from hydra.plugins.sweeper import Sweeper
    from omegaconf import OmegaConf


    class AskingSweeper(Sweeper):
        def setup(self, *, hydra_context, task_function, config):
            self.config = config
            self.launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context, task_function=task_function, config=config
            )

        def sweep(self, arguments):
            kinds = arguments[0].split("=")[1].strip("'").split(";")
            batches = [kinds[:3], kinds[3:]]
            told = []
            for batch in batches:
                jobs = [[f"+kind={kind}"] for kind in batch]
                told += map(describe, self.launcher.launch(jobs, initial_job_idx=len(told)))
            Path("told.json").write_text(json.dumps(told))


    def describe(job_return):
        told = {"status": job_return.status.name, "overrides": list(job_return.overrides)}
        if job_return.cfg is not None:
            told["cfg"] = OmegaConf.to_container(job_return.cfg)
            told["num"] = job_return.hydra_cfg.hydra.job.num
            told["working_dir"] = job_return.working_dir
            told["task_name"] = job_return.task_name
        try:
            value = job_return.return_value
        except Exception as error:
            value = error
            told["message"] = str(error)
            told["traceback"] = "".join(traceback.format_exception(error))
            told["data"] = getattr(error, "data", None)
        told["value"] = repr(value)
        told["type"] = type(value).__name__
        told["from_main"] = type(value) is getattr(sys.modules["__main__"], type(value).__name__, 0)
        return told


    ConfigStore.instance().store(
        group="hydra/sweeper",
        name="asking",
        node={"_target_": "hydra_plugins.asking.AskingSweeper"},
    )
"""

ANSWERS = """
    import os, signal, sys, threading
    from dataclasses import dataclass

    import hydra


    @dataclass
    class Point:
        x: int


    class WithData(Exception):
        def __init__(self, data):
            super().__init__("with data")
            self.data = data


    class NotPickled(Exception):
        def __init__(self, message, lock):
            super().__init__(message)
            self.lock = lock


    class NotUnpickled(Exception):
        def __init__(self, one, two):
            super().__init__("only one argument kept")


    def fail(kind):
        if kind == "raises":
            raise WithData([1, 2])
        if kind == "not_pickled":
            raise NotPickled("holds a lock", threading.Lock())
        if kind == "not_unpickled":
            raise NotUnpickled(1, 2)
        if kind == "exit3":
            sys.exit(3)
        if kind == "exit0":
            sys.exit(0)
        os.kill(os.getpid(), signal.SIGKILL)


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        if cfg.kind in ANSWERS:
            return ANSWERS[cfg.kind]
        if cfg.kind == "lock":
            return threading.Lock()
        fail(cfg.kind)


    ANSWERS = {"none": None, "number": 0.25, "point": Point(3), "config": {"a": [1, None]}}

    if __name__ == "__main__":
        main()
"""
KINDS = [
    *("number", "raises", "point", "exit3", "none", "config"),
    *("not_pickled", "not_unpickled", "lock", "killed", "exit0"),
]


@pytest.fixture(scope="module", params=FORK_OR_SLOW_SPAWN)
def told(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a sweeper was told of each kind of job, and all that was printed and logged."""
    folder = tmp_path_factory.mktemp("told")
    write_files(folder, {"train.py": ANSWERS, "hydra_plugins/asking.py": SWEEPER})
    overrides = ["hydra/sweeper=asking", "+kind='" + ";".join(KINDS) + "'"]
    done = succeed(run_sweep(folder, *overrides, start_method=request.param))
    jobs = read_json(folder / "told.json")
    return {"folder": folder, "text": done.text, **dict(zip(KINDS, jobs, strict=True))}


def test_a_sweeper_gets_a_return_for_each_job_in_order(told: dict[str, Any]) -> None:
    for num, kind in enumerate(KINDS):
        assert told[kind]["overrides"] == [f"+kind={kind}"]
        state = "FAILED" if kind in FAILING else "COMPLETED"
        assert told[kind]["status"] == ends(told["folder"] / "sweep")[num]["state"] == state
        if state == "COMPLETED" and kind != "exit0":
            assert told[kind]["cfg"] == {"kind": kind}
            assert told[kind]["num"] == num
            assert told[kind]["working_dir"] == str(told["folder"])
            assert told[kind]["task_name"] == "train"


FAILING = {
    "raises": ("WithData", "with data"),
    "not_pickled": ("NotPickled", "holds a lock"),
    "not_unpickled": ("NotUnpickled", "only one argument kept"),
    "exit3": ("JobFailed", "exit code 3"),
    "killed": ("JobFailed", "SIGKILL"),
}


def test_return_values_keep_their_type(told: dict[str, Any]) -> None:
    values = {kind: told[kind]["value"] for kind in ("number", "point", "none", "config", "exit0")}
    assert values == {
        "number": "0.25",
        "point": "Point(x=3)",
        "none": "None",
        "config": "{'a': [1, None]}",
        "exit0": "None",
    }
    assert told["point"]["from_main"]


def test_a_value_that_cannot_be_pickled_becomes_none_with_a_warning(told: dict[str, Any]) -> None:
    assert told["lock"]["value"] == "None"
    warnings = [line for line in told["text"].splitlines() if "_thread.lock" in line]
    assert len(warnings) == 1
    assert "8" in warnings[0]  # the job's number


@pytest.mark.parametrize("kind", FAILING)
def test_failures_keep_type_message_and_traceback(told: dict[str, Any], kind: str) -> None:
    error_type, message = FAILING[kind]
    assert message in told[kind]["message"]
    # An exception that cannot come over is represented by one that names it.
    assert error_type in told[kind]["type"] + told[kind]["message"]
    if error_type != "JobFailed":
        assert "in fail" in told[kind]["traceback"]
        assert re.search(r'train\.py", line \d+, in main', told[kind]["traceback"])
        assert f"{error_type}: {message}" in told[kind]["traceback"]


def test_an_exception_that_can_be_pickled_is_itself(told: dict[str, Any]) -> None:
    assert told["raises"]["from_main"]
    assert told["raises"]["data"] == [1, 2]
