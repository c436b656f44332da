"""Studies without processes: jobs that "run" where they are asked for, and launchers that "die"."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.space.definition import parse_overrides
from hsm.core.study.options import check_study
from hsm.core.study.search_space import SearchSpace
from hsm.core.study.trials import AskedJob, Trials

SPACE = ("x=interval(-1, 1)", "n=range(1, 9)", "kind=a,b", "k=3")


def space_of(*overrides: str) -> SearchSpace:
    return SearchSpace.of(parse_overrides(list(overrides), intervals=True), "command line")


def loss(point: Mapping[str, Any]) -> float:
    return float(point.get("x", 0)) ** 2 + abs(int(point.get("n", 4)) - 4) / 10


class Died(Exception):
    """The launcher was killed here."""


@dataclass
class Sweep:
    """A sweep whose jobs return `value` of their points; `jobs` is what its journal has."""

    folder: Path
    space: SearchSpace
    options: dict[str, Any]
    value: Callable[[Mapping[str, Any]], Any] = loss
    jobs: dict[int, Job] = field(default_factory=dict)
    opening: dict[str, Any] = field(default_factory=dict)

    @property
    def paths(self) -> SweepPaths:
        return SweepPaths(self.folder)

    def open(self, **more: Any) -> Trials:
        self.paths.create()
        return Trials.open(
            check_study(self.options, "command line"),
            self.space,
            self.paths,
            sweep_id="s1",
            study_name="study",
            **{"earlier": self.jobs or None, **self.opening, **more},
        )

    def submit(self, asked: AskedJob) -> Job:
        job = Job(asked.num, f"s1_{asked.num}", params=dict(asked.point))
        assert asked.num not in self.jobs
        self.jobs[asked.num] = job
        job.start(0.0, 1)
        return job

    def end(self, trials: Trials, job: Job, ending: Ending | None = None) -> None:
        if ending is None:
            ending = Ending(JobState.COMPLETED, value=self.value(job.params))
        job.end(1.0, trials.score(job, ending, None))

    def run(self, trials: Trials, dies: Callable[[str, int], bool] = lambda at, num: False) -> None:
        """Run all jobs, one at a time; `dies` says whether the launcher is killed at a place."""
        for asked in trials.earlier():
            job = self.jobs[asked.num]
            if not job.state.is_final:
                self._run_one(trials, job, dies)
            else:
                trials.ended(job)
        while (asked_now := trials.ask()) is not None:
            if dies("asked", asked_now.num):
                raise Died
            job = self.submit(asked_now)
            if dies("submitted", job.num):
                raise Died
            self._run_one(trials, job, dies)
        assert trials.is_over

    def _run_one(self, trials: Trials, job: Job, dies: Callable[[str, int], bool]) -> None:
        self.end(trials, job)
        if dies("ended", job.num):
            raise Died
        assert trials.ended(job) is None

    def restart(self) -> None:
        """What the journal says once the launcher has been killed."""
        for num, job in list(self.jobs.items()):
            if not job.state.is_final:  # It runs again, so this launcher has it queued.
                again = Job(num, job.job_id, params=job.params)
                again.start(0.0, 1)
                self.jobs[num] = again

    def points(self) -> list[dict[str, Any]]:
        return [self.jobs[num].params for num in sorted(self.jobs)]


def told(trials: Trials) -> list[tuple[str, str]]:
    """The mark and the state of each trial in the study that Optuna has."""
    study = trials._proposer._study  # type: ignore[attr-defined]
    return [(str(t.user_attrs.get("hsm")), t.state.name) for t in study.get_trials()]


def is_close(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=1e-12)
