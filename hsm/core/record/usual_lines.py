"""Recognizes the lines that nearly all of a large journal consists of, without parsing their JSON.

    a start, an end --USUAL_START, USUAL_END--> its fields, as bytes
    a submission    --UsualSubmits--> UsualSubmit

Parsing and checking a line as JSON takes ten times as long, and a sweep of 100,000 jobs has 200,000
lines. A line is usual if it is exactly what hsm writes, byte for byte, for a job's only attempt
that ended by itself, or for jobs with plain parameters. The patterns admit nothing that
`hsm.core.record.schema` would reject; whatever they do not match is for the JSON parser.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: A text without escapes except for single characters, inside its quotes. A repeated alternative of
#: the two would take twice as long.
_PLAIN = r"[ !#-\[\]-~]*"
_TEXT = rf"{_PLAIN}(?:\\u[0-9a-f]{{4}}{_PLAIN})*"
_NUMBER = r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,40})?(?:e[+-]?[0-9]{1,3})?"
_SCALAR = rf'(?:{_NUMBER}|"{_TEXT}"|true|false|null)'
_PAIR = rf'"{_TEXT}":{_SCALAR}'
_OBJECT = rf"\{{(?:{_PAIR}(?:,{_PAIR})*)?\}}"
_LIST = rf"\[(?:{_SCALAR}(?:,{_SCALAR})*)?\]"
#: A job's number, a pid: far below the largest that is accepted; a size of memory.
_COUNT, _SIZE = "(0|[1-9][0-9]{0,8})", "(0|[1-9][0-9]{0,17})"
_WHOLE = "(?:0|[1-9][0-9]{0,9})"
#: Unix seconds, or a duration.
_SECONDS = rf"({_WHOLE}(?:\.[0-9]{{1,20}}(?:e-[0-9]{{1,2}})?|e-[0-9]{{1,2}}))"
_PATH = r"([ !#-\[\]-~]+)"

#: What a start says of the job's GPUs, and an end of its use of them, as one group each.
_GPU = rf'(?:0|[1-9][0-9]{{0,8}}|"{_TEXT}")'
_HAS_GPUS = (
    rf'(,"slot":(?:0|[1-9][0-9]{{0,8}}),"gpus":\[{_GPU}(?:,{_GPU})*\]'
    rf',"waited":{_WHOLE}\.[0-9]{{1,20}})?'
)
_GPU_USE = (
    r'((?:,"gpu_memory":(?:0|[1-9][0-9]{0,17}))?'
    r'(?:,"gpu_load":(?:100\.0|[1-9]?[0-9]\.[0-9]{1,20}))?)'
)

#: The usual line of a job's start. The groups are the job's number, the pid, what it says of GPUs
#: (None if nothing) and the time.
USUAL_START = re.compile(
    (
        rf'\{{"event":"start","job":{_COUNT},"attempt":1,"pid":{_COUNT}{_HAS_GPUS}'
        rf',"time":{_SECONDS}\}}'
    ).encode()
)
#: The usual line of a job's end. The groups are its number, the state, the exit code, the seconds,
#: those of the CPU, the memory, the value, the job's directory (None if there is none), what it
#: says of GPUs (empty if nothing), the time.
USUAL_END = re.compile(
    (
        rf'\{{"event":"end","job":{_COUNT},"attempt":1,"state":"(COMPLETED|FAILED)"'
        rf',"exit_code":(0|[1-9][0-9]{{0,2}}),"seconds":{_SECONDS},"cpu_seconds":{_SECONDS}'
        rf',"max_memory":{_SIZE}(?:,"value":({_SCALAR}|{_OBJECT}|{_LIST}))?(?:,"job_dir":"{_PATH}")?'
        rf'{_GPU_USE},"time":{_SECONDS}\}}'
    ).encode()
)
_NUM = re.compile(rb'\{"job":([0-9]+),"id":"')
#: A sweep's id that needs no escapes, and is short enough for the ids of its jobs.
_SWEEP_ID = re.compile(r"[ !#-.0-\[\]-~]{1,240}")


class UsualSubmit(NamedTuple):
    """Jobs with these numbers were submitted; `more` will follow in the next lines."""

    jobs: list[int]
    more: int
    time: float


class UsualSubmits:
    """Recognizes the submissions of one sweep, in which a job's id follows from its number.

    Args:
        sweep_id: the sweep's id.
    """

    def __init__(self, sweep_id: str) -> None:
        self._pattern: re.Pattern[bytes] | None = None
        if _SWEEP_ID.fullmatch(sweep_id):
            entry = (
                rf'\{{"job":{_COUNT},"id":"{re.escape(sweep_id)}_\1","label":"{_TEXT}"'
                rf',"params":{_OBJECT}\}}'
            )
            # After an entry come a comma and another one, or the end of the list.
            jobs = rf"(?:{entry}(?:,(?=\{{)|(?=\])))+"
            rest = rf'(?:,"more":{_COUNT})?,"time":{_SECONDS}\}}'
            self._pattern = re.compile(rf'\{{"event":"submit","jobs":\[{jobs}\]{rest}'.encode())

    def match(self, line: bytes) -> UsualSubmit | None:
        """What a line says, if it is a usual submission of jobs."""
        match = None if self._pattern is None else self._pattern.fullmatch(line)
        if match is None:
            return None
        # No text in the line has a quote in it, so this finds nothing but the entries' beginnings.
        jobs = list(map(int, _NUM.findall(line)))
        return UsualSubmit(jobs, int(match[2] or 0), float(match[3]))
