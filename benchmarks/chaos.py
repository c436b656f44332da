"""Kills, stops and damages what belongs to a sweep, at random moments: nothing may be lost.

    python benchmarks/chaos.py --kills 500 --json benchmarks/results/chaos.json

    sweep --SIGKILL--> launcher | fork server | keeper | job | process group | everything
      ^  `--SIGSTOP--> launcher | fork server | keeper | job; continued later, or never
      |   `----------> its files replaced, truncated, deleted; a second launcher beside a dying one
      `--- resume until every point has ended; then the next sweep

After every deed, and at the end of every sweep:
    the journal can be read, line by line, unless it was damaged;
    what it says of each job is true: a COMPLETED one has done its work and has the right value, a
    FAILED one was to fail or was killed, a RUNNING one has a process;
    no job that it called COMPLETED has been started again, by the jobs' own notes and by its own,
    unless that record was destroyed;
    where the launcher was killed, no process of it is left.
At the end of every sweep its states and values are those of one that nobody disturbed, and every
line that a job printed is in its log (but for logs that were damaged, and what was in the pipes
when everything was killed).

Each kind of kill comes equally often, in an order that the seed decides; in each round of them are
some of the other deeds. Every other sweep runs in a git repository, with a change that is not
committed: then git runs before the first record.

"process group" is what a terminal's end does: the launcher and whatever shares its group.
"everything" is what a power cut does to processes: all of them at once, jobs' children included.
Linux only: processes are found by a mark in their environment.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _chaos_life import MODES, Violation, make_repository
from _chaos_sweep import OTHERS, Chaos, Deck, Tally

_MOST_VIOLATIONS = 10
_HITS_SHOWN = 5


def run(options: argparse.Namespace, seed: int, kills: int, is_over: threading.Event) -> Tally:
    """Sweep after sweep, until there were enough kills, or it `is_over`."""
    chance = random.Random(seed)
    others = [deed for name in options.deeds for deed in OTHERS[name]]
    tally, deck = Tally(), Deck(random.Random(seed), others)
    began = time.monotonic()

    def more_kills() -> bool:
        return (
            not is_over.is_set()
            and tally.count("SIGKILL").total() < kills
            and (options.seconds is None or time.monotonic() - began < options.seconds)
        )

    number = 0
    while more_kills() and len(tally.violations) < _MOST_VIOLATIONS:
        mode = options.modes[number % len(options.modes)]
        number += 1
        tally.sweeps[mode] += 1
        folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        if number % 2 and make_repository(folder):
            tally.repositories += 1
        name = f"sweep {number} of seed {seed} ({mode})"
        try:
            Chaos(folder, mode, options.jobs, deck, chance, tally).run(more_kills)
        except Violation as violation:
            last = "; ".join(map(str, tally.hits[-1][-_HITS_SHOWN:]))
            tally.violations.append(f"{name}, kept in {folder}: {violation}; done before: {last}")
            print(tally.violations[-1], file=sys.stderr, flush=True)
        else:
            shutil.rmtree(folder)
        told = f"{name}: {tally.count('SIGKILL').total()} kills so far"
        print(told, file=sys.stderr, flush=True)
    return tally


def run_side_by_side(options: argparse.Namespace) -> list[Tally]:
    """As many rows of sweeps as are wanted, each with a seed of its own."""
    count = options.workers
    shares = [options.kills // count + (n < options.kills % count) for n in range(count)]
    seeds = range(options.seed, options.seed + count)
    is_over = threading.Event()
    with ThreadPoolExecutor(count) as pool:
        try:
            return list(pool.map(run, [options] * count, seeds, shares, [is_over] * count))
        finally:
            is_over.set()  # Ctrl-C: the sweeps that run are the last.


def report(tallies: list[Tally], options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """The figures, as JSON can hold them."""
    gone = sorted(seconds for tally in tallies for seconds in tally.gone_after)
    kills = sum((tally.count("SIGKILL") for tally in tallies), Counter[str]())
    stops = sum((tally.count("SIGSTOP") for tally in tallies), Counter[str]())
    all_hits = [hit for tally in tallies for hits in tally.hits for hit in hits]
    others = Counter(
        f"{hit.victim} {hit.deed}" if hit.deed != "resumed beside" else f"{hit.deed} {hit.victim}"
        for hit in all_hits
        if hit.deed not in ("SIGKILL", "SIGSTOP")
    )
    return {
        "seed": options.seed,
        "workers": options.workers,
        "seconds": round(seconds, 1),
        "kills": dict(kills.most_common()),
        "kills_in_all": kills.total(),
        "stops": dict(stops.most_common()),
        "other_deeds": dict(sorted(others.items())),
        "sweeps": dict(sum((tally.sweeps for tally in tallies), Counter[str]())),
        "sweeps_in_a_git_repository": sum(tally.repositories for tally in tallies),
        "launchers": sum(tally.lives for tally in tallies),
        "jobs": sum(tally.jobs for tally in tallies),
        "further_attempts": sum(tally.reruns for tally in tallies),
        "checks": sum(tally.checks for tally in tallies),
        "seconds_until_nothing_was_left": {
            "median": round(gone[len(gone) // 2], 3) if gone else None,
            "longest": round(gone[-1], 3) if gone else None,
        },
        "violations": [told for tally in tallies for told in tally.violations],
        "hits": [[asdict(hit) for hit in hits] for tally in tallies for hits in tally.hits],
    }


def as_text(figures: dict[str, Any]) -> str:
    """The figures as JSON, with one line for each sweep's hits."""
    figures = dict(figures)
    hits = ",\n    ".join(json.dumps(sweep) for sweep in figures.pop("hits"))
    return f'{json.dumps(figures, indent=2)[:-2]},\n  "hits": [\n    {hits}\n  ]\n}}\n'


def _names(known: Any) -> Any:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown)}: choose from {', '.join(known)}"
            )
        return names

    return parse


def main() -> int:
    """Returns 1 if anything was lost, left or told wrongly."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="500 kills take less than a quarter of an hour on two idle cores. With --json "
        "benchmarks/results/chaos.json, `make tables` then writes the table of "
        "docs/reliability.md.",
    )
    parser.add_argument("--kills", type=int, default=200, help="default 200")
    parser.add_argument("--seed", type=int, default=1, help="default 1; each worker has the next")
    parser.add_argument("--workers", type=int, default=2, help="sweeps at a time; default 2")
    parser.add_argument("--jobs", type=int, default=24, help="of each sweep; default 24")
    parser.add_argument("--seconds", type=float, help="kill no more after so long")
    parser.add_argument(
        "--modes", type=_names(MODES), default=list(MODES), help="comma-separated; default all"
    )
    parser.add_argument(
        "--deeds",
        type=_names(OTHERS),
        default=list(OTHERS),
        help=f"beside kills: some of {', '.join(OTHERS)}, comma-separated; default all",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    began = time.monotonic()
    tallies = run_side_by_side(options)
    figures = report(tallies, options, time.monotonic() - began)
    if options.json is not None:
        options.json.write_text(as_text(figures), encoding="utf-8")
    del figures["hits"]
    print(json.dumps(figures, indent=2))
    return 1 if figures["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
