"""hsm takes no name in a job's directory that the app could use: links to its logs come last."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from helpers.processes import App, both_methods
from helpers.reliability import points, source
from hsm.core.record.job import JobState
from hsm.core.record.paths import SweepPaths

pytestmark = pytest.mark.thorough

NAMES = ("stdout.log", "stderr.log")
OWN = "the app's own\n"

#: How an app may make a file of that name.
MAKERS = {
    "written": "open(name, 'w').write(text)",
    "added to": "open(name, 'a').write(text)",
    "renamed": "open('t', 'w').write(text); os.replace('t', name)",
    "made anew": "open(name, 'x').write(text)",
    "in a folder": "os.mkdir(name); open(name + '/part', 'w').write(text)",
    "a link to nowhere": "os.symlink('nowhere', name)",
}


def _command(maker: str) -> list[str]:
    lines = [
        "import os, sys",
        "os.chdir(os.environ['HSM_JOB_DIR'])",
        "print('to stdout', flush=True); print('to stderr', file=sys.stderr, flush=True)",
        f"text = {OWN!r}",
        f"for name in {NAMES}:",
        f"    {maker}",
        "    print('again', flush=True)",
    ]
    return [sys.executable, "-c", "\n".join(lines)]


@pytest.fixture(params=MAKERS)
def maker(request: pytest.FixtureRequest) -> str:
    return MAKERS[request.param]


def _assert_kept(job_dir: Path, name: str) -> None:
    path = job_dir / name
    if path.is_dir():
        path = path / "part"
    if path.is_symlink():
        assert os.readlink(path) == "nowhere"
    else:
        assert path.read_text() == OWN


def test_files_of_these_names_are_the_apps(tmp_path: Path, maker: str) -> None:
    paths = SweepPaths(tmp_path)
    with source() as made:
        made.submit_jobs(points(0), "s", tmp_path, command=_command(maker))
        assert set(made.wait().values()) == {JobState.COMPLETED}
    assert paths.stdout(0).read_text() == "to stdout\nagain\nagain\n"
    assert paths.stderr(0).read_text() == "to stderr\n"
    for name in NAMES:
        _assert_kept(paths.job_dir(0), name)


def _links(paths: SweepPaths, num: int) -> list[Path]:
    """Where the two names of job `num` lead to."""
    return [(paths.job_dir(num) / name).resolve(strict=True) for name in NAMES]


def test_the_links_are_there_after_the_end_and_not_while_the_job_runs(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    script = "ls $HSM_JOB_DIR; [ $HSM_ATTEMPT = 2 ]"
    with source(max_retries=1, retry_delay=0) as made:
        made.submit_jobs(points(0), "s", tmp_path, command=["sh", "-c", script])
        assert set(made.wait().values()) == {JobState.COMPLETED}
    (header,) = paths.stdout(0).read_text().splitlines()  # Neither attempt has found anything.
    assert header.startswith("---- attempt 2")
    assert _links(paths, 0) == [paths.stdout(0), paths.stderr(0)]


def test_a_job_that_is_lost_with_its_keeper_gets_the_links(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    with source() as made:
        command = ["sh", "-c", "echo begins; kill -9 $PPID; sleep 60"]
        (job_id,) = made.submit_jobs(points(0), "s", tmp_path, command=command)
        assert made.wait() == {job_id: JobState.FAILED}
        outcome = made.job(job_id).outcome
    assert outcome is not None
    assert outcome.reason == "its keeper was killed, and the job with it"
    assert _links(paths, 0) == [paths.stdout(0), paths.stderr(0)]


def _write(params: dict[str, int]) -> list[str]:
    job_dir = Path(os.environ["HSM_JOB_DIR"])
    found = sorted(os.listdir(job_dir))
    print("printed", flush=True)
    if "WRITE" in os.environ:
        (job_dir / "stdout.log").write_text(OWN)
    return found


@pytest.mark.parametrize("again", ["resumed", "a new sweep"])
def test_links_of_an_earlier_run_are_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    paths = SweepPaths(tmp_path)
    with source(start_method="fork") as made:
        made.submit_jobs(points(0), "s", tmp_path, function=_write)
    assert _links(paths, 0) == [paths.stdout(0), paths.stderr(0)]
    monkeypatch.setenv("WRITE", "1")
    if again == "a new sweep":
        paths.hsm_dir.rename(tmp_path / ".hsm.1")
        settings = {}
    else:
        settings = {"resume": True, "rerun": "all"}
    with source(start_method="fork", **settings) as made:
        (job_id,) = made.submit_jobs(points(0), "s", tmp_path, function=_write)
        assert made.result(job_id) == []
    assert (paths.job_dir(0) / "stdout.log").read_text() == OWN
    assert paths.stdout(0).read_text().splitlines()[-1] == "printed"
    assert (paths.job_dir(0) / "stderr.log").resolve() == paths.stderr(0)


def test_a_link_of_the_apps_stays_as_it_was(tmp_path: Path) -> None:
    """One that leads to another place, or to another job's log by another way, is none of hsm's."""
    paths = SweepPaths(tmp_path)
    paths.job_dir(0).mkdir(parents=True)
    for name in NAMES:
        (paths.job_dir(0) / name).symlink_to(tmp_path / "elsewhere")
    with source() as made:
        made.submit_jobs(points(0), "s", tmp_path, command=["true"])
    assert {os.readlink(paths.job_dir(0) / name) for name in NAMES} == {f"{tmp_path}/elsewhere"}


def test_a_directory_that_the_job_has_removed_or_moved_is_not_made_again(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    scripts = [
        "rmdir $HSM_JOB_DIR",
        f"mkdir {tmp_path}/other; rmdir $HSM_JOB_DIR; ln -s {tmp_path}/other $HSM_JOB_DIR",
    ]
    with source() as made:
        for script in scripts:
            made.submit_jobs(points(0), "s", paths.sweep_dir, command=["sh", "-c", script])
        assert set(made.wait().values()) == {JobState.COMPLETED}
    assert not paths.job_dir(0).exists()
    assert os.listdir(tmp_path / "other") == []


_APP = """
    def job(cfg):
        from hydra.core.hydra_config import HydraConfig
        out = Path(HydraConfig.get().runtime.output_dir)
        found = [name for name in ("stdout.log", "stderr.log") if os.path.lexists(out / name)]
        print("to stdout, line 1", flush=True)
        if cfg.job == 0:
            (out / "stdout.log").write_text("the app's own\\n")
        print("to stdout, line 2", flush=True)
        if cfg.job == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
