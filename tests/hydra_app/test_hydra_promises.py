"""What Hydra promises a job, a sweeper and the person at the shell holds under hsm_local."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import hydra
import pytest

from helpers.hydra import (
    ends,
    launcher_args,
    read_journal,
    read_json,
    run_python,
    run_sweep,
    succeed,
    write_files,
)
from helpers.processes import FORK_OR_SLOW_SPAWN, START_METHODS, both_methods

HYDRA_1_3 = hydra.__version__.startswith("1.3.")

APP = """
    import json, logging, os
    from pathlib import Path

    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import get_original_cwd, to_absolute_path
    from omegaconf import OmegaConf

    log = logging.getLogger("train")
    OmegaConf.register_new_resolver("doubled", lambda n: 2 * int(n))


    @hydra.main(version_base=None, config_path="conf", config_name="config")
    def main(cfg):
        hydra_cfg = HydraConfig.get()
        log.info("info of job %s", hydra_cfg.job.num)
        log.debug("debug of job %s", hydra_cfg.job.num)
        logging.getLogger("other").debug("other debug")
        seen = {
            "cfg": OmegaConf.to_container(cfg, resolve=True),
            "num": hydra_cfg.job.num,
            "id": hydra_cfg.job.id,
            "name": hydra_cfg.job.name,
            "mode": str(hydra_cfg.mode),
            "choices": OmegaConf.to_container(hydra_cfg.runtime.choices),
            "overrides": OmegaConf.to_container(hydra_cfg.overrides.task),
            "output_dir": hydra_cfg.runtime.output_dir,
            "runtime_cwd": hydra_cfg.runtime.cwd,
            "cwd": os.getcwd(),
            "original_cwd": get_original_cwd(),
            "absolute": to_absolute_path("data"),
            "set": os.environ.get("FROM_ENV_SET"),
            "copied": os.environ.get("COPIED"),
            "pid": os.getpid(),
        }
        Path(hydra_cfg.runtime.output_dir, "seen.json").write_text(json.dumps(seen))
        if cfg.fail == hydra_cfg.job.num:
            raise ValueError(f"boom of job {hydra_cfg.job.num}")
        return cfg.lr


    if __name__ == "__main__":
        main()
"""

SPY = """
    import json, os
    from pathlib import Path

    from hydra.experimental.callback import Callback


    class Spy(Callback):
        def note(self, event, **more):
            line = json.dumps({"event": event, "pid": os.getpid(), **more})
            with open(os.environ["SPY"], "a") as file:
                file.write(line + "\\n")

        def on_multirun_start(self, config, **kwargs):
            self.note("multirun_start")

        def on_multirun_end(self, config, **kwargs):
            self.note("multirun_end")

        def on_job_start(self, config, **kwargs):
            self.note("job_start", num=config.hydra.job.num, env=os.environ.get("FROM_ENV_SET"))

        def on_job_end(self, config, job_return, **kwargs):
            value = job_return._return_value
            self.note("job_end", num=config.hydra.job.num, status=job_return.status.name,
                      value=value if isinstance(value, float) else repr(value),
                      overrides=list(job_return.overrides))
"""

FILES = {
    "train.py": APP,
    "spy.py": SPY,
    "conf/config.yaml": """
        defaults: [model: small, _self_]
        lr: 0.5
        fail: -1
        tag: ${doubled:21}
        hydra:
          callbacks: {spy: {_target_: spy.Spy}}
          job:
            env_set: {FROM_ENV_SET: "job ${hydra.job.num}"}
            env_copy: [COPIED]
    """,
    "conf/model/small.yaml": "width: 1\n",
    "conf/model/large.yaml": "width: ${doubled:8}\n",
}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    write_files(tmp_path, FILES)
    return tmp_path


def _environment(folder: Path) -> dict[str, str]:
    return {"SPY": str(folder / "spy.jsonl"), "COPIED": "from the shell"}


def _sweep(folder: Path, *overrides: str, **how: Any) -> Any:
    return run_sweep(folder, *overrides, env=_environment(folder), **how)


def _seen(folder: Path, *parts: str) -> Any:
    return read_json(folder.joinpath("sweep", *parts, "seen.json"))


@pytest.fixture(scope="module", params=START_METHODS)
def swept(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Four jobs, two of each model, in batches of three: the last batch has one."""
    folder = tmp_path_factory.mktemp("swept")
    write_files(folder, FILES)
    overrides = ["model=small,large", "lr=0.1,0.2", "hydra.sweeper.max_batch_size=3"]
    succeed(_sweep(folder, *overrides, start_method=request.param))
    spied = [json.loads(line) for line in (folder / "spy.jsonl").read_text().splitlines()]
    return {"folder": folder, "jobs": [_seen(folder, str(n)) for n in range(4)], "spied": spied}


