"""One sweep of chaos.py, and what is done to it."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from _chaos_checks import Record
from _chaos_files import DAMAGES, damage
from _chaos_life import (
    LONG_PATIENCE,
    STOPPED,
    VICTIMS,
    Hit,
    Life,
    Violation,
    command_of,
    name_of,
    parents_of,
    send,
)

Deed = tuple[str, str]

KILLS: list[Deed] = [("SIGKILL", victim) for victim in VICTIMS]
#: By the names that `--deeds` has for them.
OTHERS: dict[str, list[Deed]] = {
    "stops": [("SIGSTOP", victim) for victim in STOPPED],
    "files": list(DAMAGES),
    "resumes": [("resumed beside", "a dying launcher"), ("resumed beside", "one without a lock")],
}
#: Other deeds in each round of kills.
_OTHERS_IN_A_ROUND = 2
#: Of these the launcher survives, and the sweep goes on.
_SURVIVED = ("fork server", "keeper", "job")
#: Seconds until the next deed, at most: Hydra takes a while to start.
_PACE = {"function": 1.2, "command": 1.2, "hydra": 4.0}
#: Seconds that a process stands still, at most, if it is continued.
_LONGEST_STOP = 1.5
#: Seconds that a sweep which nobody disturbs may take.
_LONGEST_SWEEP = 120.0
#: Launchers that a sweep may still need when nobody disturbs it any more.
_MOST_LIVES_AT_END = 3


class Deck:
    """What to do next: every kill once, with some other deeds, in an order left to chance."""

    def __init__(self, chance: random.Random, others: list[Deed]) -> None:
        self._chance = chance
        self._others = others
        self._left: list[Deed] = []
        self._others_left: list[Deed] = []

    @property
    def top(self) -> Deed:
        """What is next."""
        if not self._left:
            drawn = [self._other() for _ in range(_OTHERS_IN_A_ROUND if self._others else 0)]
            self._left = self._chance.sample([*KILLS, *drawn], len(KILLS) + len(drawn))
        return self._left[-1]

    def next(self) -> None:
        """What was on top is done."""
        self._left.pop()

    def _other(self) -> Deed:
        if not self._others_left:
            self._others_left = self._chance.sample(self._others, len(self._others))
        return self._others_left.pop()


@dataclass
class Tally:
    """What happened.

    Attributes:
        hits: everything that was done, in order, for each sweep.
        repositories: sweeps that ran in a git repository.
        gone_after: seconds from a launcher's death until nothing of it was left, each time.
        reruns: attempts beyond the first of their job, over all sweeps.
    """

    hits: list[list[Hit]] = field(default_factory=list)
    sweeps: Counter[str] = field(default_factory=Counter)
    repositories: int = 0
    lives: int = 0
    jobs: int = 0
    checks: int = 0
    reruns: int = 0
    gone_after: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def count(self, deed: str) -> Counter[str]:
        """How often this was done to whom."""
        return Counter(hit.victim for hits in self.hits for hit in hits if hit.deed == deed)


class Chaos:
    """One sweep, from its first launcher to its end.

    Args:
        folder: an empty directory.
        mode: one of `MODES`.
        jobs: how many.
        deck: what to do.
        chance: decides everything else that is left to chance.
    """

    def __init__(
        self, folder: Path, mode: str, jobs: int, deck: Deck, chance: random.Random, tally: Tally
    ) -> None:
        self.folder, self.mode, self.jobs = folder, mode, jobs
        self.deck, self.chance, self.tally = deck, chance, tally
        self.record = Record(folder, mode)
        self.hits: list[Hit] = []
        self._began = time.monotonic()
        tally.hits.append(self.hits)
        (folder / "tmp").mkdir()

    def run(self, more_kills: Callable[[], bool]) -> None:
        """Disturb the sweep as long as `more_kills` says so, then let it end. Raises Violation."""
        life = self._start()
        try:
            while more_kills() and life.process.poll() is None:
                self._let_pass(life, self.chance.uniform(0.0, _PACE[self.mode]))
                deed = self.deck.top
                before = len(self.hits)
                life = self._do(deed, life)
                if len(self.hits) > before:
                    self.deck.next()
            self._let_end(life)
            self._finish()
        finally:
            life.end()
            self.tally.checks += self.record.checks

    def _do(self, deed: Deed, life: Life) -> Life:
        """Do it, if there is somebody to do it to; returns the launcher from then on."""
        kind, victim = deed
        if kind == "SIGKILL":
            return self._kill(victim, life)
        if kind == "SIGSTOP":
            return self._stop(victim, life)
        if kind == "resumed beside":
            return self._resume_beside(deed, life)
        if life.process.poll() is None and damage(self.record.paths, deed, self.chance):
            self._note(deed, life)
            self.record.forget(*deed)
            self.record.check_ended()
        return life

    # --- processes ----------------------------------------------------------------------------

    def _kill(self, victim: str, life: Life) -> Life:
        found = life.find(victim, self.chance)
        if not found:
            return life
        self._note(("SIGKILL", victim), life, found)
        # A keeper's server reads on what it had to read. If that is dead as well, nobody does.
        loses = victim == "keeper" and not any("hsm-server" in of for of in parents_of(found[0]))
        life.kill(victim, found)
        if loses:
            self.record.lose_pipes()
        if victim in _SURVIVED:
            self.record.check(life.patience)
            return life
        if victim == "everything":
            self.record.lose_pipes()
        return self._next_life(life, waits=self.chance.random() < 0.5)

    def _stop(self, victim: str, life: Life) -> Life:
        """Stop a process; continue it later or, half of them, never."""
        found = life.find(victim, self.chance)
        if not found:
            return life
        self._note(("SIGSTOP", victim), life, found)
        life.patience = LONG_PATIENCE
        send(signal.SIGSTOP, found)
        self._let_pass(life, self.chance.uniform(0.0, _LONGEST_STOP))
        self.record.check_ended()
        if self.chance.random() < 0.5:
            send(signal.SIGCONT, found)
        elif victim == "launcher":
            return self._kill(victim, life)
        return life

    def _resume_beside(self, deed: Deed, life: Life) -> Life:
        """Have a second launcher while the first one is there, and has to go."""
        if life.process.poll() is not None or not self.record.states():
            return life
        if deed[1] == "a dying launcher":
            self._note(deed, life, life.find("launcher", self.chance))
            life.process.terminate()
        elif damage(self.record.paths, ("deleted", "lock"), self.chance):
            self._note(deed, life, life.find("launcher", self.chance))
        else:
            return life
        life.patience = LONG_PATIENCE
        second = self._start()
        try:
            # The second goes, since the first is there; or the first, since it lost its lock.
            deadline = time.monotonic() + LONG_PATIENCE
            while life.process.poll() is None and second.process.poll() is None:
                if time.monotonic() > deadline:
                    raise Violation("two launchers work side by side")
                time.sleep(0.05)
            if life.process.poll() is None and deed[1] != "a dying launcher":
                second.end()
                return life
            life.wait_until_gone()
        except BaseException:
            second.end()
            life.end()
            raise
        life.end()
        if second.process.poll() is None:
            return second
        second.end()
        return self._start()

    def _note(self, deed: Deed, life: Life, found: Sequence[psutil.Process] = ()) -> None:
        """Record what is about to be done, in the sweep's folder too."""
        seconds, states = round(time.monotonic() - self._began, 2), dict(self.record.states())
        if len(found) == 1:
            parents = parents_of(found[0])
            hit = Hit(seconds, *deed, states, found[0].pid, command_of(found[0]), parents)
        elif found:
            hit = Hit(seconds, *deed, states, life.process.pid, ", ".join(map(name_of, found)))
        else:
            hit = Hit(seconds, *deed, states)
        self.hits.append(hit)
        self.record.was_disturbed = True
        with (self.folder / "hits").open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"{hit}\n")

    def _start(self) -> Life:
        self.tally.lives += 1
        return Life(self.folder, self.mode, self.jobs)

    def _next_life(self, dead: Life, *, waits: bool) -> Life:
        """Resume, at once or when nothing of the dead launcher is left."""
        try:
            if waits:
                self.tally.gone_after.append(dead.wait_until_gone())
                self.record.check()
                return self._start()
            dead.process.wait()
            # Now, or a completed job that the next life runs again would not be known as one.
            self.record.check_ended()
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

    def _let_end(self, life: Life) -> None:
        self._let_pass(life, _LONGEST_SWEEP)
        if life.process.poll() is None:
            raise Violation(f"the sweep did not end in {_LONGEST_SWEEP:g} s")
        life.wait_until_gone()
        self.record.check()

    def _finish(self) -> None:
        """Resume until all is as it should be; then it must be."""
        record = self.record
        for _ in range(_MOST_LIVES_AT_END):
            if len(jobs := record.jobs()) == self.jobs and not any(map(record.differs, jobs)):
                break
            life = self._start()
            try:
                self._let_end(life)
            finally:
                life.end()
        jobs = record.jobs()
        wrong = [f"{job.label}: {job.state} {job.ending()}" for job in jobs if record.differs(job)]
        if wrong or len(jobs) != self.jobs:
            raise Violation(f"not as an undisturbed sweep: {len(jobs)} jobs, {wrong}")
        record.check_logs()
        self.tally.jobs += len(jobs)
        self.tally.reruns += sum(len(job.attempts) - 1 for job in jobs)
