"""Kills studies at random, damages their files, and resumes them: nothing is lost or told twice.

    python benchmarks/studies.py --kills 10 --seed 1 --json benchmarks/results/studies.json

A study of each sampler is begun, killed (SIGKILL) at a random moment and resumed, time and again;
then it runs to its end. Before some of the resumes, the file of the study is damaged: its last line
is torn off in the middle, or something else is written behind it. With one slot the study has to
propose the points of an undisturbed one with the same seed. With four, its file is also removed or
spoilt altogether; a resume makes it again from the sweep's journal.

At the end, the study has as many trials as were asked for, under the numbers from 0 on; each job
completed once, and ran with the same parameters in all of its lives; the study was told the value
of each, once, and its best value is that of the sweep's journal.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _killed_sweep import PATIENCE, KilledSweep
from _report import count, finish, new_document, versions

_LOOK = 0.005
#: Of all kills, those while it starts; the most seconds until they come.
_EARLY, _START = 0.3, 2.0
#: Otherwise: the most jobs that end before, and the most seconds after.
_JOBS, _AFTER = 8, 0.15

_APP = """\
import time
import hydra
from hydra.core.hydra_config import HydraConfig


@hydra.main(version_base=None, config_path=None)
def main(cfg):
    with open("side", "a") as side:
        side.write(f"{HydraConfig.get().job.num} {cfg.x!r} {cfg.y!r} {cfg.k!r}\\n")
    time.sleep(0.03)
    return (cfg.x - 1) ** 2 + (cfg.y + 2) ** 2 / cfg.k