def test_jobs_are_numbered_across_batches(swept: dict[str, Any]) -> None:
    assert [job["num"] for job in swept["jobs"]] == [0, 1, 2, 3]
    assert len({job["id"] for job in swept["jobs"]}) == 4
    assert {type(job["id"]) for job in swept["jobs"]} == {str}


def test_batches_share_one_journal(swept: dict[str, Any]) -> None:
    events = read_journal(swept["folder"] / "sweep")
    kinds = [event["event"] for event in events]
    assert kinds[0] == "sweep"
    assert kinds.count("sweep") == 1
    submitted = [[job["job"] for job in e["jobs"]] for e in events if e["event"] == "submit"]
    assert submitted == [[0, 1, 2], [3]]
    assert kinds[-1] == "close"
    assert {event["reason"] for event in events if event["event"] == "close"} == {"finished"}
    assert {num: end["value"] for num, end in ends(swept["folder"] / "sweep").items()} == {
        0: 0.1,
        1: 0.2,
        2: 0.1,
        3: 0.2,
    }


def test_hydra_config_describes_the_job(swept: dict[str, Any]) -> None:
    for job, model, lr in zip(
        swept["jobs"], ["small", "small", "large", "large"], [0.1, 0.2, 0.1, 0.2], strict=True
    ):
        assert job["name"] == "train"
        assert job["mode"] == "RunMode.MULTIRUN"
        assert job["choices"]["model"] == model
        assert job["choices"]["hydra/launcher"] == "hsm_local"
        assert job["overrides"] == [f"model={model}", f"lr={lr}"]


def test_config_groups_and_custom_resolvers(swept: dict[str, Any]) -> None:
    assert [job["cfg"] for job in swept["jobs"]] == [
        {"model": {"width": width}, "lr": lr, "fail": -1, "tag": 42}
        for width, lr in [(1, 0.1), (1, 0.2), (16, 0.1), (16, 0.2)]
    ]


def test_output_dir_and_original_cwd_without_chdir(swept: dict[str, Any]) -> None:
    folder = str(swept["folder"])
    for num, job in enumerate(swept["jobs"]):
        assert job["output_dir"] == f"{folder}/sweep/{num}"
        assert job["cwd"] == job["runtime_cwd"] == job["original_cwd"] == folder
        assert job["absolute"] == f"{folder}/data"


def test_env_set_and_env_copy(swept: dict[str, Any]) -> None:
    assert [job["set"] for job in swept["jobs"]] == [f"job {num}" for num in range(4)]
    assert {job["copied"] for job in swept["jobs"]} == {"from the shell"}


def test_job_logging_writes_each_jobs_records_to_its_own_file(swept: dict[str, Any]) -> None:
    for num in range(4):
        folder = swept["folder"] / "sweep" / str(num)
        (line,) = (folder / "train.log").read_text().splitlines()
        assert line.endswith(f"[train][INFO] - info of job {num}")
        assert line in (folder / "stdout.log").read_text()  # Hydra's console handler


