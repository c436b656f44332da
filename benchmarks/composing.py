"""Configs composed by remembered bases next to those that Hydra's own loader composes.

    python benchmarks/composing.py --sets 100000 --seed 1 --json benchmarks/results/composing.json

Random sets of overrides of differently shaped apps (_composing_apps.py) are composed twice in one
process, and the two configs have to be equal in every node, or the two errors in every word.
Of what differs, the smallest set is told, and the command that composes it again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hydra

from _composing_apps import APPS, App
from _composing_stage import Remember, Stage, run_sets, shrink
from _override_sets import Set, make_sets

#: Of so many loaders, one is compared with a loader that reads its files from the disk each time.
_UNFROZEN = 8
#: Sets that one process compares.
_PART = 500
#: So many differences are told of each part; then it ends.
_MOST = 10
#: A job of hydra's shape costs three times one of another app: it gets fewer sets.
_SHARES = {"hydra": 0.2, "old": 0.3}


@dataclass
class Found:
    """What has been found in some sets of one app."""

    app: str
    seen: Counter[str] = field(default_factory=Counter)
    differences: list[dict[str, Any]] = field(default_factory=list)
    cpu_seconds: float = 0.0


def apps_of(names: Sequence[str]) -> list[App]:
    """Return the apps of these names that the present Hydra knows."""
    present = tuple(int(part) for part in hydra.__version__.split(".")[:2])
    return [APPS[name] for name in names if APPS[name].hydra <= present < APPS[name].before]


def hunt(app: App, sets: int, seed: int, remember: Remember, most: int = _MOST) -> Found:
    """Compare so many sets of one app, from this seed on, but end after `most` differences."""
    found = Found(app.name)
    began = time.process_time()
    with (
        tempfile.TemporaryDirectory(prefix="composing-") as folder,
        Stage(app, Path(folder), remember) as stage,
    ):
        while stage.seen["sets"] < sets and len(found.differences) < most:
            those = stage.possible(make_sets(app, seed))[: sets - stage.seen["sets"]]
            frozen = seed % _UNFROZEN != 0
            differing = run_sets(stage, those, frozen=frozen)
            if differing is not None:
                number, text = differing
                known = Counter(stage.seen)
                few = shrink(stage, those[: number + 1], frozen=frozen)
                again = run_sets(stage, few, frozen=frozen)
                stage.seen = known
                found.differences.append(
                    {
                        "app": app.name,
                        "seed": seed,
                        "number": number,
                        "difference": again[1] if again else text,
                        "command": repeating_command(app, few if again else those[: number + 1]),
                    }
                )
            seed += 1
    found.seen = stage.seen
    found.cpu_seconds = time.process_time() - began
    return found


def repeating_command(app: App, sets: Sequence[Set]) -> str:
    """Return the command that composes these sets again, one after the other."""
    text = json.dumps([one.as_json() for one in sets])
    return f"python benchmarks/composing.py --app {app.name} --repeat {shlex.quote(text)}"


def repeat(app: App, text: str, remember: Remember) -> int:
    """Compose the sets that `repeating_command` named; 1 if they differ still."""
    sets = [Set.from_json(each) for each in json.loads(text)]
    with (
        tempfile.TemporaryDirectory(prefix="composing-") as folder,
        Stage(app, Path(folder), remember) as stage,
    ):
        differing = run_sets(stage, sets)
    print(f"set {differing[0]}: {differing[1]}" if differing else "no difference")
    return 1 if differing else 0


def _portions(apps: Sequence[App], sets: int, seed: int) -> Iterator[tuple[App, int, int]]:
    """Divide the sets among the apps in turn, in parts that take less than a minute."""
    weights = {app: _SHARES.get(app.name, 1.0) for app in apps}
    left = {app: round(sets * weight / sum(weights.values())) for app, weight in weights.items()}
    while any(left.values()):
        for app, number in left.items():
            part = min(number, _PART)
            left[app] -= part
            if part:
                yield app, part, seed
        seed += _PART  # at least one set has each seed


def _hunt(portion: tuple[str, int, int, str]) -> Found:
    name, sets, seed, remember = portion
    return hunt(APPS[name], sets, seed, _function(remember))


def _function(name: str) -> Remember:
    module, _, attribute = name.partition(":")
    function: Remember = getattr(import_module(module), attribute)
    return function


def _figures(all_found: Sequence[Found], first_seed: int) -> dict[str, Any]:
    by_app: dict[str, Counter[str]] = {}
    for found in all_found:
        by_app.setdefault(found.app, Counter()).update(found.seen)
    cpu: Counter[str] = Counter()
    for found in all_found:
        cpu[found.app] += found.cpu_seconds  # type: ignore[assignment]
    total = sum(by_app.values(), Counter())
    return {
        "hydra": hydra.__version__,
        "omegaconf": version("omegaconf"),
        "python": ".".join(map(str, sys.version_info[:3])),
        "first_seed": first_seed,
        "sets": total["sets"],
        "total": dict(sorted(total.items())),
        "apps": {
            name: {**dict(sorted(seen.items())), "cpu_ms_per_set": _mean(cpu[name], seen["sets"])}
            for name, seen in by_app.items()
        },
        "cpu_seconds": round(sum(cpu.values()), 1),
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        "differences": [each for found in all_found for each in found.differences],
    }


def _mean(seconds: float, sets: int) -> float:
    return round(1000 * seconds / max(1, sets), 1)


def main() -> int:
    """Run it as the command line says; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--sets", type=int, default=1000, help="in all (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="the first one (default 1)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    parser.add_argument(
        "--app", action="append", choices=APPS, help="may be repeated (default: all)"
    )
    parser.add_argument("--json", help="a file for the figures")
    parser.add_argument("--repeat", metavar="SETS", help="sets to compose again, as told before")
    parser.add_argument(
        "--remember",
        default="hsm.hydra_app.remembered_bases:remember_bases",
        metavar="MODULE:FUNCTION",
        help="what makes a loader remember",
    )
    arguments = parser.parse_args()
    apps = apps_of(arguments.app or list(APPS))
    if arguments.repeat:
        return repeat(apps[0], arguments.repeat, _function(arguments.remember))
    portions = [
        (app.name, sets, seed, arguments.remember)
        for app, sets, seed in _portions(apps, arguments.sets, arguments.seed)
    ]
    all_found: list[Found] = []
    text = ""
    # One process for each portion: what apps leave in a process, such as imports, is gone after it.
    context = multiprocessing.get_context("fork")
    with context.Pool(arguments.workers, maxtasksperchild=1) as pool:
        for found in pool.imap_unordered(_hunt, portions):
            all_found.append(found)
            print(f"{found.app}: {dict(found.seen)}", file=sys.stderr, flush=True)
            for each in found.differences:
                print(json.dumps(each, indent=2), file=sys.stderr, flush=True)
            text = json.dumps(_figures(all_found, arguments.seed), indent=2)
            if arguments.json:  # so far: it may take an hour
                Path(arguments.json).write_text(text + "\n", encoding="utf-8")
    print(text)
    return 1 if any(found.differences for found in all_found) else 0


if __name__ == "__main__":
    sys.exit(main())
