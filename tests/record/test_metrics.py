"""What jobs report is read from their files, whatever is in these."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from hsm.core.record.metrics import (
    MAX_LINE,
    Measured,
    Measurement,
    MetricsFile,
    measurements,
    read_measured,
)
from hsm.core.record.paths import SweepPaths


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    return paths


def append(paths: SweepPaths, *lines: object, num: int = 0) -> Path:
    """Add lines: bytes as they are, others as JSON with a newline."""
    file = Path(paths.metrics_text(num))
    with file.open("ab") as opened:
        for line in lines:
            opened.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
    return file


def test_measurements_are_read_in_order_and_in_short(paths: SweepPaths) -> None:
    append(paths, {"step": 0, "loss": 1.5, "ok": True}, {"lr": 0.1}, {"step": 1, "loss": None})
    append(paths, "asks", "pruned", {"name": "é"})
    assert list(measurements(paths, 0)) == [
        Measurement(0, {"loss": 1.5, "ok": True}),
        Measurement(None, {"lr": 0.1}),
        Measurement(1, {"loss": None}),
        Measurement(None, {"name": "é"}),
    ]
    measured = read_measured(paths, 0)
    latest = {"loss": None, "ok": True, "lr": 0.1, "name": "é"}
    assert measured == Measured(latest, step=1, was_told=True, asks=True, count=4)


def test_without_a_file_there_is_nothing(paths: SweepPaths) -> None:
    assert read_measured(paths, 0) == Measured()
    assert list(measurements(paths, 0)) == []
    assert not MetricsFile(paths, 0).has_more


def test_a_line_that_is_not_complete_waits_for_its_rest(paths: SweepPaths) -> None:
    file = MetricsFile(paths, 0)
    append(paths, {"step": 0}, b'{"step": 1, "lo')
    assert file.read() == [Measurement(0, {})]
    assert file.read() == []
    append(paths, b'ss": 2}\n{"st')
    assert file.read() == [Measurement(1, {"loss": 2})]
    assert file.finish() == []  # its writer was killed
    assert file.measured.unusable == 0


def test_the_last_line_needs_no_newline_once_the_attempt_is_over(paths: SweepPaths) -> None:
    append(paths, {"step": 0}, b'{"step": 1}')
    assert [it.step for it in measurements(paths, 0)] == [0, 1]
    append(paths, b'\n"pruned"')
    assert read_measured(paths, 0).was_told


def test_an_attempt_has_only_what_was_reported_since_it_began(paths: SweepPaths) -> None:
    start = append(paths, {"step": 7, "loss": 9}, "pruned", b'{"torn').stat().st_size
    append(paths, {"step": 0, "acc": 1})
    assert read_measured(paths, 0, start) == Measured({"acc": 1}, step=0, count=1)
    assert list(measurements(paths, 0, start)) == [Measurement(0, {"acc": 1})]


def test_a_file_that_was_emptied_is_read_from_its_beginning(paths: SweepPaths) -> None:
    path = append(paths, {"step": 0}, {"step": 1})
    file = MetricsFile(paths, 0)
    assert len(file.read()) == 2
    path.write_bytes(b'{"step": 5}\n')
    assert file.read() == [Measurement(5, {})]
    assert read_measured(paths, 0, start=1000).step == 5


@pytest.mark.parametrize(
    "line",
    [
        b"epoch 3\n",
        b"\xff\xfe\xfd\n",
        b"[1, 2]\n",
        b"3\n",
        b'"other"\n',
        b'{"loss": [1]}\n',
        b'{"loss": {"a": 1}}\n',
        b'{"step": "1"}\n',
        b'{"step": -1}\n',
        b'{"step": 1.5}\n',
        b'{"step": true}\n',
        b'{"step": 9223372036854775808}\n',
        b'{"n": 1' + b"0" * 400 + b"}\n",
        b'{"n": 1' + b"0" * 5000 + b"}\n",
        b"[" * 50_000 + b"\n",
        b'{"text": "' + b"x" * MAX_LINE + b'"}\n',
        b"\0" * 100 + b"\n",
    ],
)
def test_lines_that_make_no_sense_are_counted_and_passed_over(
    paths: SweepPaths, line: bytes
) -> None:
    append(paths, {"step": 0}, line, {"step": 1})
    measured = read_measured(paths, 0)
    assert (measured.count, measured.unusable, measured.step) == (2, 1, 1)
    assert [it.step for it in measurements(paths, 0)] == [0, 1]


def test_empty_lines_are_nothing(paths: SweepPaths) -> None:
    append(paths, b"\n \r\n", {"step": 0}, b"\n")
    assert read_measured(paths, 0) == Measured({}, step=0, count=1)


def test_what_other_languages_write_is_read(paths: SweepPaths) -> None:
    append(paths, b'{"step": 3.0, "loss": NaN, "big": 123456789012345678901}\r\n')
    append(paths, b'{"loss": -Infinity}\n')
    first, second = measurements(paths, 0)
    assert first.step == 3
    assert math.isnan(float(str(first.values["loss"])))
    assert first.values["big"] == 1.2345678901234568e20
    assert second.values["loss"] == -math.inf


def test_a_long_text_is_cut_and_names_are_bounded(paths: SweepPaths) -> None:
    append(paths, {"text": "x" * 1000}, *({f"n{n}": n} for n in range(2000)), {"n0": -1})
    measured = read_measured(paths, 0)
    assert len(str(measured.latest["text"])) == 500
    assert len(measured.latest) == 1000
    assert measured.latest["n0"] == -1


def test_of_a_huge_file_the_last_part_is_read_in_short(paths: SweepPaths) -> None:
    path = append(paths, {"step": 0, "first": 1})
    os.truncate(path, 1 << 40)  # a hole
    append(paths, b"\n", {"step": 1, "last": 2})
    measured = read_measured(paths, 0)
    assert (measured.step, measured.latest) == (1, {"last": 2})
    assert [it.step for it in measurements(paths, 0)] == [0, 1]


def test_a_file_of_many_lines_is_read_in_parts(paths: SweepPaths) -> None:
    append(paths, b"".join(b'{"step": %d}\n' % step for step in range(200_000)))
    file = MetricsFile(paths, 0)
    steps = []
    while file.has_more:
        part = [it.step for it in file.read()]
        assert 0 < len(part) < 100_000
        steps += part
    assert steps == list(range(200_000))
    assert read_measured(paths, 0).count == 200_000


def test_a_link_is_not_followed(paths: SweepPaths, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b'{"step": 1}\n')
    Path(paths.metrics_text(0)).symlink_to(tmp_path / "elsewhere")
    assert read_measured(paths, 0) == Measured()
    paths.metrics.rename(tmp_path / "moved")
    paths.metrics.symlink_to(tmp_path / "moved")
    (tmp_path / "moved" / "1.jsonl").write_bytes(b'{"step": 1}\n')
    assert read_measured(paths, 1) == Measured()


def test_a_pipe_and_a_folder_are_not_read(paths: SweepPaths) -> None:
    os.mkfifo(paths.metrics_text(0))
    os.mkdir(paths.metrics_text(1))
    assert [read_measured(paths, num) for num in (0, 1)] == [Measured(), Measured()]


@pytest.mark.parametrize(
    ("latest", "value"),
    [
        ({"value": 0.5, "loss": 1}, 0.5),
        ({"loss": 2, "name": "svm", "ok": True}, 2),
        ({"loss": 2, "acc": 1}, None),
        ({"name": "svm", "ok": True}, None),
        ({"value": None, "loss": 1}, 1),
        ({}, None),
    ],
)
def test_the_last_value_is_the_only_number_or_the_one_of_that_name(
    latest: dict[str, float | str | None], value: float | None
) -> None:
    assert Measured(latest).last_value == value
