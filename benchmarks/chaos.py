"""Kills whatever belongs to a sweep, at random moments, and checks that nothing is lost.

    python benchmarks/chaos.py --kills 200 --seed 1 --json chaos.json

    sweep --SIGKILL--> launcher | fork server | keeper | job | process group | everything
      ^                    |
      `----- resume -------'   until every point has ended; then the next sweep

After every kill, and at the end of every sweep:
    the journal can be read, line by line;
    what it says of each job is true: a COMPLETED one has done its work and has the right value, a
    FAILED one was to fail or was killed, a RUNNING one has a process;
    no job that it called COMPLETED has been started again, by the jobs' own notes and by its own;
    where the launcher was killed, no process of it is left.
At the end of every sweep its states and values are those of one that nobody disturbed.

Each kind of victim is hit equally often, in an order that the seed decides. Every other sweep runs
in a git repository, with a change that is not committed: then git runs before the first record.

"process group" is what a terminal's end does: the launcher and whatever shares its group.
"everything" is what a power cut does to processes: all of them at once, jobs' children included.
Linux only: processes are found by a mark in their environment.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from _chaos_life import MODES, PATIENCE, VICTIMS, Life, Violation, make_repository
from apps.chaos_job import fails, value_of
from hsm import read_sweep
from hsm.core.job import Job, JobState
from hsm.core.sweep import JournalError, Sweep

#: Of these the launcher survives, and the sweep goes on.
_SURVIVED = ("fork server", "keeper", "job")
#: Seconds until the next kill, at most: Hydra takes a while to start.
_PACE = {"function": 1.2, "command": 1.2, "hydra": 4.0}
#: Seconds that a sweep which nobody disturbs may take.
_LONGEST_SWEEP = 120.0


class Deck:
    """Whom to hit next: every kind once, in an order left to chance, then all of them again."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._left: list[str] = []

    @property
    def top(self) -> str:
        """The kind whose turn it is."""
        if not self._left:
            self._left = self._chance.sample(VICTIMS, len(VICTIMS))
        return self._left[-1]

    def next(self) -> None:
        """The kind on top was hit."""
        self._left.pop()


@dataclass
class Tally:
    """What happened.

    Attributes:
        kills: how many of each kind hit a process.
        repositories: sweeps that ran in a git repository.
        gone_after: seconds from a launcher's death until nothing of it was left, each time.
        reruns: attempts beyond the first of their job, over all sweeps.
    """

    kills: Counter[str] = field(default_factory=Counter)
    sweeps: Counter[str] = field(default_factory=Counter)
    repositories: int = 0
    lives: int = 0
    jobs: int = 0
    checks: int = 0
    reruns: int = 0
    gone_after: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