def test_hydra_saves_each_jobs_config(swept: dict[str, Any]) -> None:
    for num in range(4):
        saved = swept["folder"] / "sweep" / str(num) / ".hydra"
        assert sorted(p.name for p in saved.iterdir()) == [
            "config.yaml",
            "hydra.yaml",
            "overrides.yaml",
        ]
        assert f"num: {num}\n" in (saved / "hydra.yaml").read_text()
    assert (swept["folder"] / "sweep" / "multirun.yaml").exists()


def test_job_callbacks_run_in_the_jobs_process(swept: dict[str, Any]) -> None:
    starts = {s["num"]: s for s in swept["spied"] if s["event"] == "job_start"}
    finals = {s["num"]: s for s in swept["spied"] if s["event"] == "job_end"}
    assert len(swept["spied"]) == 10
    for num, job in enumerate(swept["jobs"]):
        assert starts[num]["pid"] == finals[num]["pid"] == job["pid"]
        assert starts[num]["env"] == job["set"]
        assert finals[num]["status"] == "COMPLETED"
        assert finals[num]["value"] == job["cfg"]["lr"]
        assert finals[num]["overrides"] == job["overrides"]


def test_multirun_callbacks_run_in_the_launcher(swept: dict[str, Any]) -> None:
    first, last = swept["spied"][0], swept["spied"][-1]
    assert (first["event"], last["event"]) == ("multirun_start", "multirun_end")
    assert first["pid"] == last["pid"] == read_journal(swept["folder"] / "sweep")[0]["pid"]
    assert first["pid"] not in {job["pid"] for job in swept["jobs"]}


@pytest.mark.parametrize(
    ("base", "start_method"),
    [("'1.3'", "fork"), ("'1.1'", "fork"), pytest.param("'1.1'", "spawn", marks=pytest.mark.slow)],
)
def test_version_base_decides_about_chdir(app: Path, base: str, start_method: str) -> None:
    if base == "'1.1'" and not HYDRA_1_3:
        pytest.skip("Hydra 1.4 refuses version_base 1.1")
    script = (app / "train.py").read_text()
    (app / "train.py").write_text(script.replace("version_base=None", f"version_base={base}"))
    succeed(_sweep(app, start_method=start_method))
    job = _seen(app, "0")
    assert job["cwd"] == (job["output_dir"] if base == "'1.1'" else str(app))


@pytest.mark.parametrize(
    ("verbose", "debugged", "start_method"),
    [
        ("train", {"train"}, "fork"),
        ("true", {"train", "other"}, "fork"),
        pytest.param("true", {"train", "other"}, "spawn", marks=pytest.mark.slow),
    ],
)
def test_verbose(app: Path, verbose: str, debugged: set[str], start_method: str) -> None:
    succeed(_sweep(app, f"hydra.verbose={verbose}", start_method=start_method))
    log = (app / "sweep" / "0" / "train.log").read_text()
    assert {n for n in ("train", "other") if f"[{n}][DEBUG]" in log} == debugged


@both_methods
def test_directories_may_depend_on_the_time_the_job_and_its_overrides(
    app: Path, start_method: str
) -> None:
    """And with chdir each job, and nobody else, works in its own."""
    dirname = "hydra.job.override_dirname" if HYDRA_1_3 else "hydra_override_dirname:"
    subdir = f"${{{dirname}}}/${{hydra.job.id}}/n${{hydra.job.num}}-lr${{lr}}"
    overrides = ["model=large", "lr=0.1,0.2", f"hydra.sweep.subdir={subdir}"]
    how = {"start_method": start_method, "sweep_dir": "times/${now:%H%M%S%f}", "jobs": 1}
    succeed(_sweep(app, *overrides, "hydra.job.chdir=true", **how))
    (sweep_dir,) = (app / "times").iterdir()
    for num, lr in enumerate((0.1, 0.2)):
        (path,) = sweep_dir.glob(f"lr={lr},model=large/*/n{num}-lr{lr}/seen.json")
        seen = read_json(path)
        assert seen["num"] == num
        assert path.parent.parent.name == seen["id"]
        assert seen["output_dir"] == seen["cwd"] == str(path.parent)
        assert seen["original_cwd"] == str(app)
        assert seen["absolute"] == str(app / "data")
        assert ends(sweep_dir)[num]["job_dir"] == str(path.parent)
        assert (path.parent / "stdout.log").exists()


