"""log_limit: of a job that prints without end, the first and the last half are kept, in order."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.cli import Project
from helpers.processes import first_fast, wait_for
from helpers.reliability import Recorder, points, source
from hsm.core.local.processes import log_bound
from hsm.core.local.processes.log_bound import LogBound
from hsm.core.record.cut_logs import MARK_LENGTH, continue_in, mark
from hsm.core.record.paths import SweepPaths

LIMIT = 64 << 10
#: Lines of 16 bytes, so that each says where it was printed.
PRINT = """
import sys
for n in range({first}, {last}):
    sys.{stream}.write(f"{{n:015}}\\n")
sys.{stream}.flush()
"""


def text(first: int, last: int) -> bytes:
    return b"".join(b"%015d\n" % n for n in range(first, last))


def printing(last: int, *, first: int = 0, stream: str = "stdout") -> list[str]:
    script = PRINT.format(first=first, last=last, stream=stream)
    return [sys.executable, "-c", script.replace("{", "{{").replace("}", "}}")]


def cut(output: bytes, limit: int = LIMIT) -> bytes:
    half = limit // 2
    return output[:half] + mark(len(output) - limit, limit) + output[-half:]


def noisy(params: dict[str, Any]) -> None:
    sys.stdout.write(text(0, params["x"]).decode())


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    return SweepPaths(tmp_path / "sweep")


def _run(paths: SweepPaths, count: int, *observers: Recorder, **given: Any) -> None:
    work = {name: given.pop(name) for name in ("function", "command") if name in given}
    with source(*observers, log_limit=LIMIT, **given) as made:
        made.submit_jobs(points(count), "s", paths.sweep_dir, **work)


@pytest.mark.parametrize(
    ("start_method", "is_function"),
    [
        ("fork", True),
        pytest.param("spawn", True, marks=pytest.mark.slow),
        pytest.param("fork", False, marks=pytest.mark.slow),
    ],
)
def test_the_first_and_the_last_half_of_what_a_job_prints_are_kept(
    paths: SweepPaths, start_method: str, is_function: bool
) -> None:
    work = {"function": noisy} if is_function else {"command": printing(200_000)}
    _run(paths, 200_000, start_method=start_method, **work)
    kept = paths.stdout(0).read_bytes()
    assert kept == cut(text(0, 200_000))
    assert len(kept) == LIMIT + MARK_LENGTH
    assert b"\n---- 3134464 bytes were left out here (log_limit=65536) ----" in kept
    assert sorted(os.listdir(paths.logs)) == ["0.err", "0.out"]


@pytest.mark.parametrize("lines", first_fast(LIMIT // 16 + 5, LIMIT // 16, LIMIT // 16 - 1, 1, 0))
def test_a_log_that_would_not_get_shorter_stays(paths: SweepPaths, lines: int) -> None:
    _run(paths, lines, function=noisy)
    assert paths.stdout(0).read_bytes() == text(0, lines)


@pytest.mark.slow
def test_each_attempt_has_the_limit_to_itself(paths: SweepPaths) -> None:
    command = [
        *printing(100_000)[:2],
        printing(100_000, stream="stderr")[2] + "raise SystemExit(3)",
    ]
    _run(paths, 0, command=command, max_retries=2, retry_delay=0.0)
    first, second, third = paths.stderr(0).read_bytes().split(b"---- attempt ")
    whole = text(0, 100_000)
    assert first == cut(whole)
    for number, attempt in ((2, second), (3, third)):
        assert attempt.startswith(b"%d, " % number)
        assert attempt.endswith(whole[-LIMIT // 2 :])
        assert len(attempt) == LIMIT + MARK_LENGTH - len(b"---- attempt ")


def test_live_output_has_every_line(paths: SweepPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_bound, "_MIN_SLACK", 1 << 14)  # cut often
    lines: list[str] = []
    seen = paths.sweep_dir.parent / "seen"
    seen.mkdir()

    def slowly(params: dict[str, Any]) -> None:
        for start in range(0, 20_000, 2500):
            sys.stdout.write(text(start, start + 2500).decode())
            sys.stdout.flush()
            # A job that does not wait would print more than the limit between two looks.
            wait_for(Path(f"{params['seen']}/{start}").exists, "the display")

    class Seeing(Recorder):
        def job_output(self, job: Any, stream: str, line: str) -> None:
            lines.append(line)
            if int(line) % 2500 == 2499:
                (seen / str(int(line) - 2499)).touch()

    with source(Seeing(), log_limit=LIMIT, show_output=True) as made:
        given = [{"seen": str(seen)}]
        made.submit_jobs(given, "s", paths.sweep_dir, function=slowly)
    assert lines == text(0, 20_000).decode().splitlines()
    assert paths.stdout(0).read_bytes() == cut(text(0, 20_000))


@pytest.mark.slow
def test_when_its_keeper_is_killed_a_log_is_in_order(paths: SweepPaths) -> None:
    go = paths.sweep_dir.parent / "go"

    def prints_and_stays(params: dict[str, Any]) -> None:
        sys.stdout.write(text(0, 200_000).decode())
        sys.stdout.flush()
        go.touch()
        while True:
            signal.pause()

    with source(log_limit=LIMIT) as made:
        (job_id,) = made.submit_jobs(points(0), "s", paths.sweep_dir, function=prints_and_stays)
        wait_for(go.exists, "the output")
        # The job may be further than what is known of it.
        pid = wait_for(lambda: made.job(job_id).attempts, "its start")[0].pid
        psutil.Process(pid).parent().kill()  # type: ignore[union-attr]
        made.wait()
    kept = paths.stdout(0).read_bytes()
    head, rest = kept[: LIMIT // 2], kept[LIMIT // 2 + MARK_LENGTH :]
    assert head == text(0, LIMIT // 32)
    assert rest == text(200_000 - len(rest) // 16, 200_000)
    assert len(kept) <= LIMIT + MARK_LENGTH + LIMIT // 2 + log_bound._MIN_SLACK + (1 << 18)
    assert kept[len(head) :].startswith(mark(200_000 * 16 - len(head) - len(rest), LIMIT))


@pytest.mark.parametrize("at_once", [5_000, 30_000, 100_000])
def test_a_reader_that_is_late_is_told_what_it_has_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(log_bound, "_MIN_SLACK", 1)
    path = tmp_path / "0.out"
    path.write_bytes(b"---- attempt 2, at noon ----\n")
    log = os.open(path, os.O_RDWR)
    bound = LogBound(LIMIT, 0, lambda: os.open(tmp_path, os.O_RDONLY), path.name)
    written, got, missing = os.lseek(log, 0, os.SEEK_END), path.read_bytes(), 0
    reader, offset = os.open(path, os.O_RDONLY), written
    for number in range(20):
        output = bytes([ord("a") + number]) * at_once
        os.lseek(log, 0, os.SEEK_END)
        written += os.write(log, output)
        if os.fstat(log).st_size >= bound.size:
            bound.cut(log)
        if number % 4 == 3:
            chunk = os.pread(reader, 1 << 30, offset)
            got, offset = got + chunk, offset + len(chunk)
            if os.fstat(reader).st_nlink == 0:
                new = os.open(path, os.O_RDONLY)
                offset, notice = continue_in(new, reader, offset)
                if notice:
                    missing += int(notice.split()[1])
                os.close(reader)
                chunk = os.pread(new, 1 << 30, offset)
                reader, got, offset = new, got + chunk, offset + len(chunk)
    assert got.endswith(b"t" * (min(at_once, LIMIT) // 2))
    assert len(got) + missing == written
    assert (missing > 0) == (at_once > 5_000)
    os.close(reader)
    os.close(log)


@pytest.mark.slow
def test_hsm_logs_follows_a_log_that_is_cut(project: Project) -> None:
    """And takes nothing that a job prints for a cut."""
    project.write("fit.py", FAKES)
    sweep = ("sweep", "x=1", "--sweep-id", "bg", "--detach", "--log-limit", "64KiB")
    project.hsm(*sweep, "--script", "fit.py")
    with project.ending("bg"):
        project.wait_for("began")
        with project.start("logs", "bg", "0", "--follow") as following:
            assert following.stdout is not None
            for count in range(8):
                got = following.stdout.read(len(FAKE) * 100_000 // 16)
                assert got == FAKE * (100_000 // 16)
                project.write(f"go-{count}", "")
            assert following.stdout.read() == ""
    kept = project.sweep("bg").paths.stdout(0).read_bytes()
    assert len(kept) == LIMIT + MARK_LENGTH


FAKE = mark(100, LIMIT).decode()
FAKES = f"""
import pathlib, sys, time
for count in range(8):
    sys.stdout.write({FAKE!r} * {100_000 // 16})
    sys.stdout.flush()
    pathlib.Path("began").touch()
    while not pathlib.Path(f"go-{{count}}").exists(): time.sleep(0.01)
"""
