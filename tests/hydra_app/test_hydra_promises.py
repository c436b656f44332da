"""What Hydra promises a job, a sweeper and the person at the shell holds under hsm_local."""

from __future__ import annotations

import json
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
from helpers.noting_app import FILES, environment, seen_by, sweep_app
from helpers.processes import START_METHODS, both_methods, first_fast

HYDRA_1_3 = hydra.__version__.startswith("1.3.")


@pytest.fixture(scope="module", params=START_METHODS)
def swept(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Four jobs, two of each model, in batches of three: the last batch has one."""
    folder = tmp_path_factory.mktemp("swept")
    write_files(folder, FILES)
    overrides = ["model=small,large", "lr=0.1,0.2", "hydra.sweeper.max_batch_size=3"]
    succeed(sweep_app(folder, *overrides, start_method=request.param))
    spied = [json.loads(line) for line in (folder / "spy.jsonl").read_text().splitlines()]
    return {"folder": folder, "jobs": [seen_by(folder, str(n)) for n in range(4)], "spied": spied}


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
    [
        ("'1.1'", "fork"),
        pytest.param("'1.1'", "spawn", marks=pytest.mark.slow),
        pytest.param("'1.3'", "fork", marks=pytest.mark.slow),
    ],
)
def test_version_base_decides_about_chdir(app: Path, base: str, start_method: str) -> None:
    if base == "'1.1'" and not HYDRA_1_3:
        pytest.skip("Hydra 1.4 refuses version_base 1.1")
    script = (app / "train.py").read_text()
    (app / "train.py").write_text(script.replace("version_base=None", f"version_base={base}"))
    succeed(sweep_app(app, start_method=start_method))
    job = seen_by(app, "0")
    assert job["cwd"] == (job["output_dir"] if base == "'1.1'" else str(app))


@pytest.mark.parametrize(
    ("verbose", "debugged", "start_method"),
    [
        ("train", {"train"}, "fork"),
        pytest.param("true", {"train", "other"}, "fork", marks=pytest.mark.slow),
        pytest.param("true", {"train", "other"}, "spawn", marks=pytest.mark.slow),
    ],
)
def test_verbose(app: Path, verbose: str, debugged: set[str], start_method: str) -> None:
    succeed(sweep_app(app, f"hydra.verbose={verbose}", start_method=start_method))
    log = (app / "sweep" / "0" / "train.log").read_text()
    assert {n for n in ("train", "other") if f"[{n}][DEBUG]" in log} == debugged


@pytest.mark.slow
@both_methods
def test_directories_may_depend_on_the_time_the_job_and_its_overrides(
    app: Path, start_method: str
) -> None:
    """And with chdir each job, and nobody else, works in its own."""
    dirname = "hydra.job.override_dirname" if HYDRA_1_3 else "hydra_override_dirname:"
    subdir = f"${{{dirname}}}/${{hydra.job.id}}/n${{hydra.job.num}}-lr${{lr}}"
    overrides = ["model=large", "lr=0.1,0.2", f"hydra.sweep.subdir={subdir}"]
    how = {"start_method": start_method, "sweep_dir": "times/${now:%H%M%S%f}", "jobs": 1}
    succeed(sweep_app(app, *overrides, "hydra.job.chdir=true", **how))
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


@pytest.mark.slow
@both_methods
def test_a_failure_shows_the_jobs_traceback(app: Path, start_method: str) -> None:
    done = sweep_app(app, "lr=0.1,0.2,0.3", "fail=1", start_method=start_method)
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
@pytest.mark.parametrize("config_path", first_fast("conf", "pkg://pkg.conf"))
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


@pytest.mark.slow
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
        env=environment(app),
    )
    succeed(done)
    job = read_json(elsewhere / "sweep" / "1" / "seen.json")
    assert job["cwd"] == job["original_cwd"] == str(elsewhere)
    assert job["output_dir"] == str(elsewhere / "sweep" / "1")
    assert job["cfg"]["model"] == {"width": 16}
