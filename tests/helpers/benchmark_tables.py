"""The tables of the documentation that show what benchmarks have measured.

They come from benchmarks/results/*.json, which the benchmarks write when they are told `--json`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from helpers.docs import table
from helpers.processes import REPOSITORY

RESULTS = REPOSITORY / "benchmarks" / "results"


def made_from(name: str, make: Callable[[Any], list[str]]) -> list[str]:
    """The table that `make` makes of a file of results; empty as long as there is no such file."""
    path = RESULTS / f"{name}.json"
    return make(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def _launchers(document: Any) -> list[str]:
    cases = document["cases"]
    names = list(cases["a"]["seconds"])
    imports = " and ".join(cases["b"]["imports"])

    def row(title: str, of: Callable[[str], dict[str, float] | None], digits: int) -> list[str]:
        found = [of(name) for name in names]
        return [title, *(f"{one['median']:.{digits}f}" if one else "" for one in found)]

    def ratio(case: str) -> Callable[[str], dict[str, float] | None]:
        return lambda name: cases[case]["ratios"].get(f"hsm_local / {name}")

    rows = []
    for case, script in (("a", ""), ("b", f", of a script that imports {imports}")):
        title = f"{cases[case]['jobs']} jobs that return at once{script}"
        rows.append(row(f"{title}: seconds", cases[case]["seconds"].get, 1))
        rows.append(row("… `hsm_local`'s share of that time", ratio(case), 2))
    if "cpu" in cases:
        of_jobs = cases["cpu"]["milliseconds_per_job"]
        rows.append(row("CPU time of a job, in all processes: ms", of_jobs.get, 0))
    if "first" in cases:
        title = f"until the first of {cases['first']['jobs']:,} jobs starts: seconds"
        rows.append(row(title, cases["first"]["seconds"].get, 1))
    slope = cases["memory"]["kilobytes_per_job"]
    rows.append(row("memory that the launcher grows by: kB a job", slope.get, 0))
    added = cases["import"]["milliseconds"]
    rows.append(row("added to the start of every Hydra app: ms", added.get, 1))
    return table(["", *(f"`{name}`" for name in names)], rows)


def _chaos(document: Any) -> list[str]:
    gone = document["seconds_until_nothing_was_left"]
    in_git = document["sweeps_in_a_git_repository"]
    rows = [
        ["SIGKILLs", f"{document['kills_in_all']}: {_counts(document['kills'])}"],
        *([["SIGSTOPs", _counts(stops)]] if (stops := document.get("stops")) else []),
        *([["other deeds", _counts(deeds)]] if (deeds := document.get("other_deeds")) else []),
        ["sweeps", f"{_counts(document['sweeps'])}; {in_git} in a git repository"],
        ["launchers started", str(document["launchers"])],
        ["jobs that ended as in an undisturbed sweep", str(document["jobs"])],
        ["attempts beyond a job's first", str(document["further_attempts"])],
        ["looks at the whole record", str(document["checks"])],
        [
            "seconds until nothing was left of a killed launcher",
            f"median {gone['median']}, longest {gone['longest']}",
        ],
        ["found wrong, lost, left over or run twice", str(len(document["violations"]))],
    ]
    return table([f"in {document['seconds'] / 60:.0f} minutes", ""], rows)


def _hostile(document: Any) -> list[str]:
    rows = [
        ["directories", str(document["inputs"])],
        ["commands", str(document["commands"])],
        *([f"exit code {code}", str(n)] for code, n in document["exit_codes"].items()),
        [
            "tracebacks, hangs, changed files, what steers a terminal",
            str(len(document["violations"])),
        ],
    ]
    return table(["", ""], rows)


def _soak(document: Any) -> list[str]:
    grown = document["grown_from_second_to_last_third"]
    rows = [
        ["jobs", f"{document['jobs']}, in {document['attempts']} attempts"],
        *([f"jobs that are {kind}", str(n)] for kind, n in document["states"].items()),
        ["more open descriptors at the end", f"{grown['fds']:g}"],
        ["more threads at the end", f"{grown['threads']:g}"],
        ["memory of the launcher: bytes a job", f"{grown['launcher_memory_per_job']:.0f}"],
        ["memory of the fork server: bytes a job", f"{grown['server_memory_per_job']:.0f}"],
        ["processes or files left, ends told wrongly, growth", str(len(document["problems"]))],
    ]
    return table([f"in {document['minutes']:g} minutes", ""], rows)


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def _commands(document: Any) -> list[str]:
    names = {
        "api": "`LocalComputeSource`",
        "cli": "`hsm sweep`",
        "parallel": "GNU parallel",
        "xargs": "xargs, which keeps no record",
    }
    rows = []
    for name, figures in document["drivers"].items():
        rows.append(
            [
                names[name],
                _median(figures["seconds"], 1),
                _median(figures["jobs_per_second"], 0),
                _median(figures["peak_megabytes"], 0),
                _median(figures["ratio_to_parallel"], 2),
            ]
        )
    jobs = f"{document['jobs']} commands, {document['parallel_jobs']} at a time"
    return table([jobs, "seconds", "jobs a second", "peak MB", "time / GNU parallel's"], rows)


def _growth(document: Any) -> list[str]:
    waiting, readers = document["waiting"], document["readers"]
    doors = {
        "commands": "`hsm sweep` with commands",
        "functions": "`LocalManager` with a function",
        "hydra": "Hydra, all points at once",
        "submitted": "Hydra, submitted one by one",
    }
    rows = []
    for door, figures in waiting["figures"].items():
        first, end = _median(figures["first_job"], 1), _median(figures["exit"], 1)
        kilobytes = {"median": figures["job_bytes"]["median"] / 1000}
        rows.append([doors[door], first, end, _median(kilobytes, 1), ""])
    for what, seconds in readers["seconds"].items():
        megabytes = {"median": readers["peaks"][what]["median"] / 1e6}
        rows.append([f"`hsm {what}`", _median(seconds, 1), "", "", _median(megabytes, 0)])
    head = f"{waiting['jobs']:,} jobs"
    columns = ["seconds until the first job, or for the answer", "Ctrl-C to exit", "kB a job", "MB"]
    return table([head, *columns], rows)


def _sweepers(document: Any) -> list[str]:
    trials, slots, best = (document[key] for key in ("trials", "slots", "list_scheduling"))
    busy = 100 * sum(document["durations"]) / (slots * best)
    rows = [["list scheduling, calculated", f"{best:.1f}", "1.00", f"{busy:.0f}"]]
    for name, of in document["figures"].items():
        sweeper, _, launcher = name.partition(", ")
        title = f"hydra-optuna-sweeper {sweeper.removeprefix('optuna ')} over {launcher}"
        figures = (_median(of["makespan"], 1), _median(of["ratio"], 2), _median(of["busy"], 0))
        rows.append([title if launcher else f"`{sweeper}`", *figures])
    head = f"{trials} trials, {slots} at a time"
    return table([head, "seconds", "/ list scheduling", "slots busy: %"], rows)


def _pruning(document: Any) -> list[str]:
    rows = []
    for name, of in document["figures"].items():
        percent = {"median": 100 * of["share"]["median"]}
        figures = (_median(of["epochs"], 0), _median(percent, 0), _median(of["pruned"], 0))
        rows.append([name, *figures, _median(of["best"], 4), _median(of["loss"], 2)])
    head = f"{document['trials']} trials of {document['epochs']} epochs"
    columns = ["epochs", "% of all", "trials pruned", "best accuracy", "% lower"]
    return table([head, *columns], rows)


def _studies(document: Any) -> list[str]:
    found = document["found"]
    samplers = dict.fromkeys(each["way"].partition(",")[0] for each in found)
    rows = [
        ["studies", f"{len(found)}, with the samplers {', '.join(samplers)}"],
        ["trials of each", str(document["trials"])],
        ["SIGKILLs", str(sum(each["kills"] for each in found))],
        ["damaged files of studies", str(sum(each["damages"] for each in found))],
        [
            "trials lost, told twice or changed; other points than if undisturbed",
            str(sum(bool(each["problem"]) for each in found)),
        ],
    ]
    return table(["", ""], rows)


def _speed() -> list[str]:
    """What the README shows: each figure next to that of a peer that runs jobs in parallel."""
    paths = {name: RESULTS / f"{name}.json" for name in ("launchers", "commands", "warm")}
    if not all(path.exists() for path in paths.values()):
        return []
    documents = {name: json.loads(path.read_text("utf-8")) for name, path in paths.items()}
    cases, commands = documents["launchers"]["cases"], documents["commands"]
    warm = documents["warm"]["drivers"]
    rows = []
    for case, script in (("a", ""), ("b", f", of a script that imports {_listed(cases['b'])}")):
        seconds = cases[case]["seconds"]
        title = f"{cases[case]['jobs']} Hydra jobs that return at once{script}"
        share = cases[case]["ratios"]["hsm_local / joblib"]
        rows.append([title, "joblib", *_next_to(seconds["hsm_local"], seconds["joblib"], share)])
    drivers = commands["drivers"]
    share = drivers["cli"]["ratio_to_parallel"]
    both = drivers["cli"]["seconds"], drivers["parallel"]["seconds"]
    rows.append([f"{commands['jobs']:,} commands `true`", "GNU parallel", *_next_to(*both, share)])
    both = warm["warm"]["seconds"], warm["parallel"]["seconds"]
    script = f"a script that imports {_listed(documents['warm'])}"
    title = f"{documents['warm']['jobs']} runs of {script}"
    share = {"median": both[0]["median"] / both[1]["median"]}
    rows.append([title, "GNU parallel", *_next_to(*both, share)])
    return table(["two at a time", "next to", "its seconds", "hsm's", "hsm's share"], rows)


def _next_to(own: Any, other: Any, share: Any) -> list[str]:
    return [_median(other, 1), _median(own, 1), _median(share, 2)]


def _listed(document: Any) -> str:
    *most, last = (f"`{name}`" for name in document["imports"])
    return f"{', '.join(most)} and {last}" if most else last


def _median(summary: dict[str, float] | None, digits: int) -> str:
    return "" if summary is None else f"{summary['median']:.{digits}f}"


def _peer_faults(document: Any) -> list[str]:
    """In the words of benchmarks/faults.py, which explains them."""
    sys.path.append(str(REPOSITORY / "benchmarks"))
    from faults import Outcome

    names = list(next(iter(document.values())))
    rows = []
    for fault, outcomes in document.items():
        cells = [Outcome(**one).cell(fault) if one else "not possible" for one in outcomes.values()]
        rows.append([fault, *cells])
    return table(["fault", *(name.replace("_", "\\_") for name in names)], rows)


#: By the name that marks their place on a page.
BENCHMARKS: dict[str, Callable[[], list[str]]] = {
    "launchers": partial(made_from, "launchers", _launchers),
    "chaos": partial(made_from, "chaos", _chaos),
    "hostile": partial(made_from, "hostile", _hostile),
    "soak": partial(made_from, "soak", _soak),
    "peer-faults": partial(made_from, "faults", _peer_faults),
    "bulk-commands": partial(made_from, "commands", _commands),
    "growth": partial(made_from, "growth", _growth),
    "sweepers": partial(made_from, "sweepers", _sweepers),
    "pruning": partial(made_from, "pruning", _pruning),
    "studies": partial(made_from, "studies", _studies),
    "speed": _speed,
}
