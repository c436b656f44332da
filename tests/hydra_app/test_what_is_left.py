"""What a sweep leaves on disk and on the screen, for people and programs that read it."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.hydra import (
    Finished,
    ends,
    read_journal,
    run_sweep,
    succeed,
    write_files,
)
from helpers.processes import FORK_OR_SLOW_SPAWN, both_methods
from hsm.core.record.sweep import read_sweep

APP = """
    import os, sys
    import hydra


    @hydra.main(version_base=None, config_path="conf", config_name="config")
    def main(cfg):
        print("to stdout of", cfg.n)
        print("to stderr of", cfg.n, file=sys.stderr)
        if cfg.n == cfg.bad:
            raise ValueError(f"boom {cfg.n}")
        return {"n": cfg.n, "secret_was_there": len(os.environ["SECRET"]) == 7}


    if __name__ == "__main__":
        main()
"""
CONFIG = """
    n: 0
    bad: -1
    model: {name: svm, deep: {x: 1.5}}
"""
SECRET = {"SECRET": "hunter2", "API_TOKEN": "tok-4711"}


@pytest.fixture(scope="module", params=FORK_OR_SLOW_SPAWN)
def swept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A sweep of three jobs, of which the middle one fails: its directory and its screen."""
    folder = tmp_path_factory.mktemp("contract")
    write_files(folder, {"train.py": APP, "conf/config.yaml": CONFIG})
    overrides = ["n=0,1,2", "bad=1", "+extra='a b'"]
    done = run_sweep(folder, *overrides, start_method=request.param, env=SECRET)
    assert done.code == 1, done.text
    return folder / "sweep", done


Swept = tuple[Path, Finished]


def test_the_layout_of_the_sweep_directory(swept: Swept) -> None:
    sweep_dir, _ = swept
    hsm = sweep_dir / ".hsm"
    assert sorted(path.name for path in (hsm / "logs").iterdir()) == sorted(
        f"{num}.{end}" for num in range(3) for end in ("out", "err")
    )
    assert {path.suffix for path in (hsm / "results").iterdir()} == {".pkl"}
    assert {path.name for path in sweep_dir.iterdir()} == {"0", "1", "2", ".hsm", "multirun.yaml"}
    assert {"journal.jsonl", "logs", "results"} <= {path.name for path in hsm.iterdir()}
    assert not [path for path in hsm.rglob(".*") if path.is_file()]  # nothing temporary is left


def test_job_directories_link_to_their_logs(swept: Swept) -> None:
    sweep_dir, _ = swept
    for num in range(3):
        for name, suffix in (("stdout", "out"), ("stderr", "err")):
            link = sweep_dir / str(num) / f"{name}.log"
            assert link.is_symlink()
            assert not link.readlink().is_absolute()  # the sweep directory may be moved
            assert link.resolve() == sweep_dir / ".hsm" / "logs" / f"{num}.{suffix}"
            assert f"to {name} of {num}\n" in link.read_text()


