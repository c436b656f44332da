"""A line of a log is shown without what its logger put before it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.display.log_prefix import without_prefix


@pytest.mark.parametrize(
    ("line", "level", "text"),
    [
        ("[2026-01-31 12:00:00,123][__main__][INFO] - epoch 3", "", "epoch 3"),
        ("[2026-01-31 12:00:00,123][train.net][WARNING] - careful", "WARNING", "careful"),
        ("[2026-01-31 12:00:00,123][HYDRA] Launching 2 jobs", "", "Launching 2 jobs"),
        ("INFO:root:epoch 3", "", "epoch 3"),
        ("ERROR:a.b:bad: x", "ERROR", "bad: x"),
        ("2026-01-31 12:00:00,123 - train - INFO - epoch 3", "", "epoch 3"),
        ("2026-01-31 12:00:00,123 - INFO - epoch 3", "", "epoch 3"),
        ("2026-01-31 12:00:00 INFO epoch 3", "", "epoch 3"),
        ("2026-01-31 12:00:00 INFO train: epoch 3", "", "train: epoch 3"),
        ("2026-01-31 12:00:00 [INFO] train: epoch 3", "", "train: epoch 3"),
        ("2026-01-31 12:00:00,123 train INFO epoch 3", "", "epoch 3"),
        ("2026-01-31 12:00:00,123 INFO: epoch 3", "", "epoch 3"),
        ("2026-01-31 12:00:00,123 [WARNING] epoch 3", "WARNING", "epoch 3"),
        ("[2026-01-31 12:00:00,123] ERROR in app: epoch 3", "ERROR", "in app: epoch 3"),
        ("2026-01-31T12:00:00Z INFO epoch: 3", "", "epoch: 3"),
        ("2026-01-31 12:00:00.123 | INFO     | __main__:main:12 - epoch 3", "", "epoch 3"),
        ("2026-01-31 12:00:00.123 | WARNING  | a.b:<module>:12 - epoch 3", "WARNING", "epoch 3"),
        ("I0131 12:00:00.123456 1234 train.py:12] epoch 3", "", "epoch 3"),
        ("W0131 12:00:00.123456   140 a/train.py:12] epoch 3", "WARNING", "epoch 3"),
        ("[INFO|trainer.py:12] 2026-01-31 12:00:00,123 >> epoch 3", "", "epoch 3"),
        ("[12:00:00] INFO     epoch 3                             train.py:12", "", "epoch 3"),
        (
            "[01/31/26 12:00:00] WARNING  epoch 3                    train.py:12",
            "WARNING",
            "epoch 3",
        ),
        ("           INFO     epoch 3                             train.py:12", "", "epoch 3"),
        ("[INFO] epoch 3", "", "epoch 3"),
        ("INFO: epoch 3", "", "epoch 3"),
        ("WARNING - x", "WARNING", "x"),
        ("2026-01-31 12:00:00 epoch 3", "", "epoch 3"),
        ("[12:00:00] epoch 3", "", "epoch 3"),
        ("epoch 3 loss 0.2", "", "epoch 3 loss 0.2"),
        ("INFORMATION is power", "", "INFORMATION is power"),
        ("ERROR", "", "ERROR"),
        (
            "[2026-01-31 12:00:00,123][__main__][INFO] - ",
            "",
            "[2026-01-31 12:00:00,123][__main__][INFO] - ",
        ),
        ("12:00:01 epochs", "", "12:00:01 epochs"),
        ("[rank0]: x", "", "[rank0]: x"),
        ("INFO epoch 3", "", "INFO epoch 3"),
        (
            "2026-01-31 12:00:00,123 - a.b - ERROR - file.py - not found",
            "ERROR",
            "file.py - not found",
        ),
        ("2026-01-31 12:00:00,123 - a.b - INFO - loss: 3", "", "loss: 3"),
        ("2026-01-31 12:00:00,123 INFO loss: 3", "", "loss: 3"),
    ],
)
def test_prefixes(line: str, level: str, text: str) -> None:
    assert without_prefix(line) == (level, text)


@given(st.text())
def test_a_text_is_never_lost(text: str) -> None:
    line = f"[2026-01-31 12:00:00,123][__main__][INFO] - {text}"
    assert without_prefix(line) == ("", text.lstrip() if text.strip() else line)