@both_methods
def test_a_failure_shows_the_jobs_traceback(app: Path, start_method: str) -> None:
    done = _sweep(app, "lr=0.1,0.2,0.3", "fail=1", start_method=start_method)
    assert done.code == 1
    source = (app / "train.py").read_text().splitlines()
    line = next(n for n, text in enumerate(source, 1) if "raise ValueError" in text)
    assert f'train.py", line {line}, in main' in done.text
    assert "ValueError: boom of job 1" in done.text
    assert "boom of job 0" not in done.text
    finals = [json.loads(x) for x in (app / "spy.jsonl").read_text().splitlines()]
    status = {s["num"]: (s["status"], s["value"]) for s in finals if s["event"] == "job_end"}
    assert status == {
        0: ("COMPLETED", 0.1),
        1: ("FAILED", "ValueError('boom of job 1')"),
        2: ("COMPLETED", 0.3),
    }


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


def _show(app: Path, *args: str, **env: str) -> Any:
    return succeed(run_python(app, "train.py", *args, env={**_environment(app), **env}))


def test_cfg_shows_the_settings(app: Path) -> None:
    args = ["--cfg", "hydra", "-p", "hydra.launcher", "--resolve"]
    shown = _show(app, "hydra/launcher=hsm_local", "hydra.launcher.timeout=90", *args).out
    for line in (
        "_target_: hydra_plugins.hsm_local_launcher.launcher.HsmLocalLauncher",
        "max_parallel_jobs: 4",
        "timeout: 90",
        "show_output: false",
        "cleanup_on_exit: true",
        "start_method: auto",
        "kill_grace: 5",
        "fail_fast: false",
        "progress: auto",
    ):
        assert re.search(rf"^{re.escape(line)}(\.0)?$", shown, re.MULTILINE), line


def test_help_names_the_launcher_among_the_groups(app: Path) -> None:
    assert re.search(r"hydra/launcher:.*\bhsm_local\b", _show(app, "--hydra-help").out)
    assert "tag: ${doubled:21}" in _show(app, "hydra/launcher=hsm_local", "--help").out


def test_info_lists_the_plugin(app: Path) -> None:
    assert "HsmLocalLauncher" in _show(app, "--info", "plugins").out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hydra/launcher=", {"hydra/launcher=basic", "hydra/launcher=hsm_local"}),
        (
            "hydra/launcher=hsm_local hydra.launcher.",
            {
                "hydra.launcher.max_parallel_jobs=",
                "hydra.launcher.timeout=",
                "hydra.launcher.show_output=",
                "hydra.launcher.start_method=",
            },
        ),
        ("hydra/launcher=hsm_local hydra.launcher.kill", {"hydra.launcher.kill_grace="}),
    ],
    ids=["group", "settings", "prefix"],
)
def test_tab_completion(app: Path, line: str, expected: set[str]) -> None:
    typed = "python train.py " + line
    done = _show(app, "-sc", "query=bash", COMP_LINE=typed, COMP_POINT=str(len(typed)))
    assert expected <= set(done.out.split())


#: Each is refused for another reason. What values are refused is tested in tests/settings.
BAD_SETTINGS = [
    ("max_parallel_job", "2"),
    ("max_parallel_jobs", "0"),
    ("max_parallel_jobs", "many"),
    ("+unheard_of", "1"),
]


@pytest.mark.parametrize(("setting", "value"), BAD_SETTINGS)
def test_bad_settings_are_refused_by_name_before_any_job(
    app: Path, setting: str, value: str
) -> None:
    override = re.sub(r"^(\+?)", r"\1hydra.launcher.", setting) + f"={value}"
    done = run_python(
        app, "train.py", "-m", *launcher_args(), override, "lr=0.1,0.2", env=_environment(app)
    )
    assert done.code == 1
    assert setting.lstrip("+") in done.text
    if "+" not in setting and setting != "max_parallel_job":
        assert value in done.text.lower().replace("none", "null")
    assert "Traceback" not in done.text
    assert not list(app.rglob("seen.json"))
    assert not list(app.rglob("*.out"))


