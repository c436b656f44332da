"""`hsm sweep` with what jobs need, and with variables whose values no record has."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from helpers.cli import Project

pytestmark = pytest.mark.thorough

_SECRET = "tr0ub4dor"
#: Prints what a job has of the variables, to a file of its own.
_PRINT = ("--", "sh", "-c", 'echo "$TOKEN|$MORE" > "$HSM_JOB_DIR/seen"')
_QUIET = ("--progress", "none", "--sweep-id", "s")


def _seen(project: Project, num: int = 0) -> str:
    return (project.folder / f"outputs/s/{num}/seen").read_text().rstrip("\n")


def _where(folder: Path) -> list[str]:
    """The files below a folder in which the secret is."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if _SECRET.encode() in path.read_bytes()]


def _own_needs(project: Project) -> list[object]:
    return [job.needs for _, job in sorted(project.sweep("s").jobs.items())]


# --- variables --------------------------------------------------------------------------------


def test_a_flag_gives_jobs_variables_and_no_record_has_the_values(project: Project) -> None:
    given = ("--env", f"TOKEN={_SECRET}", f"--env=MORE=a, b={_SECRET}")
    project.hsm("sweep", "x=1", *_QUIET, *given, *_PRINT)
    assert _seen(project) == f"{_SECRET}|a, b={_SECRET}"
    assert _where(project.folder / "outputs/s/.hsm") == []
    record = project.sweep("s").header
    assert record["settings"]["env"] == {"TOKEN": "***", "MORE": "***"}
    assert [word for word in record["argv"] if "***" in word] == ["TOKEN=***", "--env=MORE=***"]
    assert record["command"]["arguments"] == record["argv"][1:]


def test_a_file_or_a_variable_gives_them_too(project: Project) -> None:
    project.write("hsm.yaml", f"local: {{env: {{TOKEN: {_SECRET}, MORE: 3}}}}")
    project.hsm("sweep", "x=1", *_QUIET, *_PRINT)
    assert _seen(project) == f"{_SECRET}|3"
    assert _where(project.folder / "outputs/s/.hsm") == []
    project.hsm("rm", "s", "--yes")
    (project.folder / "hsm.yaml").unlink()
    project.hsm("sweep", "x=1", *_QUIET, *_PRINT, HSM_LOCAL_ENV=f"TOKEN={_SECRET} MORE='a b'")
    assert _seen(project) == f"{_SECRET}|a b"
    assert _where(project.folder / "outputs/s/.hsm") == []


@pytest.mark.parametrize("way", [["--json"], []])
def test_hsm_config_shows_the_names_only(project: Project, way: list[str]) -> None:
    out = project.hsm("config", *way, HSM_LOCAL_ENV=f"TOKEN={_SECRET}").out
    assert "TOKEN" in out
    assert _SECRET not in out


def test_the_recorded_changes_of_a_repository_have_no_value(project: Project) -> None:
    project.write("hsm.yaml", "local: {}\n")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "first")):
        subprocess.run(["git", *words], cwd=project.folder, check=True)
    project.write("hsm.yaml", f"local: {{env: {{TOKEN: {_SECRET}}}}}\n")
    project.hsm("sweep", "x=1", *_QUIET, *_PRINT)
    assert _seen(project) == f"{_SECRET}|"
    assert _where(project.folder / "outputs/s/.hsm") == []
    diff = (project.folder / "outputs/s/.hsm/git.diff").read_text()
    assert "+local: {env: {TOKEN: ***}}\n" in diff


def test_a_detached_sweep_has_them_and_its_log_has_not(project: Project) -> None:
    given = ("--env", f"TOKEN={_SECRET}")
    with project.detached("x=1", *given, "--", "sh", "-c", _STAY_AND_TELL, runs=(0,)):
        assert (project.folder / "outputs/bg/0/runs").read_text() == f"{_SECRET}\n"
        assert _where(project.folder / "outputs/bg/.hsm") == []


_STAY_AND_TELL = (
    'echo "$TOKEN" > {job_dir}/telling; mv {job_dir}/telling {job_dir}/runs; '
    "while ! test -e {job_dir}/go; do sleep 0.05; done"
)


