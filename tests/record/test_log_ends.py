from __future__ import annotations

import os
from pathlib import Path

import pytest

from hsm.core.record.log_ends import end_of_log
from hsm.core.record.paths import SweepPaths


@pytest.fixture
def log(tmp_path: Path) -> Path:
    paths = SweepPaths(tmp_path)
    paths.create()
    return paths.stderr(0)


HEADER = b"---- attempt 2, 2026-01-01 00:00:00 ----\n"


@pytest.mark.parametrize(
    ("written", "end"),
    [
        (b"", ""),
        (b"\na\nb\n", "\na\nb\n"),
        (b"one\n" + HEADER + b"two\n", "two\n"),
        (b"one\n" + HEADER, ""),
        (HEADER + b"two\n", "two\n"),
        (b"one\n" + HEADER + b"two\n" + HEADER.replace(b"2,", b"3,") + b"three", "three"),
        (b"says ---- attempt 2\n", "says ---- attempt 2\n"),
        (b"\xff\n", "\ufffd\n"),
        (b"x" * 200, "x" * 100),
    ],
)
def test_the_latest_attempts_part_at_most(log: Path, written: bytes, end: str) -> None:
    log.write_bytes(written)
    assert end_of_log(log, 100) == end


def test_a_log_that_cannot_be_read_is_empty(log: Path) -> None:
    assert end_of_log(log, 100) == ""
    log.symlink_to("/etc/passwd")
    assert end_of_log(log, 100) == ""
    log.unlink()
    os.mkfifo(log)
    assert end_of_log(log, 100) == ""