main()
"""
_JOB = """\
echo "$HSM_JOB_NUM $1 $2 $3" >>side
sleep 0.03
value=$(awk "BEGIN { printf \\"%.12g\\", ($1 - 1) ^ 2 + ($2 + 2) ^ 2 / $3 }")
echo "{\\"value\\": $value}" >>"$HSM_METRICS"
"""
_CONTINUOUS = {"x": "interval(-5.0, 5.0)", "y": "interval(-5.0, 5.0)"}
_NUMBERS = {**_CONTINUOUS, "k": "range(1, 9)"}
_MIXED = {**_CONTINUOUS, "k": "choice(1, 2, 4, 8)"}


@dataclass(frozen=True)
class Way:
    """A study.

    Attributes:
        sampler: Optuna's sampler.
        space: the values of each parameter.
        keywords: of the sampler.
        slots: jobs at the same time.
    """

    sampler: str
    space: dict[str, str]
    keywords: dict[str, Any]
    slots: int = 1

    @property
    def name(self) -> str:
        return self.sampler if self.slots == 1 else f"{self.sampler}, {self.slots} slots"

    def axes(self, prefix: str = "") -> list[str]:
        """The parameters, as overrides."""
        return [f"{prefix}{name}={values}" for name, values in self.space.items()]


def ways(trials: int) -> list[Way]:
    """A study of each kind of sampler."""
    side = max(2, int((trials / 3) ** 0.5) + 1)
    values = f"choice({','.join(str(number) for number in range(side))})"
    population = {"population_size": 8}
    return [
        Way("tpe", _MIXED, {}),
        Way("random", _MIXED, {}),
        Way("cmaes", _NUMBERS, {}),
        Way("nsgaii", _MIXED, population),
        Way("qmc", _CONTINUOUS | {"k": "interval(1.0, 8.0)"}, {}),
        Way("grid", {"x": values, "y": values, "k": "choice(1,2,4)"}, {}),
        Way("tpe", _MIXED, {}, slots=4),
    ]


class Study(KilledSweep):
    """A study, which is killed and resumed.

    Args:
        door: "command" or "hydra".
        way: what is studied.
        trials: how many there are to be.
        folder: where it runs.
    """

    def __init__(self, door: str, way: Way, trials: int, folder: Path) -> None:
        super().__init__(folder)
        self._door, self._way, self._trials = door, way, trials
        self.file = folder / "sweep" / ".hsm" / "optuna.journal"
        (folder / "app.py").write_text(_APP, encoding="utf-8")
        (folder / "job.sh").write_text(_JOB, encoding="utf-8")

    def words(self, *, resume: bool) -> list[str]:
        way = self._way
        if self._door == "hydra":
            return [
                *(sys.executable, "app.py", "-m", "hydra.sweep.dir=sweep"),
                *("hydra/launcher=hsm_local", f"hydra.launcher.max_parallel_jobs={way.slots}"),
                *("hydra/sweeper=hsm_optuna", f"hydra/sweeper/sampler={way.sampler}"),
                *(f"+hydra.sweeper.sampler.{key}={each}" for key, each in way.keywords.items()),
                *("hydra.sweeper.seed=7", f"hydra.sweeper.n_trials={self._trials}"),
                f"hydra.launcher.resume={str(resume).lower()}",
                *way.axes("+"),
            ]
        hsm = [sys.executable, "-m", "hsm.cli.main", "sweep"]
        if resume:
            return [*hsm, "--resume", "sweep"]
        sampler = ", ".join(f"{key}: {each}" for key, each in way.keywords.items())
        return [
            *(*hsm, "--sweep-dir", "sweep", "--parallel-jobs", str(way.slots)),
            *("--method", "optuna", "--sampler", f"{{name: {way.sampler}, {sampler}}}"),
            *("--seed", "7", "--n-trials", str(self._trials), *way.axes()),
            *("--", "sh", "job.sh", "{x}", "{y}", "{k}"),
        ]

    def kill_at_random(self, chance: random.Random) -> bool:
        """Start or resume it, and kill it; False if it had ended before."""
        before = self._ended()
        early, pause = chance.random() < _EARLY, chance.uniform(0, _AFTER)
        start, more = chance.uniform(0, _START), chance.randint(0, _JOBS)
        process = self.start(resume=self.has_begun())
        if early:
            time.sleep(start)
        else:
            limit = time.monotonic() + PATIENCE
            while process.poll() is None and self._ended() < before + more:
                assert time.monotonic() < limit, "no job ends"
                time.sleep(_LOOK)
            time.sleep(pause)
        return self.end(process)

    def _ended(self) -> int:
        return self.journal.read_bytes().count(b'"event":"end"') if self.journal.exists() else 0

    def objectives(self) -> dict[int, float]:
        """The value of each job, as its journal has it."""
        return {
            record["job"]: record["objective"]
            for record in self.records()
            if record["event"] == "end"
        }

    def check(self) -> dict[int, str]:
        """Check what it left; returns the parameters of each job, or AssertionError says why."""
        points, objectives = self.jobs(), self.objectives()
        assert sorted(points) == list(range(self._trials)), f"not the numbers: {sorted(points)}"
        lives: dict[str, set[str]] = {}
        for line in (self.folder / "side").read_text(encoding="utf-8").splitlines():
            num, _, values = line.partition(" ")
            lives.setdefault(num, set()).add(values)
        changed = [num for num, values in lives.items() if len(values) > 1]
        assert not changed, f"jobs whose parameters changed: {changed}"
        self._check_told(objectives)
        return points

    def _check_told(self, objectives: dict[int, float]) -> None:
        """The study has each job's value once, and no more."""
        wrong = told_wrongly(self.file, objectives)
        assert not wrong, f"told wrongly, twice or not at all: {wrong}"
        best = min(objectives.values())
        results = (self.folder / "sweep" / "optimization_results.yaml").read_text(encoding="utf-8")
        (line,) = [line for line in results.splitlines() if line.startswith("best_value: ")]
        assert float(line.split()[1]) == best, f"optimization_results.yaml: {line}, not {best}"


