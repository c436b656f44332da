"""Kills sweeps at random and resumes them, for each way to choose points: none is lost or new.

    python benchmarks/choosing.py --kills 10 --seed 1 --json benchmarks/results/choosing.json

A sweep of each way is begun, killed (SIGKILL) at a random moment and resumed, time and again; then
it runs to its end. At the end, each point that an undisturbed sweep has was completed, once, under
the number that it has there, and there is no other; and no process is left.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from _killed_sweep import KilledSweep
from _report import count, finish, new_document, versions

#: Seconds until a kill, by door: an app of Hydra takes a while to start.
_PACE = {"command": (0.3, 1.2), "hydra": (1.0, 2.5)}

_JOB = """\
import time
import hydra


@hydra.main(version_base=None, config_path=".", config_name="config")
def main(cfg):
    time.sleep(0.05)


main()
"""
_CONFIG = "{a: 0, b: 0, c: 0, n: 0, x: 0, lr: 0, seed: 0}"
_SPACE = ("x=interval(0, 1)", "n=int(interval(1, 9))", "lr=tag(log, interval(1e-5, 1e-1))")


@dataclass(frozen=True)
class Way:
    """A way to choose points.

    Attributes:
        name: what it is called.
        overrides: the axes.
        keys: further keys of the sweeper, or options of the command.
    """

    name: str
    overrides: tuple[str, ...]
    keys: dict[str, Any] = field(default_factory=dict)

    def of_command(self) -> list[str]:
        """The words after `hsm sweep`."""
        words = list(self.overrides)
        for key, value in self.keys.items():
            option = f"--{key.replace('_', '-')}"
            if key == "zip":
                columns = [f"{name}={values}" for name, values in value["of"].items()]
                words += [option, " ".join(columns)]
            elif key == "repeat":
                words += [
                    word for name, each in value.items() for word in (option, f"{name}={each}")
                ]
            else:
                words += [option] if value is True else [option, str(value)]
        return words

    def of_hydra(self) -> list[str]:
        """The overrides of a Hydra app."""
        keys = (f"hydra.sweeper.{key}={_written(value)}" for key, value in self.keys.items())
        return [*self.overrides, *keys]


def _written(value: Any) -> str:
    """A value in Hydra's override syntax."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else str(value)


def ways(jobs: int) -> list[Way]:
    """Each way to choose points, with about so many jobs."""
    drawn = {"n_trials": jobs, "seed": 7}
    return [
        Way("grid", (f"a=range({jobs // 4})", "b=1,2,3,4")),
        Way(
            "zip",
            ("a=1,2",),
            {"zip": {"of": {"b": f"range({jobs // 2})", "c": f"range({jobs // 2})"}}},
        ),
        Way("filter", (f"a=range({jobs // 2})", "b=range(4)"), {"filter": "(a + b) % 2 == 0"}),
        Way(
            "shuffle",
            (f"a=range({jobs})", "b=range(100)"),
            {"shuffle": True, "max_runs": jobs, "seed": 7},
        ),
        Way("repeat", (f"a=range({jobs // 4})",), {"repeat": {"seed": "0,1,2,3"}}),
        *(
            Way(name, _SPACE, {"method": name, **drawn})
            for name in ("random", "lhs", "sobol", "halton")
        ),
        Way("random, seed drawn", _SPACE, {"method": "random", "n_trials": jobs}),
    ]


class Sweep(KilledSweep):
    """One sweep, which is killed and resumed.

    Args:
        door: "command" or "hydra".
        way: how its points are chosen.
        folder: where it runs.
    """

    def __init__(self, door: str, way: Way, folder: Path) -> None:
        super().__init__(folder)
        self._door, self._way = door, way
        (folder / "app.py").write_text(_JOB, encoding="utf-8")
        (folder / "config.yaml").write_text(_CONFIG, encoding="utf-8")

    def words(self, *, resume: bool) -> list[str]:
        if self._door == "hydra":
            places = "hydra.launcher.max_parallel_jobs=2"
            return [
                *(sys.executable, "app.py", "-m", "hydra/launcher=hsm_local", "hydra/sweeper=hsm"),
                *(places, "hydra.sweep.dir=sweep", f"hydra.launcher.resume={str(resume).lower()}"),
                *self._way.of_hydra(),
            ]
        hsm = [sys.executable, "-m", "hsm.cli.main", "sweep"]
        if resume:
            return [*hsm, "--resume", "sweep"]
        how = ["--sweep-dir", "sweep", "--parallel-jobs", "2"]
        return [*hsm, *how, *self._way.of_command(), "--", "sleep", "0.05"]

    def kill_at_random(self, chance: random.Random, *, resume: bool) -> bool:
        """Start it and kill it; False if it had ended before."""
        return self.kill(chance.uniform(*_PACE[self._door]), resume=resume)


def undisturbed(door: str, way: Way, folder: Path) -> dict[int, str]:
    """The jobs of a sweep that nobody kills."""
    sweep = Sweep(door, way, folder)
    sweep.run(resume=False)
    return sweep.jobs()


def check(door: str, way: Way, kills: int, chance: random.Random) -> dict[str, Any]:
    """Kill and resume one sweep; returns what was seen."""
    folder = Path(tempfile.mkdtemp(prefix="choosing-"))
    sweep, done = Sweep(door, way, folder), 0
    for _ in range(kills):
        done += sweep.kill_at_random(chance, resume=sweep.has_begun())
    problem, jobs = "", {}
    try:
        sweep.run(resume=sweep.has_begun())
        jobs = sweep.jobs()
        if "drawn" in way.name:  # no two draw the same; but each has its points once
            assert len(set(jobs.values())) == len(jobs) == way.keys["n_trials"]
        else:
            beside = Path(tempfile.mkdtemp(prefix="choosing-"))
            assert jobs == undisturbed(door, way, beside), "other points, or other numbers"
            shutil.rmtree(beside)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        problem = f"{error} (see {folder})"
    if not problem:
        shutil.rmtree(folder)
    return {"door": door, "way": way.name, "kills": done, "jobs": len(jobs), "problem": problem}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a point was lost, new, or run under another number."""
    parser = argparse.ArgumentParser(description="Kills sweeps and resumes them.")
    parser.add_argument("--kills", type=count, default=10, metavar="N", help="of each; default 10")
    parser.add_argument("--jobs", type=count, default=240, metavar="N", help="default 240")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--doors", default="command,hydra", help="default command,hydra")
    parser.add_argument("--ways", default="", help="comma-separated; default all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chance, found = random.Random(given.seed), []
    for door in given.doors.split(","):
        for way in ways(given.jobs):
            if given.ways and way.name not in given.ways.split(","):
                continue
            found.append(check(door, way, given.kills, chance))
            print(*found[-1].values(), sep="  ", flush=True)
    document = {
        **new_document("choosing", versions(("hpc-sweep-manager", "hydra-core", "scipy"))),
        **{key: value for key, value in vars(given).items() if key != "json"},
        "ways": [asdict(way) for way in ways(given.jobs)],
        "found": found,
    }
    return finish(document, given.json, any(each["problem"] for each in found))


if __name__ == "__main__":
    sys.exit(main())
