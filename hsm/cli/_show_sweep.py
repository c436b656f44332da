"""What `hsm show` prints about a whole sweep: its status, its jobs, and how they start."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from hsm.cli._outcome import ends
from hsm.core.job_numbers import show_numbers
from hsm.core.record.gpu_facts import (
    RecordedGpu,
    asked_of_gpus,
    count_text,
    gpus_text,
    recorded_gpus,
)
from hsm.core.record.sweep import Sweep
from hsm.core.results.goal import Goal, is_study
from hsm.core.results.repeats import Repeats
from hsm.core.results.tables import for_people
from hsm.core.units import format_size
from hsm.display.text import from_here

#: What is told of a point, or a study, in lines of its own.
_SPACE = "space"
#: Trials on the Pareto front that are shown; `--json` has all.
_MAX_FRONT = 10


def sweep_facts(sweep: Sweep) -> dict[str, Any]:
    """Collect everything known about the sweep, for JSON and for `sweep_lines`."""
    goal = Goal.recorded(sweep.latest)
    return {
        "sweep_id": sweep.sweep_id,
        "status": sweep.status,
        "started": sweep.header.get("time"),
        "jobs": len(sweep.jobs),
        "states": sweep.jobs.count_states(),
        "chosen": sweep.chosen,
        "planned": sweep.planned,
        **(ends(sweep) if goal.is_told else {}),
        "gpus": _gpus(sweep),
        "servers": sweep.servers,
        "host": sweep.latest.get("host"),
        "cwd": sweep.latest.get("cwd"),
        "sweep_dir": sweep.paths.sweep_dir,
    }


def sweep_lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Turn the facts into lines to print: a name and its text each."""
    yield "sweep", facts["sweep_id"]
    yield "status", facts["status"]
    if facts["started"] is not None:
        started = datetime.fromtimestamp(facts["started"]).astimezone()
        yield "started", f"{started:%Y-%m-%d %H:%M:%S}"
    counts = [f"{count} {state.lower()}" for state, count in facts["states"].items()]
    yield "jobs", ", ".join([str(facts["jobs"]), *counts]).replace(", ", ": ", 1).replace("_", " ")
    if facts["chosen"]:
        yield from _chosen_lines({**_defaults(facts), **facts["chosen"]})
    yield from _best_lines(facts)
    if facts["gpus"]:
        yield "gpus", _gpus_text(facts["gpus"])
    for server in facts["servers"]:
        yield from _server_lines(server)
    yield "ran on", f"{facts['host']}, in {facts['cwd']}"
    yield "directory", from_here(facts["sweep_dir"])


def _defaults(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a study does not record as it is by default: how many trials, and which end is best."""
    chosen, planned = facts["chosen"], facts["planned"]
    if not is_study(chosen):
        return {}
    defaults = {"method": chosen.get("method", "optuna")}
    if planned is not None:
        repeats = Repeats.recorded({"chosen": chosen})
        defaults["n_trials"] = planned // (1 if repeats is None else repeats.count)
    return {**defaults, "direction": "minimize"}


def _chosen_lines(chosen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How the points were chosen: in one line, and for a study a line for each parameter."""
    space = chosen.get(_SPACE)
    facts = {name: value for name, value in chosen.items() if name != _SPACE}
    if facts:
        yield "points", _described(facts)
    if isinstance(space, Mapping):
        for number, (key, text) in enumerate(space.items()):
            yield "" if number else _SPACE, f"{key} = {_text(text)}"


def _described(chosen: Mapping[str, Any]) -> str:
    """How the points were chosen, in one line: method random, n_trials 20, seed 7."""
    return ", ".join(f"{name} {_text(value)}" for name, value in chosen.items())


def _text(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _best_lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The best trial of a study, or those on the Pareto front."""
    if (best := facts.get("best")) is not None:
        metric = f"{facts['metric']} " if facts["metric"] else ""
        yield "best", _trial(f"{metric}{for_people(best['value'])}", best)
    front: Sequence[Mapping[str, Any]] = facts.get("pareto") or ()
    for number, trial in enumerate(front[:_MAX_FRONT]):
        values = ", ".join(f"{name} {for_people(it)}" for name, it in trial["values"].items())
        yield "" if number else "pareto", _trial(values, trial)
    if len(front) > _MAX_FRONT:
        yield "", f"and {len(front) - _MAX_FRONT} more"


def _trial(values: str, trial: Mapping[str, Any]) -> str:
    params = " ".join(f"{name}={_text(value)}" for name, value in trial["params"].items())
    jobs = trial.get("jobs", ())
    which = f"jobs {show_numbers(jobs)}" if len(jobs) > 1 else f"job {trial['job']}"
    return f"{values} by {which}: {params}"


def _gpus(sweep: Sweep) -> dict[str, Any] | None:
    """What its jobs were to get of GPUs, and which there were; None if hsm gave them none."""
    asked, found = asked_of_gpus(sweep.latest), recorded_gpus(sweep.latest)
    if asked.gpus is None and asked.memory is None:
        return None
    return {
        "per_job": asked.gpus,
        "memory_per_job": asked.memory,
        "found": [gpu._asdict() for gpu in found],
    }


def _gpus_text(facts: Mapping[str, Any]) -> str:
    """``0.5 per job with 10 GiB, of 4 GPUs (NVIDIA RTX A6000, 48 GiB): 0,1,2,3``."""
    per_job, memory = facts["per_job"], facts["memory_per_job"]
    if per_job == 0:
        return "none: hidden from jobs"
    text = f"{1 if per_job is None else per_job:g} per job"
    if memory is not None:
        text += f" with {format_size(memory)}{' on each' if (per_job or 0) > 1 else ''}"
    found = [RecordedGpu(**gpu) for gpu in facts["found"]]
    if not found:
        return text
    return f"{text}, of {count_text(found)}: {gpus_text(gpu.id for gpu in found)}"


def _server_lines(server: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Say how job processes are started, and what the check for a safe fork found."""
    method, reason = server["start_method"], server["reason"]
    joint = ", because " if method in ("spawn", "cold") else ", "
    yield "start method", method if reason is None else f"{method}{joint}{reason}"
    found = server["found"] or []
    if reason is None or len(found) > 1:
        yield from (("", f"found: {text}") for text in found)
