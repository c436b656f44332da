"""`hsm show`: everything known about one job, or about a sweep as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from hsm.cli._find import sweep_and_job, warn_of_problems
from hsm.cli._option_sets import HsmConfigFile, Json, OptionalJob, OptionalSweep, new_app
from hsm.cli._printing import end_with_the_reader, print_json
from hsm.cli._show_sweep import sweep_facts, sweep_lines
from hsm.cli._stdout import say
from hsm.core.command_line import join_command
from hsm.core.errors import HsmError
from hsm.core.printable import shorten
from hsm.core.program.program import Program
from hsm.core.record.gpu_facts import gpus_text
from hsm.core.record.job import Attempt, Job
from hsm.core.record.metrics import read_measured
from hsm.core.record.named_job import named_job
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import Sweep as SweepRecord
from hsm.core.record.sweep import read_sweep
from hsm.core.units import format_duration, format_size
from hsm.display.counts import FAILURES
from hsm.display.failures import failure_details
from hsm.display.text import from_here, reported_text

app = new_app()

#: Characters of a line; `--json` prints longer values whole.
_MAX_LENGTH = 10_000


@app.command("show")
def show(
    sweep: OptionalSweep = "",
    job: OptionalJob = None,
    as_json: Json = False,
    hsm_config: HsmConfigFile = "",
) -> None:
    """Show everything known about a job or a sweep: what it runs, where, and how."""
    end_with_the_reader()
    paths, num = sweep_and_job(sweep, job, hsm_config)
    record = read_sweep(paths.sweep_dir)
    if num is None:
        facts = sweep_facts(record)
        lines = sweep_lines(facts)
    else:
        its = named_job(record, num)
        facts = _facts(record, its)
        lines = chain(_lines(facts), _printed(its, paths))
    warn_of_problems(record)  # After the facts: reading them may turn up more problems.
    if as_json:
        print_json(facts)
        return
    for name, text in lines:
        say(f"{name:<12} {shorten(text, _MAX_LENGTH)}".rstrip())


def _facts(sweep: SweepRecord, job: Job) -> dict[str, Any]:
    paths = sweep.paths
    directory = job.job_dir or paths.job_dir(job.num)
    return {
        "sweep_id": sweep.sweep_id,
        "job": job.num,
        "job_id": job.job_id,
        "state": str(job.state),
        "ending": job.ending(),
        "params": job.params,
        "command": _command(sweep, job),
        "value": job.value,
        "objective": None if job.outcome is None else job.outcome.objective,
        "reported": _reported(paths, job),
        "attempts": [_attempt(attempt) for attempt in job.attempts],
        "job_dir": directory,
        "stdout": paths.stdout(job.num),
        "stderr": paths.stderr(job.num),
        "host": sweep.latest.get("host"),
        "cwd": sweep.latest.get("cwd"),
    }


def _reported(paths: SweepPaths, job: Job) -> dict[str, Any] | None:
    """What the latest attempt has reported last; None if it has reported nothing."""
    attempt = job.attempt
    measured = None if attempt is None else read_measured(paths, job.num, attempt.metrics)
    if measured is None or not measured.count:
        return None
    return {"count": measured.count, "step": measured.step, "values": measured.latest}


def _command(sweep: SweepRecord, job: Job) -> list[str] | None:
    """Rebuild the job's command line from the journal; None for a function."""
    recorded = sweep.latest.get("program")
    if not recorded:
        return None
    try:
        words = Program.from_record(recorded).command_for(job.params, sweep.paths.job_dir(job.num))
    except (HsmError, TypeError, ValueError):  # recorded by another version or program
        return None
    return None if words is None else list(words)


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "attempt": attempt.number,
        "started": attempt.started,
        "ended": attempt.ended,
        "duration": attempt.duration,
        "pid": attempt.pid,
        "state": str(attempt.ending.state) if attempt.ending else None,
        "ending": attempt.ending.describe() if attempt.ending else None,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "error_type": attempt.error_type,
        "error_message": attempt.ending.whole("error_message") if attempt.ending else None,
        "cpu_seconds": attempt.cpu_seconds,
        "max_memory": attempt.max_memory,
        "gpus": attempt.gpus,
        "gpu_memory": attempt.gpu_memory,
        "gpu_load": attempt.gpu_load,
    }


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "job", f"{facts['job']} of {facts['sweep_id']}, {facts['job_id']}"
    same = facts["ending"].upper() == facts["state"]
    yield "state", facts["state"] if same else f"{facts['state']}: {facts['ending']}"
    for number, (key, value) in enumerate(facts["params"].items()):
        yield "" if number else "parameters", f"{key} = {json.dumps(value, ensure_ascii=False)}"
    if facts["command"]:
        yield "command", join_command(facts["command"])
    if facts["value"] is not None:
        yield "value", json.dumps(facts["value"], ensure_ascii=False)
    if facts["reported"]:
        count, step, values = facts["reported"].values()
        times = "once" if count == 1 else f"{count} times"
        yield "reported", f"{times}, last: {reported_text(step, values)}"
    for attempt in facts["attempts"]:
        yield from _attempt_lines(attempt)
    yield "ran on", f"{facts['host']}, in {facts['cwd']}"
    for name in ("job_dir", "stdout", "stderr"):
        path = facts[name]
        yield {"job_dir": "directory"}.get(name, name), from_here(path) + _remark(path)


def _remark(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return " (not there)"
    return "" if status.st_size else " (empty)"


def _printed(job: Job, paths: SweepPaths) -> Iterator[tuple[str, str]]:
    """The last lines that a failed job printed."""
    if job.state in FAILURES:
        for number, (text, _) in enumerate(failure_details(job, paths)):
            yield "" if number else "last output", text


def _attempt_lines(attempt: dict[str, Any]) -> Iterator[tuple[str, str]]:
    name = f"attempt {attempt['attempt']}"
    if attempt["started"] is None:
        yield name, attempt["ending"] or "has not started"
        return
    started = datetime.fromtimestamp(attempt["started"]).astimezone()
    yield name, f"started {started:%Y-%m-%d %H:%M:%S}, pid {attempt['pid']}"
    if attempt["duration"] is not None:
        yield "", f"took {format_duration(attempt['duration'])}: {attempt['ending']}"
    if attempt["cpu_seconds"] is not None:
        yield (
            "",
            f"CPU time {format_duration(attempt['cpu_seconds'])}, "
            f"peak memory {_memory(attempt['max_memory'])}",
        )
    if attempt["gpus"]:
        yield "", _gpus(attempt)
    if attempt["error_type"]:
        yield "", f"{attempt['error_type']}: {attempt['error_message']}"


def _gpus(attempt: dict[str, Any]) -> str:
    """``GPU 2, peak GPU memory 6.2 GiB, mean load 83%``; of a running job only which."""
    gpus = gpus_text(attempt["gpus"])
    which = f"GPU{'s' * (len(attempt['gpus']) > 1)} {gpus}"
    if attempt["state"] is None:
        return which
    load = "unknown" if attempt["gpu_load"] is None else f"{attempt['gpu_load']:.0f}%"
    return f"{which}, peak GPU memory {_memory(attempt['gpu_memory'])}, mean load {load}"


def _memory(size: int | None) -> str:
    return "unknown" if size is None else format_size(size)
