"""Whatever is wrong is said in one line, with exit code 2, before anything is started."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import Project
from helpers.processes import PATIENCE, SOURCE, first_fast, first_row_fast
from hsm.cli import list_sweeps

pytestmark = pytest.mark.thorough

TRUE = ("--", "true")
_APP = """\
import hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    pass

main()
"""


def _app(project: Project) -> None:
    """A Hydra app with a config group `model` of svm and forest."""
    project.write("train.py", _APP)
    project.write(
        "conf/config.yaml",
        "defaults: [_self_, model: svm]\nseed: 0\nlearning: {rate: 1}\nlayers: [1, 2]\n"
        "link: ${learning}\nnothing: null\n",
    )
    project.write("conf/model/svm.yaml", "C: 1\n")
    project.write("conf/model/forest.yaml", "depth: 1\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "no command 'nothing'; commands: sweep, monitor"),
        (["swep"], "did you mean sweep?"),
        (["sweep", "x=1", "--paralel-jobs", "2", *TRUE], "--parallel-jobs"),
        (
            ["sweep", "x=1", "--parallel-jobs", "0", *TRUE],
            "--parallel-jobs must be an integer of at least 1, or auto, not 0",
        ),
        (["sweep", "x=1", "--parallel-jobs", "many", *TRUE], "an integer of at least 1"),
        (["sweep", "x=1", "--timeout", "90x", *TRUE], "or none, not '90x'"),
        (["sweep", "x=1", "--timeout", "-3", *TRUE], "or none, not -3"),
        (["sweep", "x=1", "--progress", "rihc", *TRUE], "did you mean rich?"),
        (["sweep", "x=1", "--max-runs", "0", *TRUE], "--max-runs"),
        (["sweep", "x=1", "--max-runs", "x", *TRUE], "--max-runs"),
        (["sweep", "x=1", "--mode", "slurm", *TRUE], "--mode must be local, not 'slurm'"),
        (
            ["sweep", "x=1", "--sweep-id", "a/b", *TRUE],
            "--sweep-id must be a name for a directory other than ",
        ),
        (["sweep", "x=1", "--sweep-id", "..", *TRUE], ", not '..'"),
        (["sweep", "x=1", "--sweep-id", "last", *TRUE], ", not 'last'"),
        (["sweep", "x=1", "--sweep-id", "a\nb", *TRUE], ", not 'a\\nb'"),
        (["sweep", "x=1", "--sweep-id", "x" * 300, *TRUE], "at most 200 bytes, and this one 300"),
        (
            ["sweep", "x=1", "--hsm-config", "none.yaml", *TRUE],
            "--hsm-config: cannot read 'none.yaml': No such file",
        ),
        (["sweep", "x=1", "--config", "none.yaml", *TRUE], "No such file"),
        (["sweep", "x=1", "--config", "none.txt", *TRUE], "its name must end in .yaml"),
        (["sweep", "x=1", "--script", "none.py"], "--script: there is no file 'none.py'"),
        (
            ["sweep", "x=1", "--script", "a.py", *TRUE],
            "give --script or a command after --, not both",
        ),
        (
            ["sweep", "x=1", "--", "no-such-program"],
            "command after --: there is no program 'no-such-program'",
        ),
        (["sweep", "x=1", "--"], "there is no command after the --"),
        (
            ["sweep", "x=1", "--", "echo", "{y}"],
            "no parameter for {y}; there are {x}, {job_dir}",
        ),
        (["sweep", "x=1", "--", "echo", "{x"], "a { is not closed in '{x'"),
        (["sweep", "x=1"], "nothing to run: give --script train.py or a command"),
        (["sweep", *TRUE], "nothing to sweep over"),
        (["sweep", "x", *TRUE], "it has no ="),
        (["sweep", "x=1", "x=2", *TRUE], "x is given twice"),
        (["sweep", "x=rnage(3)", *TRUE], "did you mean range?"),
        (["sweep", "x=interval(0,1)", *TRUE], "an interval has no list of values"),
        (["sweep", "x=glob(*)", *TRUE], "glob() needs a config group"),
        (["sweep", "d={1:2},{true:3}", *TRUE], "keys of dicts must be strings"),
        (["sweep", "d=[{a:{null:1}}]", *TRUE], "as in JSON"),
        (["sweep", "x=[1,2", *TRUE], "cannot use the override 'x=[1,2'"),
        (["sweep", "--resume", "nothing"], "no sweep 'nothing': there are none yet"),
        (["monitor"], "no sweeps yet"),
        (["monitor", "nothing"], "no sweep 'nothing'"),
        (["monitor", "--mode", "slurm"], "--mode must be local, not 'slurm'"),
        (["monitor", "a", "--sweep-id", "b"], "'a' and --sweep-id 'b' name two sweeps: give one"),
        (
            ["monitor", "--progress", "nope"],
            "--progress must be one of auto, rich, plain, none, not 'nope'",
        ),
        (["collect-results", "nothing"], "no sweep 'nothing'"),
        (["collect-results", "--format", "xls"], "one of table, csv, json, md, parquet"),
        (["logs", "nothing", "0"], "no sweep 'nothing'"),
        (["logs", "nothing"], "no sweep 'nothing'"),
        (["logs", "nothing", "one"], "'JOB'"),
        (["show", "nothing", "0"], "no sweep 'nothing'"),
        (["cancel", "nothing"], "no sweep 'nothing'"),
        (["pause", "nothing"], "no sweep 'nothing'"),
        (["continue"], "no sweeps yet"),
        (["explain", "nothing", "0"], "no sweep 'nothing'"),
        (
            ["config", "--hsm-config", "none.yaml"],
            "--hsm-config: cannot read 'none.yaml': No such file",
        ),
        (["list", "--limit", "0"], "--limit"),
        (["init", "extra"], "unexpected extra argument"),
        (["monitor", "x" * 5000], "no sweep 'xxx"),
        (["monitor", "~no-such-user/x"], "there is no sweep in "),
        (["monitor", "./" + "x" * 5000], "there is no sweep in "),
        (["sweep", "x=1", "--sweep-dir", "x" * 5000, *TRUE], "File name too long"),
        (["sweep", "x=1", "--sweep-dir", "x" * 5000, "--detach", *TRUE], "File name too long"),
        (["sweep", "x=\udcff", *TRUE], "cannot use the override 'x="),
    ],
)
def test_a_bad_command_line(project: Project, arguments: list[str], said: str) -> None:
    assert said in project.refused(*arguments)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sweep: {grid: {a: [1, 2]}, paired: [{p: {b: [1], c: [1, 2]}}]}", "differ in length"),
        ("sweep: {gird: {a: [1]}}", "did you mean grid?"),
        ("sweep: [1, 2", "line 1"),
        ("sweep: {grid: {a: [1]}}\nseed: 1", "unknown setting seed in conf/sweep.yaml, line 2"),
        ("sweep: {grid: {a: []}}", "at least one value"),
        ("sweep: {grid: {a: [1]}, jobs: 3}", "jobs:"),
        ("", "the file must be a mapping"),
        ("sweep: {grid: {'a b': [1]}}", "not 'a b'"),
        ("sweep: {grid: {d: [{1: 2}]}}", "keys of dicts must be strings"),
        ("sweep: {jobs: [{d: [[{a: {true: 1}}]]}]}", "as in JSON"),
    ],
)
def test_a_bad_sweep_file(project: Project, text: str, said: str) -> None:
    project.write("conf/sweep.yaml", text)
    line = project.refused("sweep", "--", "true")
    assert said in line
    assert "conf/sweep.yaml" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("local: {max_paralel_jobs: 3}", "did you mean max_parallel_jobs?"),
        ("local: {timeout: soon}", "or none, not 'soon'"),
        ("locals: {}", "did you mean local?"),
        ("local: [", "line"),
        ("script: a.py\ncommand: b", "stands beside script: jobs run one of them"),
        ("script: none.py", "none.py"),
    ],
)
def test_a_bad_hsm_yaml(project: Project, text: str, said: str) -> None:
    project.write("hsm.yaml", text)
    line = project.refused("sweep", "x=1")
    assert said in line
    assert "hsm.yaml" in line


def test_a_bad_variable(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSM_LOCAL_MAX_JOBS", "lots")
    line = project.refused("sweep", "x=1", *TRUE)
    must = "must be an integer of at least 1, or auto, not 'lots'"
    assert f"environment variable HSM_LOCAL_MAX_JOBS {must}" in line


def test_what_there_is_not_here_is_told_with_who_asks_for_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    words = ("sweep", "x=1", *TRUE)
    refused = "gpus=3: a job cannot have 3 GPUs: there are 2 for it (CUDA_VISIBLE_DEVICES=3,5)"
    assert project.refused("sweep", "--gpus", "3", *words[1:]) == f"hsm: {refused}\n"
    monkeypatch.setenv("HSM_LOCAL_GPUS", "3")
    origin = "environment variable HSM_LOCAL_GPUS"
    assert project.refused(*words) == f"hsm: {refused}; gpus is set by {origin}\n"
    project.write("hsm.yaml", "local:\n  gpus: 1\n  gpu_ids: [7]\n")
    line = project.refused(*words)
    assert line.startswith("hsm: gpu_ids: there is no GPU 7; CUDA_VISIBLE_DEVICES leaves 3, 5; ")
    assert line.endswith(f"gpu_ids is set by local.gpu_ids in {project.folder}/hsm.yaml, line 3\n")


@pytest.mark.parametrize("option", ["--sweep-id", "--sweep-dir"])
def test_a_sweep_that_is_there_already(project: Project, option: str) -> None:
    project.here("sweep", "x=1", "--sweep-id", "mine", *TRUE)
    named = "mine" if option == "--sweep-id" else "outputs/mine"
    line = project.refused("sweep", "x=1", option, named, *TRUE)
    assert f"{option} {named!r} is taken by the sweep in " in line
    assert f"; hsm sweep --resume {named} resumes it" in line


def test_an_id_is_taken_wherever_in_the_project_its_sweep_lies(project: Project) -> None:
    project.here("sweep", "x=1", "--sweep-id", "mine", "--sweep-dir", "there", *TRUE)
    assert "is taken by the sweep in" in project.refused(
        "sweep", "x=1", "--sweep-id", "mine", *TRUE
    )


def test_an_id_is_taken_wherever_on_the_machine_its_sweep_lies(project: Project) -> None:
    elsewhere = project.folder.parent / "elsewhere"
    project.here("sweep", "x=1", "--sweep-id", "mine", "--sweep-dir", str(elsewhere), *TRUE)
    line = project.refused("sweep", "x=2", "--sweep-id", "mine", *TRUE)
    assert f"is taken by the sweep in {elsewhere}" in line
    other = Project(project.folder.parent / "other")
    other.folder.mkdir()
    other.here("sweep", "x=2", "--sweep-id", "mine", *TRUE)


@pytest.mark.parametrize("command", ["logs", "show", "cancel"])
def test_a_job_number_that_there_is_not(project: Project, command: str) -> None:
    project.here("sweep", "x=1,2", "--sweep-id", "s", *TRUE)
    assert "sweep s has no job 2: give a number from 0 to 1" in project.refused(command, "s", "2")


def test_a_script_for_an_override(project: Project) -> None:
    project.write("train.py", "")
    line = project.refused("sweep", "train.py", "x=1", *TRUE)
    assert "did you mean --script train.py" in line


@pytest.mark.parametrize(
    ("override", "said"),
    first_row_fast(
        ("modle=svm", "did you mean model?"),
        ("model=smv", "did you mean svm?"),
        ("sed=1,2", "did you mean seed?"),
        ("learning.rat=1", "did you mean learning.rate?"),
        ("model=svm,forst", "model must be one of forest, svm, not 'forst'; did you mean"),
        ("model=svm,other", "model must be one of forest, svm, not 'other'"),
        ("zzz=1", "command line: the app's config has no key 'zzz'; +zzz=... adds it"),
        ("learning.entirely_new=1", "+learning.entirely_new=... adds it"),
        ("model=svm,forest model.dpth=1", "did you mean model.depth?"),
        ("model=svm,forest model.entirely_new=1", "+model.entirely_new=... adds it"),
        ("model=svm model.depth=1", "the app's config has no key 'model.depth'; +model.depth="),
        ("+seed=1", "the app's config has a key 'seed' already; seed=... overrides it"),
        ("~zzz", "the app's config has no key 'zzz' to delete"),
        ("model@other=svm", "does not compose with model@other=svm: Could not override 'model@oth"),
        ("+new=1 new.sub=2 other=1", "no key 'other'"),
    ),
)
def test_a_misspelt_override_of_a_hydra_app(project: Project, override: str, said: str) -> None:
    _app(project)
    assert said in project.refused("sweep", "--script", "train.py", *override.split())


@pytest.mark.parametrize(
    "override",
    [
        *("+sed=1", "++modle=1", "~seed", "model=svm,forest", "hydra.verbose=true"),
        *("hydra/job_logging=none", "+model@other=svm", "model=svm,forest model.depth=1"),
        *("layers.0=3", "link.x=1", "nothing.x=1", "model=[svm,forest]", "model.C=${x}"),
    ],
)
def test_what_a_hydra_app_may_be_told_is_not_refused(project: Project, override: str) -> None:
    _app(project)
    project.here("sweep", "--script", "train.py", *override.split(), "--dry-run")


@pytest.mark.slow
def test_every_option_in_a_file_is_checked(project: Project) -> None:
    _app(project)
    project.write("s.yaml", "sweep: {grid: {seed: range(5000)}, jobs: [{model: forst}]}")
    line = project.refused("sweep", "--script", "train.py", "--config", "s.yaml")
    assert "s.yaml: model must be one of forest, svm, not 'forst'" in line


@pytest.mark.slow
def test_options_that_lie_elsewhere_are_not_refused(project: Project) -> None:
    _app(project)
    text = (project.folder / "conf/config.yaml").read_text()
    project.write("conf/config.yaml", text + "hydra: {searchpath: [file://more]}\n")
    project.write("more/model/other.yaml", "height: 1\n")
    words = ("sweep", "--script", "train.py")
    project.here(*words, "model=other", "model.height=2", "--dry-run")
    assert "did you mean other?" in project.refused(*words, "model=othr")


def test_glob_in_a_file_knows_the_options_of_a_hydra_app(project: Project) -> None:
    _app(project)
    project.write("s.yaml", "sweep: {grid: {model: glob(*)}}")
    ran = project.here("sweep", "--script", "train.py", "-c", "s.yaml", "--dry-run")
    assert ["model=forest" in ran.out, "model=svm" in ran.out] == [True, True]
    line = project.refused("sweep", "-c", "s.yaml", *TRUE)
    assert "no config is known here" in line


def test_glob_knows_the_options_of_a_hydra_app(project: Project) -> None:
    _app(project)
    ran = project.here("sweep", "--script", "train.py", "model=glob(*)", "--dry-run")
    assert ["model=forest" in ran.out, "model=svm" in ran.out] == [True, True]


@pytest.fixture
def read_only(project: Project) -> Iterator[Path]:
    """A directory that cannot be written, by root neither."""
    if os.geteuid() == 0:
        yield Path("/proc/self/fdinfo/none")
        return
    folder = project.folder / "outputs"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    yield folder / "s"
    folder.chmod(stat.S_IRWXU)


@pytest.mark.parametrize("more", [(), ("--detach",)])
def test_a_directory_that_cannot_be_written(
    project: Project, read_only: Path, more: tuple[str, ...]
) -> None:
    ran = project.hsm("sweep", "x=1", "--sweep-dir", str(read_only), *more, *TRUE, code=2)
    assert ran.err.count("\n") == 1
    assert str(read_only) in ran.err


@pytest.mark.parametrize("more", first_fast("", "--detach"))
def test_a_full_disk(project: Project, more: str) -> None:
    """A limit on the size of files stands for it: there is room for the lock, not the journal."""
    line = f"{sys.executable} -m hsm.cli.main sweep 'x=range(40)' --sweep-id s {more} -- touch ran"
    # Else Python would write byte code under that limit: half of it, which no later start can read.
    no_byte_code = {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 1; exec {line}"],
        cwd=project.folder,
        env={**os.environ, **no_byte_code},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("hsm: cannot start s: cannot write /")
    assert "journal.jsonl: File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (project.folder / "ran").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_file_for_results_that_cannot_be_written(project: Project) -> None:
    project.here("sweep", "x=1", "--sweep-id", "s", *TRUE)
    line = project.refused("collect-results", "s", "--format", "csv", "--output", "/dev/full")
    assert "--output: cannot write '/dev/full': " in line
    assert "No space left" in line


#: Unbuffered, it is a write that fails, and no flush at the end.
unbuffered_or_not = pytest.mark.parametrize("unbuffered", first_fast("", "1"))
_NO_ROOM = "hsm: cannot write the output: No space left on device\n"


def _into(project: Project, where: str, *arguments: str) -> tuple[int, str]:
    """Run `hsm` in a shell that sends its stdout somewhere; the exit code, and its stderr."""
    words = (sys.executable, "-m", "hsm.cli.main", *arguments)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{shlex.join(words)} {where}"],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    return done.returncode, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    "arguments",
    first_fast(
        ("list",),
        ("--help",),
        ("config",),
        ("collect-results", "s"),
        ("logs", "s", "0"),
        ("sweep", "x=1", "--dry-run", *TRUE),
        ("sweep", "x=1", "--count-only", *TRUE),
    ),
)
@unbuffered_or_not
def test_output_that_finds_no_room(
    project: Project,
    arguments: tuple[str, ...],
    unbuffered: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    project.here("sweep", "x=1", "--sweep-id", "s", "--", "echo", "hi")
    assert _into(project, "> /dev/full", *arguments) == (2, _NO_ROOM)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("more", first_fast((), ("--json",), ("--detach",)))
@unbuffered_or_not
def test_a_sweep_whose_output_finds_no_room_ends_as_it_ended(
    project: Project, more: tuple[str, ...], unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    arguments = ("sweep", "x=1", "--sweep-id", "s", *more, *TRUE)
    code, said = _into(project, "> /dev/full", *arguments)
    assert code == 0
    assert said.endswith(_NO_ROOM)
    assert said.count("hsm: ") == 1
    project.hsm("monitor", "s")
    assert project.states("s") == ["COMPLETED"]


@unbuffered_or_not
def test_a_sweep_whose_reader_has_gone_ends_as_it_ended(
    project: Project, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    arguments = ("sweep", "x=1", "--json", "--progress", "none", "--", "sleep", "0.2")
    assert _into(project, "| true", *arguments) == (0, "")


def test_a_bug_is_no_bad_command_line(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_sweeps, "known_sweeps", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        project.here("list")


def test_a_process_without_a_stdout(project: Project) -> None:
    assert _into(project, ">&-", "config") == (0, "")
