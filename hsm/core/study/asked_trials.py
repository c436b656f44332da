"""The jobs of a study, one after another, and what came of them.

    Proposer --ask--> trial --> its jobs (one, or its repeats) --> Asking runs them
             <--tell-- TrialEnd <-- JobOutcome <-- ended <-- score, measured

The trial with the index t has the jobs t * repeats, … in the sweep: the journal's numbers are the
truth, from which a resume takes up all that has run, see `hsm.core.study.opening`.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

from hsm.core.plain_json import identity
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.settings.resolve import Direction
from hsm.core.study.best_trials import BestTrial, best_of, candidate, results_of
from hsm.core.study.option_values import Duplicates
from hsm.core.study.options import StudyOptions
from hsm.core.study.proposer import Proposal, Proposer, Restored, TrialState
from hsm.core.study.scoring import Scorer
from hsm.core.study.search_space import SearchSpace
from hsm.core.study.trial_ends import JobOutcome, RunningTrial, end_of

#: Ended trials below which no rate of failures ends a sweep.
_MIN_ENDED = 10
#: Proposals in a row that have run already, after which there is nothing new to expect.
_MAX_REUSED = 100


class AskedJob(NamedTuple):
    """A job that was asked for.

    Attributes:
        num: its number in the sweep.
        point: its parameters.
    """

    num: int
    point: Mapping[str, Any]


class AskedTrials:
    """Asks for jobs, and tells how they ended: an `hsm.core.engine.asking.Asker`.

    `measured`, `score` and `enqueue` may be called from any thread, the others from one.

    Args:
        options: what was said of the study; with a seed.
        space: what is searched.
        paths: the sweep's.
        proposer: what proposes points; it has been given what there is from elsewhere.
        default_point: the program's own values, for enqueue_default.
        added: trials that were added to a sweep that is resumed, while it ran.
        warm: how many outcomes of other sweeps were taken over, and how many did not fit.
        notes: lines for people, on what has no effect.

    Attributes:
        options: as given.
        warm: as given.
        notes: as given.
    """

    def __init__(
        self,
        options: StudyOptions,
        space: SearchSpace,
        paths: SweepPaths,
        proposer: Proposer,
        *,
        default_point: Mapping[str, Any] | None = None,
        added: int = 0,
        warm: tuple[int, int] = (0, 0),
        notes: Sequence[str] = (),
    ) -> None:
        self.options, self.warm, self.notes = options, warm, list(notes)
        self._space, self._paths, self._proposer = space, paths, proposer
        self._lock = threading.RLock()
        self._trials: dict[int, RunningTrial] = {}
        self._queue: deque[AskedJob] = deque()
        self._earlier: list[AskedJob] = []
        self._asked: Mapping[int, Proposal] = {}
        self._cancelled: list[Job] = []
        self._scorer = Scorer(options, paths)
        self._first = self._first_points(default_point)
        self._added: deque[dict[str, Any]] = deque()
        self._next, self._total = 0, self._at_most() + added
        self._why, self._is_over = "", False
        self._ended = self._failed = 0  # trials
        self._ran: dict[str, RunningTrial] = {}  # by the identity of their points
        self._deadline = None if options.max_time is None else time.monotonic() + options.max_time
        self._repeats = [
            dict(zip(options.repeat, values, strict=True))
            for values in product(*options.repeat.values())
        ]

    # --- for Asking ---

    def earlier(self) -> Sequence[AskedJob]:
        """The jobs of the sweep that is resumed: those that are over, and those to run again."""
        return list(self._earlier)

    def ask(self) -> AskedJob | None:
        """The next job; None if there is none now, or none any more (`is_over`).

        Raises:
            HsmError: what proposes points has failed.
        """
        self._tell_cancelled()
        if not self._queue and not self._begin_trial():
            return None
        job = self._queue.popleft()
        repeats = self.options.repeats
        self._trials[job.num // repeats].asked.add(job.num % repeats)
        return job

    @property
    def is_over(self) -> bool:
        """Whether no job will be asked for any more."""
        with self._lock:
            if self._queue or self._added:
                return False
            return self._is_over or len(self._trials) >= self._total

    @property
    def why_over(self) -> str:
        """Why no more jobs are asked for, if not because there were `n_trials`; often empty."""
        return self._why

    def ended(self, job: Job) -> str | None:
        """A job has ended; returns a reason to end the whole sweep, if there is one."""
        trial = self._trials.get(job.num // self.options.repeats)
        if trial is None or trial.end is not None or job.outcome is None:
            return None
        if job.state is JobState.CANCELLED:
            self._cancelled.append(job)  # Perhaps the whole sweep is, and it runs again.
            return None
        return self._take(trial, job)

    # --- hooks of the source ---

    def score(self, job: Job, ending: Ending, measured: Any) -> Ending:
        """`ending` with the job's objective, or the reason why it has none.

        Args:
            job: the job.
            ending: how it ended.
            measured: its `Measured`, or a mapping of the last values; None if there are none.
        """
        return self._scorer.score(job, ending, measured)

    def measured(self, job: Job, measurement: Any) -> str | None:
        """A job has measured something (a `Measurement`); returns why to prune it, or None."""
        trial = self._trials.get(job.num // self.options.repeats)
        if self.options.pruner is None or self.options.repeat or trial is None:
            return None
        step = measurement.step
        found = self._scorer.reported(measurement.values)
        if step is None or found is None:
            return None
        name, value = found
        if not self._proposer.measured(trial.trial_id, step, value):
            return None
        return f"pruned at step {step}: {name} {value:g}"

    # --- for doors ---

    @property
    def n_trials(self) -> int:
        """How many trials there will be at most: fewer than asked for in a small space."""
        return self._total

    @property
    def planned(self) -> int:
        """How many jobs there will be at most."""
        return self._total * self.options.repeats

    def record(self) -> dict[str, Any]:
        """What a launcher records as `chosen`: the options, and the space."""
        return {**self.options.record(), "space": self._space.texts()}

    def enqueue(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Run these points (or parts of points) next, on top of `n_trials`. From any thread.

        Raises:
            SettingsError: one is not in the space.
        """
        aligned = [self._space.aligned(point) for point in points]
        for point in aligned:
            self._proposer.check(point)
        with self._lock:
            self._added.extend(aligned)
            self._total += len(aligned)

    def best(self) -> Sequence[BestTrial]:
        """The best trial; of several objectives, those that no other one beats. May be empty."""
        repeats = self.options.repeats
        ended = [self._trials[index] for index in sorted(self._trials)]
        candidates = [each for trial in ended if (each := candidate(trial, repeats)) is not None]
        return best_of(candidates, self.options.direction)

    def optimization_results(self) -> dict[str, Any]:
        """The content of optimization_results.yaml, as hydra-optuna-sweeper writes it."""
        name = self.options.method.rpartition(".")[2]
        return results_of(self.best(), name, len(self.options.direction), self._space.fixed)

    def close(self) -> None:
        """The sweep has ended; what was cancelled stays as it is, to run again in a resume."""
        self._proposer.close()

    # --- trials ---

    def take_over(self, trials: Sequence[RunningTrial], jobs: Sequence[AskedJob]) -> None:
        """Go on from the trials of an earlier launcher, and its jobs; called once, first.

        Args:
            trials: the trials; those of which no job is missing have ended.
            jobs: their jobs.
        """
        self._trials = {trial.index: trial for trial in trials}
        self._earlier = list(jobs)
        for trial in trials:
            self._note_end(trial)
        for trial in trials:
            if trial.end is None and not trial.is_pruned:
                self._queue_jobs(trial)

    def restored(self, known: Restored) -> None:
        """Take over what the proposer knew of these trials."""
        for index, trial_id in known.ids.items():
            self._trials[index].trial_id = trial_id
        self._asked = known.asked

    def outcome(self, job: Job) -> JobOutcome:
        """What the study makes of a job that has ended."""
        return self._scorer.outcome(job)

    def stop_asking(self, why: str) -> None:
        """Ask for no more trials, but for those that are added."""
        self._is_over, self._why = True, self._why or why

    def _first_points(self, default: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        points = [default] if self.options.enqueue_default and default is not None else []
        return [self._space.aligned(point) for point in [*points, *self.options.enqueue]]

    @property
    def first_points(self) -> Sequence[Mapping[str, Any]]:
        """The points that are run first."""
        return self._first

    def _at_most(self) -> int:
        most = self._proposer.max_trials
        return self.options.n_trials if most is None else min(self.options.n_trials, most)

    def _begin_trial(self) -> bool:
        """Ask for the next trial, and queue its jobs; returns whether there is one."""
        if self._deadline is not None and time.monotonic() >= self._deadline and not self._is_over:
            self.stop_asking(f"max_time is over ({self.options.max_time:g} s)")
        with self._lock:
            added = self._added.popleft() if self._added else None
        if added is None and (self._is_over or len(self._trials) >= self._total):
            return False
        while self._next in self._trials:
            self._next += 1
        proposal = self._propose(self._next, added)
        if proposal is None:
            if not self._under_way():
                self.stop_asking("there are no more points")
            return False
        trial = RunningTrial(self._next, proposal.trial_id, proposal.point)
        self._trials[trial.index] = trial
        self._queue_jobs(trial)
        return True

    def _propose(self, index: int, added: dict[str, Any] | None) -> Proposal | None:
        if index in self._asked:
            if added is not None:
                self._added.appendleft(added)
            return self._asked[index]
        fixed: Mapping[str, Any] | None = added
        if fixed is None and index < len(self._first):
            fixed = self._first[index]
        for _ in range(_MAX_REUSED):
            proposal = self._proposer.ask(index, fixed)
            if proposal is None or fixed is not None or not self._reuse(proposal):
                return proposal
        self.stop_asking(f"the last {_MAX_REUSED} points that were proposed have all run already")
        return None

    def _reuse(self, proposal: Proposal) -> bool:
        """Tell what came of the same point before, if it has run; returns whether it has."""
        if self.options.duplicates is not Duplicates.reuse:
            return False
        ran = self._ran.get(identity(proposal.point))
        if ran is None or ran.end is None:
            return False
        reason = f"the same point as trial {ran.index}"
        self._proposer.tell(proposal.trial_id, replace(ran.end, reason=reason))
        return True

    def _queue_jobs(self, trial: RunningTrial) -> None:
        """Queue the jobs of a trial that there have never been."""
        repeats = self.options.repeats
        for number in range(repeats):
            if number not in trial.asked:
                point = {**trial.point, **copy.deepcopy(self._repeats[number])}
                self._queue.append(AskedJob(trial.index * repeats + number, point))

    def _under_way(self) -> bool:
        return any(trial.end is None for trial in self._trials.values())

    def _tell_cancelled(self) -> None:
        """Tell of jobs that were cancelled, since the sweep goes on without them."""
        cancelled, self._cancelled = self._cancelled, []
        for job in cancelled:
            trial = self._trials[job.num // self.options.repeats]
            if trial.end is None:
                self._take(trial, job)

    def _take(self, trial: RunningTrial, job: Job) -> str | None:
        repeats = self.options.repeats
        number = job.num % repeats
        if number in trial.outcomes:
            return None
        outcome = self._scorer.outcome(job)
        trial.outcomes[number] = outcome
        trial.asked.add(number)
        if outcome.values is not None and self._is_to_prune(trial, number, outcome.values[0]):
            self._prune_repeats(trial)
        if not trial.has_ended(repeats):
            return None
        return self._end(trial)

    def _is_to_prune(self, trial: RunningTrial, number: int, value: float) -> bool:
        """Whether the pruner, which looks at repeats, needs no more of these."""
        if not self.options.prunes_repeats or trial.is_pruned:
            return False
        return self._proposer.measured(trial.trial_id, number, value)

    def _prune_repeats(self, trial: RunningTrial) -> None:
        """Leave out the repeats of a trial that have not been asked for."""
        trial.is_pruned = True
        repeats = self.options.repeats
        kept = [job for job in self._queue if job.num // repeats != trial.index]
        self._queue = deque(kept)

    def _end(self, trial: RunningTrial) -> str | None:
        """A trial has ended: tell it; returns a reason to end the whole sweep."""
        trial.end = end = end_of(trial, self.options)
        self._note_end(trial)
        self._proposer.tell(trial.trial_id, end)
        target = self.options.target
        if target is not None and end.state is TrialState.complete and end.values:
            is_low = self.options.direction[0] is Direction.minimize
            reached = end.values[0] <= target if is_low else end.values[0] >= target
            if reached and (end.constraints is None or max(end.constraints) <= 0):
                self.stop_asking(f"trial {trial.index} has reached the target ({end.values[0]:g})")
        return self._too_many_failures()

    def _note_end(self, trial: RunningTrial) -> None:
        """Note how a trial ended, if it has."""
        if trial.end is None:
            return
        self._ended += 1
        self._failed += trial.end.state is TrialState.failed
        if trial.end.state is TrialState.complete and self.options.duplicates is Duplicates.reuse:
            self._ran.setdefault(identity(trial.point), trial)

    def _too_many_failures(self) -> str | None:
        rate = self.options.max_failure_rate
        if rate is None:
            return None
        if self._ended < _MIN_ENDED or self._failed <= rate * self._ended:
            return None
        return f"{self._failed} of {self._ended} trials failed (max_failure_rate={rate:g})"
