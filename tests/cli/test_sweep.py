"""`hsm sweep`: what runs, over which points, and what is said about it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from helpers.cli import Project
from helpers.processes import PATIENCE, SOURCE

pytestmark = pytest.mark.thorough

#: Writes what a job sees.
_TELL = """\
import json, os, sys
from pathlib import Path
from textwrap import dedent
from typing import Any

names = ("HSM_PARAMS", "HSM_JOB_DIR", "HSM_JOB_NUM", "HSM_SWEEP_ID")
seen = {name: os.environ[name] for name in names}
Path("seen-" + os.environ["HSM_JOB_NUM"]).write_text(
    json.dumps({**seen, "argv": sys.argv[1:], "cwd": os.getcwd()})
)
"""


def _seen(project: Project, num: int) -> dict[str, Any]:
    return dict(json.loads((project.folder / f"seen-{num}").read_text()))


def test_overrides_on_the_line_run_a_script(project: Project) -> None:
    project.write("tell.py", _TELL)
    ran = project.here("sweep", "--script", "tell.py", "lr=0.1,0.01", "seed=range(2)")
    assert "4 jobs: 4 completed" in ran.out
    assert _seen(project, 3)["argv"] == ["lr=0.01", "seed=1"]
    assert json.loads(_seen(project, 3)["HSM_PARAMS"]) == {"lr": 0.01, "seed": 1}
    assert Path(_seen(project, 0)["cwd"]) == project.folder
    job_dir = Path(_seen(project, 2)["HSM_JOB_DIR"])
    assert job_dir == project.folder / "outputs" / _seen(project, 2)["HSM_SWEEP_ID"] / "2"


def test_a_command_after_two_dashes_takes_everything_that_follows(project: Project) -> None:
    line = "import sys; print(sys.argv[1:])"
    command = [sys.executable, "-c", line, "--detach", "-n", "--", "{x}", "{{y}}", "{job_dir}"]
    project.here("sweep", "x=1,a b", "--sweep-id", "s", "--", *command)
    logs = [project.sweep("s").paths.stdout(num).read_text() for num in (0, 1)]
    job_dirs = [str(project.folder / "outputs" / "s" / str(num)) for num in (0, 1)]
    assert logs[0] == f"{['--detach', '-n', '--', '1', '{y}', job_dirs[0]]}\n"
    assert logs[1] == f"{['--detach', '-n', '--', 'a b', '{y}', job_dirs[1]]}\n"


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("conf/sweep.yaml", "sweep:\n  grid: {a: [1, 2], b: 'range(3)'}\n  jobs: [{a: 7}]\n", 7),
        ("sweeps/sweep.yaml", "sweep: {paired: [{p: {a: [1, 2], b: [3, 4]}}]}\n", 2),
    ],
)
def test_a_sweep_file_in_its_usual_place_is_read(
    project: Project, name: str, text: str, count: int
) -> None:
    project.write(name, text)
    assert project.here("sweep", "--count-only").out == f"{count}\n"


def test_conf_comes_before_sweeps(project: Project) -> None:
    project.write("conf/sweep.yaml", "sweep: {grid: {a: [1, 2]}}")
    project.write("sweeps/sweep.yaml", "sweep: {grid: {a: [1, 2, 3]}}")
    assert project.here("sweep", "--count-only").out == "2\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.csv", "a,b\n1,x\n2,y\n"),
        ("s.jsonl", '{"a": 1, "b": "x"}\n{"a": 2, "b": "y"}\n'),
        ("s.yaml", "sweep: {jobs: [{a: 1, b: x}, {a: 2, b: y}]}"),
    ],
)
def test_a_sweep_file_of_each_kind(project: Project, name: str, text: str) -> None:
    project.write(name, text)
    ran = project.here("sweep", "-c", name, "--dry-run", "--", "echo", "{a}", "{b}")
    assert [line.partition(": ")[2] for line in ran.out.splitlines()] == ["echo 1 x", "echo 2 y"]


def test_overrides_have_the_last_word_on_a_file(project: Project) -> None:
    project.write("s.yaml", "sweep: {grid: {a: [1, 2], b: [3, 4]}}")
    ran = project.here("sweep", "--config", "s.yaml", "b=5", "--dry-run", "--", "echo", "{a}{b}")
    assert [line.partition(": ")[2] for line in ran.out.splitlines()] == ["echo 15", "echo 25"]


def test_overrides_alone_are_the_whole_sweep(project: Project) -> None:
    project.write("conf/sweep.yaml", "sweep: {grid: {a: [1, 2]}}")
    assert project.here("sweep", "x=1,2,3", "--count-only").out == "3\n"


@pytest.mark.parametrize(
    ("text", "seen"),
    [("script: tell.py\n", ["x=1"]), ("command: [python3, tell.py, '{x}']", ["1"])],
)
def test_hsm_yaml_says_what_runs(project: Project, text: str, seen: list[str]) -> None:
    project.write("tell.py", _TELL)
    project.write("hsm.yaml", text)
    project.here("sweep", "x=1")
    assert _seen(project, 0)["argv"] == seen


def test_output_dir_of_hsm_yaml_holds_the_sweeps(project: Project) -> None:
    project.write("hsm.yaml", "output_dir: elsewhere\ncommand: [echo, '{x}']\n")
    project.here("sweep", "x=1", "--sweep-id", "one")
    assert (project.folder / "elsewhere/one/.hsm/journal.jsonl").exists()
    assert "one: 1 job" in project.here("monitor", "one", "--once").out


def test_a_dry_run_shows_what_would_run_and_runs_nothing(project: Project) -> None:
    command = ["sh", "-c", "echo {x} > {job_dir}/out; touch ran"]
    arguments = ("sweep", 'x=1,"it\'s"', "--sweep-id", "s", "--dry-run")
    ran = project.here(*arguments, "--", *command)
    assert list(project.folder.iterdir()) == []
    [first, second] = ran.out.splitlines()
    assert first.startswith("job 0 in outputs/s/0: sh -c ")
    # The line can be pasted into a shell.
    script = shlex.split(second.partition(": ")[2])
    assert script[2] == f"echo it's > {project.folder}/outputs/s/1/out; touch ran"
    listed = [
        json.loads(line)
        for line in project.here(*arguments, "--json", "--", *command).out.splitlines()
    ]
    assert [job["params"] for job in listed] == [{"x": 1}, {"x": "it's"}]
    assert listed[1]["command"] == script


def test_what_a_dry_run_lists_is_what_runs(project: Project) -> None:
    project.write("tell.py", _TELL)
    arguments = ("sweep", "--script", "tell.py", "x='a, b',null", "y=[1,{k:v}]", "--sweep-id", "s")
    listed = [
        shlex.split(line.partition(": ")[2])
        for line in project.here(*arguments, "--dry-run").out.splitlines()
    ]
    project.here(*arguments)
    assert [words[words.index("./tell.py") + 1 :] for words in listed] == [
        _seen(project, num)["argv"] for num in (0, 1)
    ]


def test_a_million_points_are_counted_and_cut_at_once(project: Project) -> None:
    points = ("a=range(1000)", "b=range(1000)", "c=range(1000000)")
    begun = time.monotonic()
    assert project.here("sweep", *points, "--count-only").out == "1000000000000\n"
    assert project.here("sweep", *points, "--count-only", "--max-runs", "3").out == "3\n"
    ran = project.here("sweep", *points, "--max-runs", "2", "--sweep-id", "s", "--", "echo", "{c}")
    assert "2 jobs: 2 completed" in ran.out
    assert [job.params["c"] for job in project.sweep("s").jobs.values()] == [0, 1]
    assert time.monotonic() - begun < PATIENCE, "the points were written out"


def test_a_long_dry_run_can_be_cut_by_its_reader(project: Project) -> None:
    line = f"{shlex.quote(sys.executable)} -m hsm.cli.main sweep 'a=range(10000000)' --dry-run"
    done = subprocess.run(
        ["sh", "-c", f"{line} -- echo | head -n 2"],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.count("\n") == 2
    assert done.stderr == ""


def test_count_only_needs_nothing_to_run(project: Project) -> None:
    assert project.here("sweep", "x=1,2", "--count-only").out == "2\n"
    assert project.here("sweep", "x=1,2", "--count-only", "--json").json == {"jobs": 2}


def test_exit_code_1_if_a_job_did_not_complete(project: Project) -> None:
    ran = project.here("sweep", "x=0,1", "--sweep-id", "s", "--", "sh", "-c", "exit {x}", code=1)
    assert project.states("s") == ["COMPLETED", "FAILED"]
    assert "job 1 FAILED" in ran.out
    assert "exit code 1" in ran.out


def test_json_on_stdout_is_all_there_is(project: Project) -> None:
    arguments = ("sweep", "x=0,3", "--sweep-id", "s", "--json", "--", "sh", "-c", "exit {x}")
    ran = project.here(*arguments, code=1)
    assert ran.json == {
        "sweep_id": "s",
        "sweep_dir": str(project.folder / "outputs" / "s"),
        "jobs": 2,
        "states": {"COMPLETED": 1, "FAILED": 1},
        "not_completed": [1],
        "metric": None,
        "direction": None,
        "best": None,
        "highest": None,
        "lowest": None,
        "failures": [{"state": "FAILED", "message": "exit code 3", "jobs": [1]}],
        "interrupted_by": None,
    }
    assert "job 1 FAILED" in ran.err


def test_settings_come_from_flags_first(project: Project) -> None:
    project.write("hsm.yaml", "local: {max_parallel_jobs: 3, timeout: 7}\n")
    project.hsm(
        *(
            "sweep",
            "x=1",
            "--sweep-id",
            "s",
            "--timeout",
            "2h",
            "--no-cleanup-on-exit",
            "--",
            "true",
        ),
        HSM_LOCAL_KILL_GRACE="9",
        HSM_LOCAL_TIMEOUT="3",
    )
    settings = project.sweep("s").header["settings"]
    assert settings["timeout"] == 7200
    assert settings["max_parallel_jobs"] == 3
    assert settings["kill_grace"] == 9
    assert settings["cleanup_on_exit"] is False


def test_timeout_and_parallel_jobs(project: Project) -> None:
    ran = project.here(
        *("sweep", "x=30,0", "--parallel-jobs", "1", "--timeout", "0.5s", "--kill-grace", "0"),
        *("--sweep-id", "s", "--", "sleep", "{x}"),
        code=1,
    )
    assert project.states("s") == ["TIMEOUT", "COMPLETED"]
    assert "timeout after 0.5 s" in ran.out


def test_show_output(project: Project) -> None:
    shown = project.here("sweep", "x=1,2", "--show-output", "--", "echo", "I am {x}").out
    assert "[0] I am 1" in shown
    assert "[1] I am 2" in shown
    hidden = project.here("sweep", "x=1,2", "--no-show-output", "--", "echo", "I am {x}").out
    assert "I am" not in hidden


def test_fail_fast(project: Project) -> None:
    project.here(
        *("sweep", "x=1,0,0", "--parallel-jobs", "1", "--fail-fast", "--sweep-id", "s"),
        *("--", "sh", "-c", "exit {x}"),
        code=1,
    )
    assert project.states("s") == ["FAILED", "CANCELLED", "CANCELLED"]


def test_sweep_dir_is_where_it_goes(project: Project) -> None:
    project.here("sweep", "x=1", "--sweep-dir", "deep/down", "--sweep-id", "s", "--", "true")
    assert (project.folder / "deep/down/0").is_dir()
    assert "s: 1 job: 1 completed" in project.here("monitor", "s", "--once").out


def test_without_an_id_two_sweeps_never_share_one(project: Project) -> None:
    ids = set()
    for _ in range(3):
        ids.add(project.here("sweep", "x=1", "--json", "--", "true").json["sweep_id"])
    assert len(ids) == 3
    assert all(sweep_id.startswith("true-") for sweep_id in ids)


def test_resume_needs_nothing_typed_again(project: Project) -> None:
    test = ["sh", "-c", "test -e fixed || test {x} != 1"]
    project.here("sweep", "x=range(3)", "--sweep-id", "s", "--timeout", "77", "--", *test, code=1)
    assert project.here("sweep", "--resume", "s", "--count-only").out == "1\n"
    [line] = project.here("sweep", "--resume", "s", "--dry-run").out.splitlines()
    assert line.startswith("job 1 in outputs/s/1: sh -c")
    (project.folder / "fixed").touch()
    elsewhere = Project(project.folder.parent)
    elsewhere.hsm("sweep", "--resume", "s")
    assert project.states("s") == ["COMPLETED"] * 3
    assert [len(job.attempts) for job in project.sweep("s").jobs.values()] == [1, 2, 1]
    assert project.sweep("s").header["settings"]["timeout"] == 77


def test_resume_takes_new_points_too(project: Project) -> None:
    project.here("sweep", "x=1,2", "--sweep-id", "s", "--", "echo", "{x}")
    project.here("sweep", "--resume", "s", "x=2,3")
    assert [job.params["x"] for job in project.sweep("s").jobs.values()] == [1, 2, 3]
    assert [len(job.attempts) for job in project.sweep("s").jobs.values()] == [1, 1, 1]


@pytest.mark.slow
def test_what_a_resume_changes_is_shown_and_is_resumed_again(project: Project) -> None:
    fails = ["--", "sh", "-c", "echo old {x}; exit {x}"]
    project.hsm("sweep", "x=0,1", "--sweep-id", "s", "--timeout", "60", *fails, code=1)
    new = ["--accept-changes", "--timeout", "70", "--", "echo", "new", "{x}"]
    project.hsm("sweep", "--resume", "s", *new)
    assert "command      echo new 1" in project.hsm("show", "s", "1").out
    project.hsm("sweep", "--resume", "s", "--rerun", "all")
    assert project.sweep("s").latest["settings"]["timeout"] == 70
    assert "new 0" in project.hsm("logs", "s", "0").out


@pytest.mark.slow
def test_a_resume_notices_a_changed_config_of_a_hydra_script(project: Project) -> None:
    app = """
        import hydra

        @hydra.main(version_base=None, config_path="conf", config_name="config")
        def main(cfg):
            print("rate", cfg.rate, cfg.x)

        main()
    """
    (project.folder / "app.py").write_text(dedent(app))
    conf = project.folder / "conf"
    conf.mkdir()
    (conf / "config.yaml").write_text("rate: 1\nx: 0\n")
    (conf / "sweep.yaml").write_text("sweep:\n  grid:\n    x: [1]\n")
    project.hsm("sweep", "--script", "app.py", "--sweep-id", "s")
    (conf / "config.yaml").write_text("rate: 2\nx: 0\n")
    (conf / "sweep.yaml").write_text("sweep:\n  grid:\n    x: [1, 2]\n")
    refused = project.hsm("sweep", "--resume", "s", "--config", "conf/sweep.yaml", code=2)
    assert "conf/config.yaml has changed" in refused.err
    assert "sweep.yaml" not in refused.err
    (conf / "config.yaml").write_text("rate: 1\nx: 0\n")
    project.hsm("sweep", "--resume", "s", "--config", "conf/sweep.yaml")
    assert project.hsm("logs", "s", "1").out == "rate 1 2\n"