def test_bad_settings_in_a_config_file_are_refused_too(app: Path) -> None:
    with (app / "conf" / "config.yaml").open("a") as file:
        file.write("  launcher: {max_parallel_jobs: 0}\n")
    done = run_python(
        app, "train.py", "-m", "hydra/launcher=hsm_local", "lr=0.1,0.2", env=_environment(app)
    )
    assert done.code == 1
    assert "max_parallel_jobs" in done.text
    assert "Traceback" not in done.text
    assert not list(app.rglob("seen.json"))


def test_the_launcher_and_its_settings_may_come_from_the_config(app: Path) -> None:
    text = (app / "conf" / "config.yaml").read_text()
    text = text.replace("_self_]", "_self_, {override hydra/launcher: hsm_local}]")
    (app / "conf" / "config.yaml").write_text(text + "  launcher: {max_parallel_jobs: 3}\n")
    args = ["-m", "hydra.sweep.dir=sweep", "lr=0.1,0.2"]
    succeed(run_python(app, "train.py", *args, env=_environment(app)))
    assert read_journal(app / "sweep")[0]["settings"]["max_parallel_jobs"] == 3


PACKAGE = {
    "pkg/__init__.py": "",
    "pkg/helper.py": "def name(cfg):\n    return cfg.model.name\n",
    "pkg/late.py": "HERE = __name__\n",
    "pkg/train.py": """
        import os
        from dataclasses import dataclass

        import hydra
        from hydra.core.config_store import ConfigStore
        from .helper import name


        @dataclass
        class Schema:
            depth: int = 5


        ConfigStore.instance().store(group="schema", name="deep", node=Schema)


        @hydra.main(version_base=None, config_path="{config_path}", config_name="config")
        def main(cfg):
            from . import late
            return [name(cfg), cfg.schema.depth, __name__, __package__, late.HERE, os.getcwd()]


        if __name__ == "__main__":
            main()
    """,
    "pkg/conf/__init__.py": "",
    "pkg/conf/config.yaml": "defaults: [model: small, schema: deep]\n",
    "pkg/conf/model/small.yaml": "name: small\n",
    "more/model/huge.yaml": "name: huge\n",
    "extra_pkg/__init__.py": "",
    "extra_pkg/model/vast.yaml": "name: vast\n",
}


@both_methods
@pytest.mark.parametrize("config_path", ["conf", "pkg://pkg.conf"])
def test_a_module_with_relative_imports_and_more_search_paths(
    tmp_path: Path, config_path: str, start_method: str
) -> None:
    files = {k: v.replace("{config_path}", config_path) for k, v in PACKAGE.items()}
    write_files(tmp_path, files)
    search = "hydra.searchpath=[file://more,pkg://extra_pkg]"
    overrides = ["model=small,huge,vast", search]
    succeed(run_sweep(tmp_path, *overrides, start_method=start_method, script=("-m", "pkg.train")))
    for num, model in enumerate(("small", "huge", "vast")):
        expected = [model, 5, "__main__", "pkg", "pkg.late", str(tmp_path)]
        assert ends(tmp_path / "sweep")[num]["value"] == expected


@both_methods
def test_a_script_started_from_elsewhere(app: Path, start_method: str) -> None:
    elsewhere = app / "else where"
    elsewhere.mkdir()
    done = run_python(
        elsewhere,
        "../train.py",
        "-m",
        *launcher_args(start_method),
        "hydra.sweep.dir=sweep",
        "model=small,large",
        env=_environment(app),
    )
    succeed(done)
    job = read_json(elsewhere / "sweep" / "1" / "seen.json")
    assert job["cwd"] == job["original_cwd"] == str(elsewhere)
    assert job["output_dir"] == str(elsewhere / "sweep" / "1")
    assert job["cfg"]["model"] == {"width": 16}