def test_a_resumed_sweep_wants_the_values_again(project: Project) -> None:
    fails = ("--", "sh", "-c", 'echo "$TOKEN|" > "$HSM_JOB_DIR/seen"; test "$TOKEN" = right')
    project.hsm("sweep", "x=1", *_QUIET, "--env", "TOKEN=wrong", *fails, code=1)
    resume = ("sweep", "--resume", "s", "--progress", "none")
    refused = project.hsm(*resume, code=2).err
    assert refused == (
        "hsm: the jobs of s had TOKEN in their environment, and no record has the values: give "
        "them again, as with --env TOKEN=…, in hsm.yaml or in HSM_LOCAL_ENV; --env none runs the "
        "jobs without\n"
    )
    assert len(project.sweep("s").jobs[0].attempts) == 1
    assert "TOKEN" in project.hsm("rerun", "s", "0", code=2).err
    project.hsm(*resume, code=0, HSM_LOCAL_ENV="TOKEN=right")
    assert _seen(project) == "right|"


def test_a_resumed_sweep_may_do_without(project: Project) -> None:
    project.hsm("sweep", "x=1", *_QUIET, "--env", "TOKEN=a", *_PRINT)
    ran = project.hsm("sweep", "--resume", "s", "--rerun", "all", "--env", "none")
    assert "the jobs of s now lack TOKEN, which they had before" in ran.err
    assert _seen(project) == "|"
    # From then on they are not missed.
    assert project.hsm("sweep", "--resume", "s", "--rerun", "all").err == ""


def test_what_a_record_shows_in_place_of_a_value_is_none(project: Project) -> None:
    said = project.refused("sweep", "x=1", "--env", "TOKEN=***", "--", "true")
    assert "*** stands for a value that is not on record: give the value itself" in said


# --- needs ------------------------------------------------------------------------------------


def test_flags_are_recorded(project: Project) -> None:
    given = ("--resources", "licence=2,tokens=5", "--needs", "licence=1", "--start-delay", "0s")
    project.here("sweep", "x=1", *_QUIET, *given, "--resources", "c=1", "--", "true")
    settings = project.sweep("s").header["settings"]
    assert settings["resources"] == {"licence": 2, "tokens": 5, "c": 1}
    assert settings["needs"] == {"licence": 1}
    assert settings["start_delay"] == 0.0


def test_a_need_that_is_never_met_is_refused(project: Project) -> None:
    sweep = ("sweep", "x=1", "--resources", "licence=2")
    assert project.refused(*sweep, "--needs", "licnce=1", "--", "true") == (
        "hsm: --needs: there is no resource 'licnce'; did you mean licence?\n"
    )
    assert project.refused(*sweep, "--needs", "licence=3", "--", "true") == (
        "hsm: --needs: a job cannot need 3 of licence: there are 2\n"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.yaml", "sweep:\n  jobs:\n  - {x: 0, _needs_: {licence: 2}}\n  - {x: 1}\n"),
        ("p.yaml", "sweep:\n  paired:\n  - a: {x: [0, 1], _needs_: ['licence=2', null]}\n"),
        ("p.csv", 'x,_needs_\n0,"licence=2"\n1,\n'),
        ("p.jsonl", '{"x": 0, "_needs_": {"licence": 2}}\n{"x": 1}\n'),
    ],
)
def test_points_of_a_file_have_their_own_needs(project: Project, name: str, text: str) -> None:
    project.write(name, text)
    given = ("--config", name, "--resources", "licence=2", *_QUIET)
    project.here("sweep", *given, "--", "sh", "-c", 'echo "$HSM_PARAMS" "$@" >seen', "-", "{args}")
    assert _own_needs(project) == [{"licence": 2}, None]
    jobs = project.sweep("s").jobs
    assert [job.params for job in jobs.values()] == [{"x": 0}, {"x": 1}]
    # Resumed without the file, they have them still.
    project.here("sweep", "--resume", "s", "--rerun", "all", "--progress", "none")
    assert _own_needs(project) == [{"licence": 2}, None]
    short = project.hsm(
        *("sweep", "--resume", "s", "--rerun", "all", "--resources", "licence=1"), code=2
    )
    assert short.err == "hsm: _needs_ of point 0: a job cannot need 2 of licence: there are 1\n"


def test_all_points_of_a_grid_may_have_needs(project: Project) -> None:
    project.write("p.yaml", "sweep: {grid: {x: [0, 1], _needs_: {licence: 1, b: 1}}}")
    given = ("--resources", "licence=2,b=1", *_QUIET)
    project.here("sweep", "--config", "p.yaml", *given, "--", "true", "{x}")
    assert _own_needs(project) == [{"licence": 1, "b": 1}] * 2


