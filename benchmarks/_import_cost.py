"""The import case of `launchers.py`: what a plugin adds to the start of every Hydra application."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from _harness import STDERR, Incomplete, Run, interleave, measure
from _report import Result, Target, any_failed, measured, summarise_runs

PROBE = Path(__file__).resolve().parent / "apps" / "import_plugin.py"


def import_cost(packages: Mapping[str, str], rounds: int, ours: str, limit: float) -> Result:
    """Time that importing each plugin package takes beyond what Hydra itself loads.

    Args:
        packages: the plugin packages, by the name of the launcher.
        rounds: measurements of each.
        ours: the launcher that `limit` is for.
        limit: most milliseconds.
    """

    def measure_one(name: str) -> Run:
        package = packages[name]
        return measure(
            [sys.executable, "-X", "importtime", str(PROBE), package],
            lambda directory: {"import_ms": import_milliseconds(directory / STDERR, package)},
        )

    for name in packages:  # byte code onto the disk
        measure_one(name)
    runs = interleave(list(packages), rounds, measure_one)
    costs = {
        name: summarise_runs(own, lambda run: float(run.facts["import_ms"]))
        for name, own in runs.items()
    }
    return Result(
        "Case import: what the plugin package adds to the start of every Hydra application",
        ["launcher", "milliseconds"],
        [[name, measured(costs[name], runs[name])] for name in packages],
        [Target(f"{ours}, milliseconds of import", costs.get(ours), limit)],
        {"milliseconds": costs, "runs": runs},
        any_failed(runs.values()),
    )


def import_milliseconds(output: Path, package: str) -> float:
    """The cumulative time of `package` and its modules in the output of ``-X importtime``.

    A line reads ``import time: self [us] | cumulative | name``. The name is indented by its level
    of nesting, and a module comes after those that it imported: read from the end, the deeper
    lines that follow a line are within its time.

    Raises:
        Incomplete: the package was not imported.
    """
    total = 0
    counted_depth: int | None = None
    for line in reversed(output.read_text(encoding="utf-8").splitlines()):
        match = re.fullmatch(r"import time:\s+\d+ \|\s+(\d+) \|( +)(\S+)", line)
        if match is None:
            continue
        depth = len(match[2])
        if counted_depth is not None and depth > counted_depth:
            continue
        counted_depth = None
        if match[3] == package or match[3].startswith(package + "."):
            counted_depth = depth
            total += int(match[1])
    if total == 0:
        raise Incomplete(f"no import of {package} in the output of -X importtime")
    return total / 1000
