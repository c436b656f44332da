"""The text of a line of a log, without what its logger put before it."""

from __future__ import annotations

import re
from typing import NamedTuple

_DAY = r"\d{4}[-/]\d\d[-/]\d\d"
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d+)?"
_TIME = rf"{_DAY}[ T]{_CLOCK}(?:Z|[+-]\d\d:?\d\d)?"
_LEVEL = r"(?P<level>TRACE|DEBUG|INFO|NOTICE|SUCCESS|WARN(?:ING)?|ERROR|CRITICAL|FATAL)"
_NAME = r"[\w.<>$/-]+"

_PREFIXES = [
    re.compile(pattern)
    for pattern in (
        # [2026-01-31 12:00:00,123][train][INFO] - text         Hydra
        rf"\[{_TIME}\](?:\[{_NAME}\])*\[{_LEVEL}\](?:\[{_NAME}\])* ?[-:]? ?",
        rf"\[{_TIME}\]\[HYDRA\] ",
        # INFO:root:text                                        logging
        rf"{_LEVEL}:{_NAME}:",
        # 2026-01-31 12:00:00.123 | INFO     | train:main:12 - text        loguru
        rf"{_TIME} \| {_LEVEL} *\| {_NAME}:{_NAME}:\d+ - ",
        # 2026-01-31 12:00:00,123 - train - INFO - text         and the like
        rf"\[?{_TIME}\]?(?: ?[-|:]? ?\[?{_NAME}\]?)?? ?[-|:]? ?\[?{_LEVEL}\b\]?"
        r"(?: *[-|:] | +)",
        # I0131 12:00:00.123456 1234 train.py:12] text          absl, glog
        rf"(?P<letter>[IWEF])(?:\d{{4}}|\d{{8}}) {_CLOCK} +\d+ [^\]]+:\d+\] ",
        # [INFO|trainer.py:12] 2026-01-31 12:00:00,123 >> text  transformers
        rf"\[{_LEVEL}\|[^\]]+:\d+\] {_TIME} >> ",
        # [12:00:00] INFO     text              train.py:12     rich
        rf"(?:\[(?:\d\d/\d\d/\d\d |{_DAY} )?{_CLOCK}\]|\s{{8,}})\s*{_LEVEL}\s+(?P<rich>)",
        # [INFO] text, INFO: text, INFO - text
        rf"\[{_LEVEL} *\](?: [-:])? *",
        rf"{_LEVEL} *(?:: | - | \| )",
        # 2026-01-31 12:00:00 text, [12:00:00] text
        rf"(?:\[(?:{_TIME}|{_CLOCK})\]|{_TIME})(?: ?[-|:])? +",
    )
]
_LETTERS = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "FATAL"}
_RICH_PLACE = re.compile(r"\s+[\w.-]+\.py:\d+\s*$")
_QUIET = {"TRACE", "DEBUG", "INFO", "NOTICE", "SUCCESS"}


class LogLine(NamedTuple):
    """A line of a log: its `level`, if that is a warning or worse (else empty), and its `text`."""

    level: str
    text: str


def without_prefix(line: str) -> LogLine:
    """Split a line, `clean`ed, into its level and its text.

    A line that begins like none of the common loggers' is text, and so is a prefix without text. A
    name after the level stays: nothing tells `train: text` from `loss: 0.2`.
    """
    for prefix in _PREFIXES:
        if (found := prefix.match(line)) is not None:
            fields = found.groupdict()
            text = line[found.end() :]
            if fields.get("rich") is not None:
                text = _RICH_PLACE.sub("", text)
            if not text.strip():
                break
            level = fields.get("level") or _LETTERS.get(fields.get("letter") or "", "")
            return LogLine("" if level in _QUIET else level, text.lstrip())
    return LogLine("", line)
