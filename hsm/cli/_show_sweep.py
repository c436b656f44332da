"""What `hsm show` prints about a whole sweep: its status, its jobs, and how they start."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from hsm.core.record.sweep import Sweep
from hsm.display.text import from_here


def sweep_facts(sweep: Sweep) -> dict[str, Any]:
    """Collect everything known about the sweep, for JSON and for `sweep_lines`."""
    return {
        "sweep_id": sweep.sweep_id,
        "status": sweep.status,
        "started": sweep.header.get("time"),
        "jobs": len(sweep.jobs),
        "states": sweep.jobs.count_states(),
        "chosen": sweep.chosen,
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
        yield "points", _described(facts["chosen"])
    for server in facts["servers"]:
        yield from _server_lines(server)
    yield "ran on", f"{facts['host']}, in {facts['cwd']}"
    yield "directory", from_here(facts["sweep_dir"])


def _described(chosen: Mapping[str, Any]) -> str:
    """How the points were chosen, in one line: method random, n_trials 20, seed 7."""
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in chosen.items()
    )


def _server_lines(server: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Say how job processes are started, and what the check for a safe fork found."""
    method, reason = server["start_method"], server["reason"]
    joint = ", because " if method in ("spawn", "cold") else ", "
    yield "start method", method if reason is None else f"{method}{joint}{reason}"
    found = server["found"] or []
    if reason is None or len(found) > 1:
        yield from (("", f"found: {text}") for text in found)
