"""Reporting: summaries and ratios of runs, tables, limits, the machine, and the JSON file.

Only runs without a problem enter a summary or a ratio. The machine's description comes from /proc.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _harness import Run


@dataclass(frozen=True)
class Summary:
    """The middle and the spread of `count` numbers."""

    median: float
    low: float
    high: float
    count: int

    def text(self, digits: int = 2) -> str:
        """``3.14 (3.10-3.20)``, or the number alone if there is only one."""
        if self.count == 1:
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def summarise(numbers: Sequence[float]) -> Summary | None:
    """Median, minimum and maximum; None of nothing."""
    if not numbers:
        return None
    return Summary(statistics.median(numbers), min(numbers), max(numbers), len(numbers))


def summarise_runs(runs: Sequence[Run], value: Callable[[Run], float]) -> Summary | None:
    """`value` summarised over the runs that count."""
    return summarise([value(run) for run in runs if run.problem is None])


def ratio(runs: Sequence[Run], reference: Sequence[Run]) -> Summary | None:
    """Wall times of `runs` over those of `reference`, round by round.

    Both sides of a pair ran next to each other, so a machine that is slower for a while moves both.
    """
    return summarise(
        [
            one.seconds / other.seconds
            for one, other in zip(runs, reference, strict=True)
            if one.problem is None and other.problem is None
        ]
    )


@dataclass(frozen=True)
class Target:
    """A limit that a figure must not exceed."""

    name: str
    value: Summary | None
    limit: float

    def text(self) -> str:
        """One line with the verdict."""
        limit = f"limit {self.limit:g}"
        if self.value is None:
            return f"{self.name}: not measured, {limit}"
        verdict = "holds" if self.value.median <= self.limit else "MISSED"
        return f"{self.name}: {self.value.text()}, {limit}: {verdict}"


@dataclass(frozen=True)
class Result:
    """What a case found: title, header, rows and targets for the screen, document for the file."""

    title: str
    header: list[str]
    rows: list[list[str]]
    targets: list[Target]
    document: dict[str, Any]
    failed: bool

    def show(self) -> None:
        """Print it."""
        print(f"\n{self.title}\n")
        print_table(self.header, self.rows)
        for target in self.targets:
            print(target.text())


def cell(summary: Summary | None, scale: float = 1.0, digits: int = 2) -> str:
    """A summary as a cell of a table, its numbers multiplied by `scale`."""
    if summary is None:
        return "-"
    scaled = Summary(
        summary.median * scale, summary.low * scale, summary.high * scale, summary.count
    )
    return scaled.text(digits)


def measured(
    summary: Summary | None, runs: Sequence[Run], scale: float = 1.0, digits: int = 2
) -> str:
    """`cell` for a figure that comes from `runs`; says how many of them failed."""
    failed = sum(run.problem is not None for run in runs)
    if failed == len(runs):
        return "FAILED"
    note = f", {failed} of {len(runs)} FAILED" if failed else ""
    return cell(summary, scale, digits) + note


def count(text: str) -> int:
    """A positive number on a command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def any_failed(runs: Iterable[Sequence[Run]]) -> bool:
    """Whether one of all these runs does not count."""
    return any(run.problem is not None for own in runs for run in own)


def machine() -> dict[str, Any]:
    """The machine and how busy it is, as far as it matters for reading a result."""
    return {
        "system": platform.platform(),
        "cpu": _proc_field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": os.getloadavg()[0],
    }


def available_memory() -> int:
    """Bytes that can be used without swapping."""
    return int(_proc_field("/proc/meminfo", "MemAvailable").split()[0]) * 1024


def _proc_field(path: str, name: str) -> str:
    """The first ``name : value`` in a file of /proc; "0" if there is none."""
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0"


def versions(distributions: Sequence[str]) -> dict[str, str | None]:
    """Versions of Python and of the named distributions; None for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns on stdout: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [
            value.rjust(width) if column else value.ljust(width)
            for column, (value, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    print(flush=True)


def show_share(
    runs: Mapping[str, Sequence[Run]], title: str, column: str, share: tuple[str, str], most: float
) -> dict[str, Any]:
    """Print a table of the time of whole sweeps, and of the CPU time of their jobs.

    Args:
        runs: by name; the fact `jobs_cpu` of a run is that CPU time in seconds, if it is known.
        title: what was run.
        column: what the names are.
        share: of two names, the first is to take no more than `most` of the second's time.
        most: the limit of that.

    Returns the same figures and all runs, for the JSON file.
    """
    ours, reference = share
    document: dict[str, Any] = {}
    rows = []
    for name, own in runs.items():
        seconds = summarise_runs(own, lambda run: run.seconds)
        known = [run for run in own if run.problem is not None or "jobs_cpu" in run.facts]
        cpu = summarise_runs(known, lambda run: run.facts["jobs_cpu"])
        against = None if name == reference else ratio(own, runs[reference])
        rows.append([name, measured(seconds, own), cell(cpu, digits=1), cell(against)])
        document[name] = {"seconds": seconds, "jobs_cpu": cpu, "ratio": against, "runs": own}
    print(f"\n{title}\n")
    print_table([column, "seconds", "CPU s of jobs", f"/ {reference}"], rows)
    print(Target(f"{ours} / {reference}", ratio(runs[ours], runs[reference]), most).text())
    return document


def new_document(benchmark: str, installed: Mapping[str, str | None]) -> dict[str, Any]:
    """What the JSON file of every benchmark begins with."""
    return {
        "benchmark": benchmark,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": machine(),
        "versions": installed,
    }


def finish(document: Mapping[str, Any], path: Path | None, failed: bool) -> int:
    """Write the document (a `Run` or `Summary` in it as an object); returns the exit code."""
    if path is not None:
        path.write_text(json.dumps(document, indent=2, default=asdict) + "\n", encoding="utf-8")
        print(f"written: {path}")
    if failed:
        print("some runs FAILED and are in no figure above", file=sys.stderr)
    return 1 if failed else 0