class Chaos:
    """One sweep, from its first launcher to its end.

    Args:
        folder: an empty directory.
        mode: one of `MODES`.
        jobs: how many.
        deck: whom to hit.
        chance: decides everything else that is left to chance.
    """

    def __init__(
        self, folder: Path, mode: str, jobs: int, deck: Deck, chance: random.Random, tally: Tally
    ) -> None:
        self.folder, self.mode, self.jobs = folder, mode, jobs
        self.deck, self.chance, self.tally = deck, chance, tally
        self._starts_of_completed: dict[int, int] = {}
        self._was_disturbed = False
        (folder / "tmp").mkdir()

    def run(self, more_kills: Callable[[], bool]) -> None:
        """Disturb the sweep as long as `more_kills` says so, then let it end. Raises Violation."""
        life = self._start()
        try:
            while more_kills() and life.process.poll() is None:
                self._let_pass(life, self.chance.uniform(0.0, _PACE[self.mode]))
                victim = self.deck.top
                if not life.kill(victim, self.chance):
                    continue
                self.deck.next()
                self.tally.kills[victim] += 1
                self._was_disturbed = True
                if victim in _SURVIVED:
                    self._check()
                    continue
                life = self._next_life(life, waits=self.chance.random() < 0.5)
            self._let_pass(life, _LONGEST_SWEEP)
            if life.process.poll() is None:
                raise Violation(f"the sweep did not end in {_LONGEST_SWEEP:g} s")
            life.wait_until_gone()
            self._finish()
        finally:
            life.end()

    def _start(self) -> Life:
        self.tally.lives += 1
        return Life(self.folder, self.mode, self.jobs)

    def _next_life(self, dead: Life, *, waits: bool) -> Life:
        """Resume, at once or when nothing of the dead launcher is left."""
        try:
            if waits:
                self.tally.gone_after.append(dead.wait_until_gone())
                self._check()
                return self._start()
            dead.process.wait()
            # Now, or a completed job that the next life runs again would not be known as one.
            self._check_record()
            life = self._start()
            try:
                dead.wait_until_gone()
            except Violation:
                life.end()
                raise
            return life
        finally:
            dead.end()

    @staticmethod
    def _let_pass(life: Life, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            life.process.wait(seconds)

    # --- checks -------------------------------------------------------------------------------

    def _check(self) -> None:
        """Compare what the journal says with what is so. Raises Violation."""
        sweep = self._check_record()
        if sweep is not None and sweep.alive:
            self._check_running(sweep)

    def _check_record(self) -> Sweep | None:
        """Compare what the journal says has ended with what is so; None before its first line."""
        self.tally.checks += 1
        try:
            sweep = read_sweep(self.folder / "sweep")
        except JournalError as error:
            if self._side()[1]:
                raise Violation(f"there is no record of jobs that ran: {error}") from error
            return None  # The launcher was killed before it wrote the first line.
        if sweep.problems:
            raise Violation(f"the journal is damaged: {sweep.problems}")
        if again := started_after_completion(sweep.paths.journal):
            raise Violation(f"jobs {again} had completed and were started again")
        # After the journal: a job that it calls completed has noted all that it ever will.
        starts, done = self._side()
        for job in sweep.jobs.values():
            self._check_job(job, starts, done)
        return sweep

    def _check_job(self, job: Job, starts: Counter[int], done: Counter[int]) -> None:
        x = int(job.params["x"])
        known = self._starts_of_completed.get(x)
        if known is not None and starts[x] > known:
            raise Violation(f"point {x} had completed and was started again")
        if job.state is JobState.COMPLETED:
            self._starts_of_completed.setdefault(x, starts[x])
            if not done[x]:
                raise Violation(f"point {x} reads as completed, and has not done its work")
            if self.mode != "command" and job.value != value_of(x):
                raise Violation(f"point {x} has the value {job.value}")
        elif known is not None:
            raise Violation(f"point {x} had completed, and now is {job.state}")
        elif job.state is JobState.FAILED and not fails(x):
            ending = job.ending()
            if not self._was_disturbed or "killed" not in ending:
                raise Violation(f"point {x} failed: {ending}")

    def _check_running(self, sweep: Sweep) -> None:
        """A job that is called running has a process, or is about to be called something else."""
        deadline = time.monotonic() + PATIENCE
        suspects = {job.num for job in sweep.jobs.values() if _lacks_process(job)}
        while suspects:
            now = read_sweep(self.folder / "sweep")
            suspects = {num for num in suspects if now.alive and _lacks_process(now.jobs[num])}
            if time.monotonic() > deadline:
                raise Violation(f"jobs {suspects} read as running and have no process")
            time.sleep(0.05)

    def _side(self) -> tuple[Counter[int], Counter[int]]:
        """How often each point was started, and how often it did its work."""
        path = self.folder / "side"
        lines = path.read_text().splitlines() if path.exists() else []
        words = [line.split() for line in lines]
        return (
            Counter(int(x) for word, x in words if word == "start"),
            Counter(int(x) for word, x in words if word == "done"),
        )

    def _finish(self) -> None:
        """A life that was hit only below its launcher may have failed jobs: resume once more."""
        self._check()
        if any(self._differs(job) for job in self._jobs()):
            life = self._start()
            try:
                self._let_pass(life, _LONGEST_SWEEP)
                life.wait_until_gone()
            finally:
                life.end()
            self._check()
        jobs = self._jobs()
        wrong = [f"{job.label}: {job.state} {job.ending()}" for job in jobs if self._differs(job)]
        if wrong or len(jobs) != self.jobs:
            raise Violation(f"not as an undisturbed sweep: {len(jobs)} jobs, {wrong}")
        self.tally.jobs += len(jobs)
        self.tally.reruns += sum(len(job.attempts) - 1 for job in jobs)

    def _jobs(self) -> list[Job]:
        return list(read_sweep(self.folder / "sweep").jobs.values())

    def _differs(self, job: Job) -> bool:
        x = int(job.params["x"])
        if fails(x):
            return job.state is not JobState.FAILED or "killed" in job.ending()
        value = None if self.mode == "command" else value_of(x)
        return (job.state, job.value) != (JobState.COMPLETED, value)


def started_after_completion(journal: Path) -> list[int]:
    """The jobs of which the journal has a start after their end as COMPLETED."""
    completed: set[int] = set()
    again: set[int] = set()
    for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
        event: dict[str, Any] = {}
        with suppress(ValueError):  # Damaged lines are told elsewhere.
            event = json.loads(line)
        if event.get("event") == "end" and event["state"] == "COMPLETED":
            completed.add(event["job"])
        elif event.get("event") == "start" and event["job"] in completed:
            again.add(event["job"])
    return sorted(again)


def _lacks_process(job: Job) -> bool:
    attempt = job.attempt if job.state is JobState.RUNNING else None
    pid = None if attempt is None else attempt.pid
    return False if pid is None else not psutil.pid_exists(pid)


# --- the loop ---------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> Tally:
    """Sweep after sweep, until there were enough kills."""
    chance = random.Random(options.seed)
    tally, deck = Tally(), Deck(random.Random(options.seed))
    began = time.monotonic()

    def more_kills() -> bool:
        return tally.kills.total() < options.kills and (
            options.seconds is None or time.monotonic() - began < options.seconds
        )

    modes = options.modes.split(",")
    number = 0
    while more_kills() and len(tally.violations) < 10:
        mode = modes[number % len(modes)]
        number += 1
        tally.sweeps[mode] += 1
        folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        if number % 2 and make_repository(folder):
            tally.repositories += 1
        try:
            Chaos(folder, mode, options.jobs, deck, chance, tally).run(more_kills)
        except Violation as violation:
            tally.violations.append(f"sweep {number} ({mode}, kept in {folder}): {violation}")
            print(tally.violations[-1], file=sys.stderr, flush=True)
        else:
            shutil.rmtree(folder)
        print(
            f"sweep {number} ({mode}): {tally.kills.total()} kills so far",
            file=sys.stderr,
            flush=True,
        )
    return tally


def report(tally: Tally, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """The figures, as JSON can hold them."""
    gone = sorted(tally.gone_after)
    return {
        "seed": options.seed,
        "seconds": round(seconds, 1),
        "kills": dict(tally.kills.most_common()),
        "kills_in_all": tally.kills.total(),
        "sweeps": dict(tally.sweeps),
        "sweeps_in_a_git_repository": tally.repositories,
        "launchers": tally.lives,
        "jobs": tally.jobs,
        "further_attempts": tally.reruns,
        "checks": tally.checks,
        "seconds_until_nothing_was_left": {
            "median": round(gone[len(gone) // 2], 3) if gone else None,
            "longest": round(gone[-1], 3) if gone else None,
        },
        "violations": tally.violations,
    }


def main() -> int:
    """Returns 1 if anything was lost, left or told wrongly."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="default 200")
    parser.add_argument("--seed", type=int, default=1, help="default 1")
    parser.add_argument("--jobs", type=int, default=24, help="of each sweep; default 24")
    parser.add_argument("--seconds", type=float, help="kill no more after so long")
    parser.add_argument("--modes", default=",".join(MODES), help="comma-separated; default all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    if unknown := set(options.modes.split(",")) - set(MODES):
        parser.error(f"--modes {','.join(unknown)}: choose from {', '.join(MODES)}")
    began = time.monotonic()
    figures = report(run(options), options, time.monotonic() - began)
    figures["seconds"] = round(time.monotonic() - began, 1)
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if figures["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