def test_the_failed_jobs_log_holds_its_traceback(swept: Swept) -> None:
    log = (swept[0] / "1" / "stderr.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert "in main" in log
    assert "ValueError: boom 1" in log


def test_the_journals_first_line_describes_the_sweep(swept: Swept) -> None:
    first = read_journal(swept[0])[0]
    assert first["v"] == 2
    assert first["event"] == "sweep"
    assert {"sweep_id", "time", "pid", "host", "settings"} <= first.keys()
    assert first["settings"]["max_parallel_jobs"] == 2


def test_the_journal_tells_each_jobs_story_in_order(swept: Swept) -> None:
    events = read_journal(swept[0])
    (submit,) = [event for event in events if event["event"] == "submit"]
    assert [job["job"] for job in submit["jobs"]] == [0, 1, 2]
    assert len({job["id"] for job in submit["jobs"]}) == 3
    assert submit["jobs"][2]["params"] == {"n": 2, "bad": 1, "extra": "a b"}
    for num in range(3):
        mine = [event for event in events if event.get("job") == num]
        assert [event["event"] for event in mine] == ["start", "end"]
        assert [event["attempt"] for event in mine] == [1, 1]
        assert mine[0]["time"] <= mine[1]["time"]
        assert mine[1]["job_dir"] == str(swept[0] / str(num))
    assert events[-1]["event"] == "close"
    assert events[-1]["reason"] == "finished"


def test_the_journal_tells_how_each_job_ended(swept: Swept) -> None:
    finals = ends(swept[0])
    assert [finals[num]["state"] for num in range(3)] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert finals[0]["value"] == {"n": 0, "secret_was_there": True}
    assert finals[0]["exit_code"] == 0
    assert finals[1]["error_type"] == "ValueError"
    assert finals[1]["error_message"] == "boom 1"
    for final in finals.values():
        assert final.get("signal") is None
        assert final["cpu_seconds"] > 0
        assert final["max_memory"] > 1_000_000  # bytes


def test_a_replay_gives_the_same_jobs(swept: Swept) -> None:
    sweep = read_sweep(swept[0])
    assert sweep.closed == "finished"
    assert [str(sweep.jobs[num].state) for num in range(3)] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert sweep.jobs[1].ending() == "ValueError: boom 1"
    assert sweep.jobs[2].value == {"n": 2, "secret_was_there": True}


def test_every_result_can_be_read_back(swept: Swept) -> None:
    results = swept[0] / ".hsm" / "results"
    assert {"0.pkl", "2.pkl"} <= {path.name for path in results.iterdir()}
    for path in results.iterdir():
        pickle.loads(path.read_bytes())


def test_the_environment_is_nowhere_in_the_sweep_directory(swept: Swept) -> None:
    written = b"".join(path.read_bytes() for path in swept[0].rglob("*") if path.is_file())
    assert b"boom 1" in written
    assert b"hunter2" not in written
    assert b"tok-4711" not in written


def test_plain_output_rewrites_nothing(swept: Swept) -> None:
    assert not re.search(r"[\x1b\r\x08]", swept[1].text)


def test_plain_output_has_one_line_for_each_start_and_end(swept: Swept) -> None:
    lines = swept[1].text.splitlines()
    for num in range(3):
        of_job = [line for line in lines if re.search(rf"\bn={num}\b", line)]
        assert any("start" in line.lower() for line in of_job), of_job
    assert "to stdout of" not in swept[1].text  # that is what the logs and show_output are for


def test_a_failure_is_shown_with_its_job_ending_stderr_and_log(swept: Swept) -> None:
    text = swept[1].text
    assert "ValueError: boom 1" in text
    assert 'train.py", line' in text  # the end of its stderr
    assert re.search(r"(\.hsm/logs/1\.err|1/stderr\.log)", text)
    assert "to stderr of 0" not in text


def test_the_summary_counts_by_state(swept: Swept) -> None:
    _, _, summary = swept[1].out.rpartition(": 3 jobs: ")
    assert summary.startswith("2 completed, 1 failed\n")
    assert "\nresults: sweep\n" in summary


NOISE = """
    import os, sys, time
    import hydra


    def parts(n):
        yield b"plain " + b"%d" % n + b"\\n"
        yield b"split "
        yield b"line " + b"%d" % n + b"\\n"
        yield b"not utf-8: \\xff\\xfe\\n"
        yield b"bar 10%\\rbar 50%\\rbar 100%\\n"
        yield b"long " + b"x" * 300_000 + b" end\\n"
        for i in range(200):
            yield b"row %d of %d\\n" % (i, n)
        yield b"no newline"


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        for part in parts(cfg.n):
            while part:
                part = part[os.write(1, part):]
        os.write(2, b"on stderr %d\\n" % cfg.n)


    if __name__ == "__main__":
        main()
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[str]]:
    """What show_output put on the screen for each of four noisy jobs, line by line."""
    folder = tmp_path_factory.mktemp("noise")
    write_files(folder, {"train.py": NOISE})
    overrides = ["+n=0,1,2,3", "hydra.launcher.show_output=true"]
    done = succeed(run_sweep(folder, *overrides, jobs=4))
    found: dict[int, list[str]] = {num: [] for num in range(4)}
    for line in done.text.split("\n"):
        if match := re.match(r"\[(\d)\] (.*)$", line):
            found[int(match[1])].append(match[2])
    assert "\x1b" not in done.text
    assert "\r" not in done.text
    return found


@pytest.mark.slow
@pytest.mark.parametrize("num", range(4))
def test_show_output_never_mixes_lines(shown: dict[int, list[str]], num: int) -> None:
    lines = shown[num]
    assert lines.count(f"plain {num}") == 1
    assert lines.count(f"split line {num}") == 1
    assert lines.count(f"on stderr {num}") == 1
    assert lines.count("no newline") == 1
    rows = [line for line in lines if line.startswith("row ")]
    assert rows == [f"row {i} of {num}" for i in range(200)]


def test_show_output_survives_odd_bytes_bars_and_very_long_lines(
    shown: dict[int, list[str]],
) -> None:
    for lines in shown.values():
        assert sum(line.startswith("not utf-8: ") for line in lines) == 1
        assert "bar 100%" in lines
        # A line may be shown in pieces or shortened, but not so that anything else is lost.
        assert any(line.startswith("long xxx") for line in lines)


def test_the_logs_hold_every_byte(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": NOISE})
    succeed(run_sweep(tmp_path, "+n=7"))
    log = (tmp_path / "sweep" / "0" / "stdout.log").read_bytes()
    rows = b"".join(b"row %d of 7\n" % i for i in range(200))
    assert log == (
        b"plain 7\nsplit line 7\nnot utf-8: \xff\xfe\nbar 10%\rbar 50%\rbar 100%\n"
        + (b"long " + b"x" * 300_000 + b" end\n")
        + rows
        + b"no newline"
    )


EXITS = """
    import sys
    import hydra


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        sys.exit(cfg.get("code"))


    if __name__ == "__main__":
        main()
"""


@pytest.mark.slow
@both_methods
def test_exit_codes_of_jobs_and_of_the_command(tmp_path: Path, start_method: str) -> None:
    write_files(tmp_path, {"train.py": EXITS})
    how: dict[str, Any] = {"start_method": start_method}
    well = run_sweep(tmp_path, "+code=0,null", sweep_dir="well", **how)
    assert well.code == 0, well.text
    assert {end["state"] for end in ends(tmp_path / "well").values()} == {"COMPLETED"}
    badly = run_sweep(tmp_path, "+code=0,3,words,0", sweep_dir="badly", **how)
    assert badly.code == 1
    finals = ends(tmp_path / "badly")
    states = [finals[num]["state"] for num in range(4)]
    assert states == ["COMPLETED", "FAILED", "FAILED", "COMPLETED"]
    assert [finals[num]["exit_code"] for num in range(4)] == [0, 3, 1, 0]
    assert "words" in (tmp_path / "badly" / ".hsm" / "logs" / "2.err").read_text()


@pytest.mark.slow
def test_a_second_sweep_in_the_same_directory_keeps_the_first_record(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": APP, "conf/config.yaml": CONFIG})
    for n in ("5", "6"):
        succeed(run_sweep(tmp_path, f"n={n}", env=SECRET))
    values, ids = set(), set()
    for journal in (tmp_path / "sweep").glob(".hsm*/journal.jsonl"):
        events = [json.loads(line) for line in journal.read_text().splitlines()]
        values |= {event["value"]["n"] for event in events if event["event"] == "end"}
        ids.add(events[0]["sweep_id"])
    assert values == {5, 6}
    assert len(ids) == 2
    assert ends(tmp_path / "sweep")[0]["value"]["n"] == 6