def test_a_command_line_sweeps_over_needs_as_well(project: Project) -> None:
    given = ("x=1", "_needs_={licence:1},{licence:2}", "--resources", "licence=2", *_QUIET)
    listed = project.here("sweep", *given, "--dry-run", "--json", "--", "echo", "{args}").out
    jobs = [json.loads(line) for line in listed.splitlines()]
    assert [job["params"] for job in jobs] == [{"x": 1}] * 2
    assert [job["command"] for job in jobs] == [["echo", "x=1"]] * 2
    project.here("sweep", *given, "--", "true")
    assert _own_needs(project) == [{"licence": 1}, {"licence": 2}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.yaml", "sweep:\n  jobs:\n  - {x: 0, _needs_: {gpus: 0.5, l: 1}}\n  - {x: 1}\n"),
        ("p.yaml", "sweep:\n  paired:\n  - a: {x: [0, 1], _needs_: ['gpus=0.5,l=1', null]}\n"),
        ("p.csv", 'x,_needs_\n0,"gpus=.5,l=1"\n1,\n'),
        ("p.jsonl", '{"x": 0, "_needs_": {"gpus": 0.5, "l": 1}}\n{"x": 1}\n'),
    ],
)
def test_points_of_a_file_have_their_own_gpus(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    project.write(name, text)
    given = ("--config", name, "--gpus", "1", "--resources", "l=1", *_QUIET)
    project.here("sweep", *given, "--", "true", "{x}")
    own = [{"gpus": 0.5, "l": 1}, None]
    assert _own_needs(project) == own
    assert project.sweep("s").header["settings"]["max_parallel_jobs"] == "auto"
    project.here("sweep", "--resume", "s", "--rerun", "all", "--progress", "none")
    assert _own_needs(project) == own
    assert project.hsm("rerun", "s", "0").code == 0
    assert [len(job.attempts) for _, job in sorted(project.sweep("s").jobs.items())] == [3, 2]
    assert _own_needs(project) == own


def test_a_resumed_sweep_has_other_gpus_or_none(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    project.here("sweep", "x=1", "--gpus", "1", "--gpu-ids", "1", *_QUIET, "--", "true")
    again = ("sweep", "--resume", "s", "--rerun", "all", "--progress", "none")

    def settings() -> list[object]:
        latest = project.sweep("s").latest["settings"]
        return [latest[name] for name in ("gpus", "gpu_ids", "max_parallel_jobs")]

    assert settings() == [1, [1], "auto"]
    project.here(*again, "--gpus", "0.5")
    assert settings() == [0.5, [1], "auto"]
    project.here(*again, "--gpus", "0")
    assert settings() == [0, None, 4]
    project.here(*again, "--gpus", "2")
    assert settings() == [2, None, "auto"]


def test_hsm_config_shows_that_the_number_of_jobs_follows_from_gpus(project: Project) -> None:
    shown = project.hsm("config", "--json", HSM_LOCAL_GPUS="0.5", HSM_LOCAL_GPU_IDS="0,3").json
    assert shown["local"]["max_parallel_jobs"] == {"value": "auto", "from": "follows from gpus"}
    assert shown["local"]["gpus"]["value"] == 0.5
    assert shown["local"]["gpu_ids"]["value"] == [0, 3]
    lines = project.hsm("config", HSM_LOCAL_GPU_MEMORY="10GiB").out.splitlines()
    assert any("max_parallel_jobs" in line and "follows from gpus" in line for line in lines)
    assert any("gpu_memory" in line and "10 GiB" in line for line in lines)


def test_a_command_line_gives_points_gpus(project: Project) -> None:
    given = ("x=1", "_needs_={gpus:0.5},{gpus:2},{gpus:0}", "--gpus", "1")
    listed = project.here("sweep", *given, "--dry-run", "--json", "--", "echo", "{args}").out
    jobs = [json.loads(line) for line in listed.splitlines()]
    assert [job["command"] for job in jobs] == [["echo", "x=1"]] * 3
    for setting in ((), ("--gpus", "0")):
        refused = ("sweep", "x=1", "_needs_={gpus:2}", *setting, "--", "true")
        assert "_needs_ of point 0: gpus needs a sweep that" in project.refused(*refused)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "x,_needs_\n0,licence\n",
            "p.csv, line 2: needs must be names with integers",
        ),
        ("x,_needs_\n0,1\n", "p.csv, line 2: needs must be names with integers"),
        ("x,_needs_\n0,b=1\n", "_needs_ of point 0: there is no resource 'b'; known: licence"),
    ],
)
@pytest.mark.parametrize("way", [(), ("--dry-run",), ("--detach",)])
def test_bad_needs_of_a_point_are_refused(
    project: Project, text: str, said: str, way: tuple[str, ...]
) -> None:
    project.write("p.csv", text)
    given = ("--config", "p.csv", "--resources", "licence=2", *way)
    assert said in project.refused("sweep", *given, "--", "true")