def told_wrongly(file: Path, objectives: dict[int, float]) -> list[int]:
    """The jobs whose value a study has wrongly, twice or not at all.

    Args:
        file: the study's.
        objectives: the value of each job.

    Raises:
        AssertionError: a trial has not ended, or the best value is another one.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(file)))
    (summary,) = optuna.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    told: dict[int, list[float | None]] = {}
    for trial in study.trials:
        assert trial.state.is_finished(), f"trial {trial.number} is {trial.state.name}"
        if trial.state is optuna.trial.TrialState.COMPLETE:
            index = int(str(trial.user_attrs["hsm"]).rpartition("/")[2])
            told.setdefault(index, []).append(trial.value)
    expected = {num: [value] for num, value in objectives.items()}
    wrong = sorted(num for num in {*told, *expected} if told.get(num) != expected.get(num))
    best = min(objectives.values())
    assert wrong or study.best_value == best, f"best value {study.best_value}, not {best}"
    return wrong


def _tear(file: Path, chance: random.Random) -> None:
    """Its last line is not all there, as after a power cut."""
    data = file.read_bytes()
    last = len(data) - data.rstrip(b"\n").rfind(b"\n") - 1
    file.write_bytes(data[: len(data) - chance.randint(1, max(1, last - 1))])


def _append(file: Path, chance: random.Random) -> None:
    """The beginning of another line is at its end."""
    line = b'{"op_code":5,"worker_id":"another-1","study_id":0,"params":{}}'
    with file.open("ab") as opened:
        opened.write(line[: chance.randint(1, len(line) - 1)])


def _zeros(file: Path, chance: random.Random) -> None:
    """Some bytes that were never written are at its end."""
    with file.open("ab") as opened:
        opened.write(bytes(chance.randint(1, 4096)))


def _spoil(file: Path, chance: random.Random) -> None:
    """Bytes in the middle are others."""
    data = bytearray(file.read_bytes())
    at = chance.randrange(len(data))
    data[at : at + 64] = chance.randbytes(64)
    file.write_bytes(data)


def _remove(file: Path, chance: random.Random) -> None:
    """It is gone."""
    file.unlink()


#: What becomes of a file at its end, and of all of it.
SMALL: Sequence[Callable[[Path, random.Random], None]] = (_tear, _append, _zeros)
LARGE = (*SMALL, _spoil, _remove)


def damage(study: Study, chance: random.Random, *, large: bool) -> str:
    """Damage the file of a study that does not run; returns how, "" if it is left as it is."""
    if chance.random() < 0.5 or not study.file.exists() or not study.file.stat().st_size:
        return ""
    deed = chance.choice(LARGE if large else SMALL)
    deed(study.file, chance)
    return deed.__name__.strip("_")


def undisturbed(door: str, way: Way, trials: int) -> dict[int, str]:
    """The jobs of the same study, if nobody kills it."""
    folder = Path(tempfile.mkdtemp(prefix="studies-"))
    study = Study(door, way, trials, folder)
    study.run(resume=False)
    points = study.check()
    shutil.rmtree(folder)
    return points


def disturb(door: str, way: Way, trials: int, kills: int, chance: random.Random) -> dict[str, Any]:
    """Kill and resume one study; returns what was seen."""
    folder = Path(tempfile.mkdtemp(prefix="studies-"))
    study, done = Study(door, way, trials, folder), 0
    deeds: list[str] = []
    problem = ""
    try:
        for _ in range(kills):
            done += study.kill_at_random(chance)
            deeds.append(damage(study, chance, large=way.slots > 1))
        study.run(resume=study.has_begun())
        points = study.check()
        if way.slots == 1:
            others = undisturbed(door, way, trials)
            first = next((num for num in points if points[num] != others.get(num)), None)
            assert first is None, f"other points than if undisturbed, from job {first} on"
    except (AssertionError, KeyError, subprocess.TimeoutExpired) as error:
        problem = f"{type(error).__name__}: {error} (see {folder})"
    if not problem:
        shutil.rmtree(folder)
    damaged = [deed for deed in deeds if deed]
    return {
        "door": door,
        "way": way.name,
        "kills": done,
        "damages": len(damaged),
        "problem": problem,
        "deeds": damaged,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if something was lost, told twice or changed."""
    parser = argparse.ArgumentParser(description="Kills studies and resumes them.")
    parser.add_argument("--kills", type=count, default=10, metavar="N", help="of each; default 10")
    parser.add_argument("--trials", type=count, default=80, metavar="N", help="default 80")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--doors", default="command,hydra", help="default command,hydra")
    parser.add_argument("--ways", default="", metavar="SAMPLERS", help="with commas; default all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chance, found = random.Random(given.seed), []
    for door in given.doors.split(","):
        for way in ways(given.trials):
            if given.ways and way.sampler not in given.ways.split(","):
                continue
            found.append(disturb(door, way, given.trials, given.kills, chance))
            print(*(found[-1][key] for key in list(found[-1])[:5]), sep="  ", flush=True)
    document = {
        **new_document("studies", versions(("hpc-sweep-manager", "hydra-core", "optuna"))),
        **{key: value for key, value in vars(given).items() if key != "json"},
        "ways": [asdict(way) for way in ways(given.trials)],
        "found": found,
    }
    return finish(document, given.json, any(each["problem"] for each in found))


if __name__ == "__main__":
    sys.exit(main())
