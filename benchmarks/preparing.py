"""What hsm prepares for a job by quick ways, next to what OmegaConf, PyYAML and Hydra make of it.

    python benchmarks/preparing.py --texts 20000 --trees 20000 --jobs 500 --json FILE

Texts: hostile configs as YAML. Trees: copies of configs whose nodes are in odd states. Pickles: the
same configs, pickled and loaded. Jobs: all the files that jobs of composing.py's apps write, byte
for byte. What differs is told with the seed that makes it again.
"""

from __future__ import annotations

import argparse
import copy
import json
import pickle
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.callbacks import Callbacks
from hydra.types import HydraContext
from omegaconf import OmegaConf

from _composing_apps import APPS, App
from _composing_stage import Stage
from _hostile_configs import hostile_configs, hostile_text, hostile_tree, nodes
from _override_sets import make_sets
from _prepared_jobs import compare_jobs, with_logging
from _tree_differences import difference, error_chain, ruin
from composing import apps_of
from hsm.hydra_app import config_pickle
from hsm.hydra_app.config_copy import copy_config
from hsm.hydra_app.quick_run_job import prepared_quickly
from hsm.hydra_app.quick_yaml import known_texts
from hsm.hydra_app.remembered_bases import remember_bases

#: Jobs of one app, in one folder.
_TOGETHER = 10


def differing_text(seed: int) -> str | None:
    """Write a job's config as YAML, as Hydra does and quickly; return how the texts differ."""
    source = random.Random(f"text {seed}")
    of_sweep, config = hostile_configs(source)
    texts = known_texts(of_sweep)
    expected = _yaml(config)
    with prepared_quickly(HydraContext(None, Callbacks()), texts):  # type: ignore[arg-type]
        actual = _yaml(config)
    return None if actual == expected else f"{actual!r}, not {expected!r}"


def _yaml(config: Any) -> str:
    try:
        return OmegaConf.to_yaml(config)
    except Exception as error:
        return repr(error_chain(error))


def differing_copy(seed: int) -> str | None:
    """Copy a config in two ways; return how the copies differ, or what they share with it."""
    source = random.Random(f"tree {seed}")
    tree = hostile_tree(source)
    expected, before = copy.deepcopy(tree), copy.deepcopy(tree)
    actual = copy_config(tree)
    if actual.__dict__["_parent"] is not tree.__dict__["_parent"]:
        return "another parent"
    found = difference(actual, expected)
    if found is None:
        ruin(actual)
        found = difference(copy.deepcopy(tree), before)
    return found


def differing_pickle(seed: int) -> str | None:
    """Pickle and load a config in two ways; return how what comes back differs."""
    tree = hostile_tree(random.Random(f"tree {seed}"))
    before = copy.deepcopy(tree)
    expected, actual = _reloaded(pickle.dumps, tree), _reloaded(config_pickle.dumps, tree)
    if isinstance(expected, str) or isinstance(actual, str):
        return None if expected == actual else f"{actual!r:.200}, not {expected!r:.200}"
    if _shared_parts(actual) != _shared_parts(expected):
        return "not the same parts are shared"
    return difference(actual, expected) or difference(copy.deepcopy(tree), before)


def _shared_parts(tree: Any) -> list[int]:
    """Number nodes, their metadata and flags; a number again is a part that two places share."""
    numbers: dict[int, int] = {}
    metadata = [(node, node.__dict__["_metadata"]) for node in nodes(tree)]
    parts = [part for node, its in metadata for part in (node, its, its.flags)]
    return [numbers.setdefault(id(part), len(numbers)) for part in parts]


def _reloaded(dumps: Callable[[Any], bytes], tree: Any) -> Any:
    try:
        return pickle.loads(dumps(tree))
    except Exception as error:
        return repr(error_chain(error))


def differing_jobs(app: App, seed: int, jobs: int) -> tuple[str | None, int]:
    """Run some jobs of an app in every way; return how their files differ, and their number."""
    source = random.Random(f"jobs {seed}")
    with tempfile.TemporaryDirectory(prefix="preparing-") as name:
        folder = Path(name, "app")
        folder.mkdir()
        with Stage(with_logging(app), folder, remember_bases) as stage:
            sets = stage.possible(make_sets(stage.app, seed))
            sets = [one for one in sets if one.call == "job"][:jobs]
            return compare_jobs(stage, [one.with_override(_text(source)) for one in sets])


def _text(source: random.Random) -> str:
    """Return an override that gives a hostile text."""
    text = hostile_text(source).replace("\\", "\\\\").replace("'", "\\'")
    return f"++hostile='{text}'"


def main() -> int:
    """Run it as the command line says; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--texts", type=int, default=1000, help="configs as YAML (default 1000)")
    parser.add_argument(
        "--trees", type=int, default=1000, help="configs to copy and to pickle (default 1000)"
    )
    parser.add_argument("--jobs", type=int, default=50, help="jobs of all apps (default 50)")
    parser.add_argument("--seed", type=int, default=1, help="the first one (default 1)")
    parser.add_argument("--json", help="a file for the figures")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    began = time.process_time()
    counts: Counter[str] = Counter()
    differences = []

    def note(kind: str, seed: int, found: str | None) -> None:
        if found is not None:
            differences.append({"kind": kind, "seed": seed, "difference": found})
            print(differences[-1], file=sys.stderr, flush=True)

    kinds: list[tuple[str, Callable[[int], str | None], int]] = [
        ("texts", differing_text, arguments.texts),
        ("trees", differing_copy, arguments.trees),
        ("pickles", differing_pickle, arguments.trees),
    ]
    for kind, differing, count in kinds:
        for seed in range(arguments.seed, arguments.seed + count):
            counts[kind] += 1
            note(kind, seed, differing(seed))
    apps = apps_of(list(APPS))
    seed = arguments.seed
    while counts["jobs"] < arguments.jobs:
        app = apps[seed % len(apps)]
        found, files = differing_jobs(app, seed, _TOGETHER)
        note(f"jobs of {app.name}", seed, found)
        counts["jobs"] += _TOGETHER
        counts["files"] += files
        seed += 1
    figures = {
        "hydra": hydra.__version__,
        "first_seed": arguments.seed,
        **counts,
        "cpu_seconds": round(time.process_time() - began, 1),
        "differences": differences,
    }
    text = json.dumps(figures, indent=2)
    if arguments.json:
        Path(arguments.json).write_text(text + "\n", encoding="utf-8")
    print(text)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