"""
PRINTED = "to stdout, line 1\nto stdout, line 2\n"


@pytest.mark.slow
@both_methods
def test_under_hydra_these_names_are_the_apps_too(tmp_path: Path, start_method: str) -> None:
    app = App(tmp_path, _APP)
    done = app.run("job=0,1,2", start_method=start_method)
    assert done.states == ["COMPLETED", "FAILED", "COMPLETED"]
    assert done.values == [[], None, []]
    paths = SweepPaths(tmp_path / "sweep")
    assert {done.log(num, "stdout") for num in range(3)} == {PRINTED}
    assert (paths.job_dir(0) / "stdout.log").read_text() == OWN
    assert (paths.job_dir(0) / "stderr.log").resolve() == paths.stderr(0)
    for num in (1, 2):  # also for one that could not tell where its directory is
        assert _links(paths, num) == [paths.stdout(num), paths.stderr(num)]
    again = app.run("job=0,1,2", start_method=start_method, resume="true", rerun="all")
    assert again.values == [["stdout.log"], None, []]
    assert (paths.job_dir(0) / "stdout.log").read_text() == OWN


def test_a_directory_that_jobs_share_gets_no_links(tmp_path: Path) -> None:
    """One job's link would be in the way of another one that still runs."""
    done = App(tmp_path, _APP).run("job=2,3", "hydra.sweep.subdir=shared", max_parallel_jobs=1)
    assert done.values == [[], []]
    assert not {"stdout.log", "stderr.log"} & set(os.listdir(tmp_path / "sweep" / "shared"))
