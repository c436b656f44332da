"""The short form of benchmarks/chaos.py: random kills, and nothing is lost."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from helpers.processes import REPOSITORY, child_environment
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.paths import SweepPaths

pytestmark = pytest.mark.thorough

BENCHMARKS = REPOSITORY / "benchmarks"
CHAOS = BENCHMARKS / "chaos.py"
VICTIMS = {"launcher", "fork server", "keeper", "job", "process group", "everything"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", ["function", "command", pytest.param("hydra", marks=pytest.mark.long)]
)
def test_random_kills_lose_nothing(project_dir: Path, mode: str) -> None:
    figures = project_dir / "figures.json"
    # Which process is hit at which moment depends on the machine; whom to hit next does not.
    words = ["--modes", mode, "--kills", str(len(VICTIMS)), "--jobs", "8", "--seed", "3"]
    words += ["--workers", "1"]
    done = subprocess.run(
        [sys.executable, str(CHAOS), *words, "--json", str(figures)],
        env=child_environment(TMPDIR=str(project_dir)),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert figures.exists(), done.stderr
    told = json.loads(figures.read_text())
    assert (told["violations"], done.returncode) == ([], 0)
    assert told["kills"] == dict.fromkeys(VICTIMS, 1)
    assert told["checks"] > told["kills_in_all"]  # one after each kill, and one at the end
    assert told["jobs"] >= 8
    hits = [hit for sweep in told["hits"] for hit in sweep]
    assert Counter(hit["victim"] for hit in hits if hit["deed"] == "SIGKILL") == told["kills"]
    for hit in hits:
        if hit["victim"] in ("keeper", "job"):
            assert hit["pid"]
            parents = hit["parents"]
            # One that had just ended by itself has no parents any more, and as a parent no name.
            has_ended = not parents or any(each.startswith("gone ") for each in parents)
            assert has_ended or any("hsm-server" in each for each in parents), hit
    assert (told["sweeps_in_a_git_repository"] > 0) == (shutil.which("git") is not None)
    assert os.listdir(project_dir) == ["figures.json"]


@pytest.mark.parametrize(("last", "again"), [("FAILED", []), ("COMPLETED", [1])])
def test_a_job_that_starts_again_after_its_completion_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, again: list[int]
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from _chaos_checks import started_after_completion

    events = [
        *({"event": "start", "job": job} for job in (0, 1)),
        {"event": "end", "job": 1, "state": last},
        {"event": "start", "job": 1},
        {"event": "end", "job": 0, "state": "COMPLETED"},
    ]
    lines = [json.dumps(event) for event in events]
    (tmp_path / "journal").write_text("\n".join([*lines[:3], "damaged", *lines[3:], ""]))
    assert started_after_completion(tmp_path / "journal") == again


def test_what_is_wrong_with_a_record_or_a_log_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from _chaos_checks import Record
    from _chaos_files import DAMAGES, damage
    from _chaos_life import Violation
    from apps.chaos_job import value_of

    paths = SweepPaths(tmp_path / "sweep")
    job = Job(0, "s_0", "x=0", {"x": 0})
    journal = Journal(paths, "s", {})
    journal.submit([job])
    job.start(1.0, 1)
    journal.start(job)
    job.end(2.0, Ending(JobState.COMPLETED, exit_code=0, value=value_of(0)))
    journal.end(job)
    journal.close("finished")
    (tmp_path / "side").write_text("start 0\nsaid 0\nsaid 0\ndone 0\n")
    paths.stdout(0).write_text("this is point 0\n" * 2)
    paths.result(0).touch()
    record = Record(tmp_path, "function")
    record.check()
    record.check_logs()
    paths.stdout(0).write_text("this is point 0\n")
    with pytest.raises(Violation, match="1 of 2 lines"):
        record.check_logs()
    with (tmp_path / "side").open("a") as side:
        side.write("start 0\n")
    with pytest.raises(Violation, match="was started again"):
        record.check()
    for deed in DAMAGES:
        whole = shutil.copytree(tmp_path / "sweep", tmp_path / "-".join(deed))
        before = _fingerprint(whole)
        assert damage(SweepPaths(whole), deed, random.Random(1)), deed
        assert _fingerprint(whole) != before, deed
    # A record that somebody destroyed may be made anew.
    damage(paths, ("deleted", "journal"), random.Random(1))
    with pytest.raises(Violation, match="no record"):
        record.check()
    record.forget("deleted", "journal")
    record.check()
    record.check_logs()


def _fingerprint(folder: Path) -> dict[Path, tuple[int, int]]:
    """The identity and size of all that lies below."""
    return {
        path: (path.lstat().st_ino, path.lstat().st_size if path.is_file() else 0)
        for path in folder.rglob("*")
    }
