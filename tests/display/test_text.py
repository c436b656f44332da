"""How lines, times and sizes are shown, and the last lines of a log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.core.printable import shorten
from hsm.core.units import format_age, format_clock, format_duration, format_size
from hsm.display.tail import last_lines
from hsm.display.text import clean

# ---------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain [red]not markup[/red] 验证", "plain [red]not markup[/red] 验证"),
        ("\x1b[1;31mred\x1b[0m \x1b[2Kline", "red line"),
        ("\x1b]0;title\x07text \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "text link"),
        ("\x1bcreset \x1b(Bascii", "reset ascii"),
        ("\x9b31mred\x9bm", "red"),
        ("10%\r55%\r100%\r", "100%"),
        ("50%\r\x1b[K", "50%"),
        ("a\tb", "a       b"),
        ("bell\x07 null\x00 delete\x7f escape\x1b", "bell\\x07 null\\x00 delete\\x7f escape\\x1b"),
        ("right\u202eto left", "right\\u202eto left"),
        ("lone \udcff surrogate", "lone \\udcff surrogate"),
        ("two\nlines", "two\\nlines"),
    ],
)
def test_clean(line: str, shown: str) -> None:
    assert clean(line) == shown


@given(st.text())
def test_whatever_is_cleaned_cannot_steer_a_terminal(text: str) -> None:
    assert clean(text).isprintable()
    clean(text).encode()


def test_shorten() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"


@pytest.mark.parametrize(
    ("seconds", "as_clock", "as_span"),
    [
        (-1.0, "0:00", "0.00 s"),
        (0.42, "0:00", "0.42 s"),
        (0.999, "0:00", "1.0 s"),
        (9.97, "0:09", "10 s"),
        (42.0, "0:42", "42 s"),
        (59.7, "0:59", "1:00"),
        (754.0, "12:34", "12:34"),
        (3723.0, "1:02:03", "1:02:03"),
        (3 * 86400 + 4 * 3600.0, "3d 04:00:00", "3d 04:00:00"),
    ],
)
def test_times(seconds: float, as_clock: str, as_span: str) -> None:
    assert (format_clock(seconds), format_duration(seconds)) == (as_clock, as_span)


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        *((-5.0, "0s"), (0.4, "0s"), (59.9, "59s"), (60.0, "1m"), (3599.0, "59m")),
        *((7300.0, "2h"), (86399.0, "23h"), (5 * 86400.0, "5d"), (4e7, "462d")),
    ],
)
def test_ages_have_one_unit(seconds: float, age: str) -> None:
    assert format_age(seconds) == age


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (34 << 20, "34 MiB"),
        ((1 << 30) - 1, "1.0 GiB"),
        (1288490189, "1.2 GiB"),
        (3 << 50, "3.0 PiB"),
    ],
)
def test_memory(size: int, shown: str) -> None:
    assert format_size(size) == shown


# ----------------------------------------------------------------------------------------- tail


def test_the_last_lines_of_a_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(20)) + b"last\n\n")
    assert last_lines(log, 3) == ["line 18", "line 19", "last"]


def test_the_last_lines_of_anything(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"bar 1%\rbar 100%\r\n\xff\xfebytes \x1b[31mred\x1b[0m\n" + b"x" * 600)
    assert last_lines(log) == ["bar 100%", "\ufffd\ufffdbytes red", "x" * 499 + "…"]


def test_a_file_of_a_gigabyte_is_read_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\nValueError: boom\n")
    before = _bytes_read()
    assert last_lines(log, 1) == ["ValueError: boom"]
    assert _bytes_read() - before < 1 << 20


def _bytes_read() -> int:
    """By this process so far, with whatever system call."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("size", range(20, 32))
def test_lines_cut_by_the_limit_are_left_out(tmp_path: Path, size: int) -> None:
    log = tmp_path / "log"
    log.write_text("first line\nzweite Zeile ü\nthird line\n", encoding="utf-8")
    # "third line" has 11 bytes and the one before it 16, with their newlines.
    expected = ["zweite Zeile ü", "third line"] if size >= 27 else ["third line"]
    assert last_lines(log, 10, size) == expected


def test_of_one_endless_line_the_end_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"".join(b"\rstep %06d" % number for number in range(1000)))
    assert last_lines(log, 10, 100) == ["step 000999"]
    log.write_bytes(b"x" * 1000 + b"\n")
    assert last_lines(log, 10, 100) == ["x" * 99]


def test_no_lines(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"\n\n")
    assert last_lines(tmp_path / "empty") == []
    assert last_lines(tmp_path / "missing") == []
    assert last_lines(tmp_path) == []
