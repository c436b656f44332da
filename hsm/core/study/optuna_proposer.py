"""Optuna proposes points, through its ask and tell.

SearchSpace, StudyOptions --> optuna.Study: ask --> Proposal --> TrialEnd --> tell

Trials are known here by their numbers in the study, see `hsm.core.study.optuna_trials`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial
from optuna.trial import TrialState as State

from hsm.core.errors import SettingsError
from hsm.core.logger import get_logger
from hsm.core.study.optuna_study import CONSTRAINTS, OpenStudy
from hsm.core.study.optuna_trials import OptunaTrials
from hsm.core.study.proposer import (
    EarlierTrial,
    KnownTrial,
    Proposal,
    Restored,
    TrialEnd,
    TrialState,
)
from hsm.core.study.search_space import SearchSpace

log = get_logger(__name__)

#: User attributes of trials: why one failed; the job of another sweep whose outcome one is.
_REASON, _SOURCE = "hsm_reason", "hsm_from"
_STATES = {
    State.COMPLETE: TrialState.complete,
    State.PRUNED: TrialState.pruned,
    State.FAIL: TrialState.failed,
}
_MAX_REASON = 500


class OptunaProposer:
    """Optuna as a `hsm.core.study.proposer.Proposer`.

    Args:
        opened: the study, and what it was opened with.
        space: what is searched.
        sweep_id: the sweep's id.
        custom: called with each trial; may suggest more.
        constraints: the names of the constraints.
        origin: where the space was written, for messages.
    """

    def __init__(
        self,
        opened: OpenStudy,
        space: SearchSpace,
        sweep_id: str,
        *,
        custom: Any = None,
        constraints: Sequence[str] = (),
        origin: str = "command line",
    ) -> None:
        self._opened, self._study, self._space = opened, opened.study, space
        self._constraints, self._origin = constraints, origin
        self._has_custom = custom is not None
        self._ours = OptunaTrials(opened, space, sweep_id, custom, origin)
        self._running: dict[int, Trial] = {}
        self._last_steps: dict[int, int] = {}
        self._is_exhausted = False

    @property
    def max_trials(self) -> int | None:
        return self._opened.max_trials

    # --- trials that there are already ---

    def restore(self, earlier: Sequence[EarlierTrial]) -> Restored:
        marked = self._ours.marked()
        ids: dict[int, int] = {}
        pruned: set[int] = set()
        for each in earlier:
            found = marked.pop(each.index, None)
            if found is not None and found.state is State.PRUNED and each.may_be_pruned:
                pruned.add(each.index)
                ids[each.index] = found.number
                continue
            with self._opened.together():
                ids[each.index] = self._restored(each, found)
        asked: dict[int, Proposal] = {}
        for index, frozen in sorted(marked.items()):
            if not frozen.state.is_finished():
                with self._opened.together():
                    trial = self._taken_over(frozen, index, {})
                    asked[index] = Proposal(trial.number, self._ours.complete(trial, index))
        return Restored(ids, frozenset(pruned), asked)

    def _restored(self, each: EarlierTrial, found: FrozenTrial | None) -> int:
        """Bring the study up to what the journal has of a trial; returns the trial's number."""
        if found is not None and found.state.is_finished():
            if each.end is not None and _STATES[found.state] is each.end.state:
                return found.number
            found = None  # Its job has run again since, or will.
        raws = self._ours.raws(each.point)
        if found is not None and not self._ours.is_of(found, each.point):
            self._study.tell(found.number, state=State.FAIL)
            found = None
        if found is None:
            trial = self._ours.recreate(each.index, raws)
            self._running[trial.number] = trial
        else:
            trial = self._taken_over(found, each.index, raws)
        if each.end is not None:
            self.tell(trial.number, each.end)
        return trial.number

    def _taken_over(self, frozen: FrozenTrial, index: int, raws: Mapping[str, Any]) -> Trial:
        trial = self._ours.take_over(frozen, index, raws)
        self._running[trial.number] = trial
        if frozen.intermediate_values:
            self._last_steps[trial.number] = max(frozen.intermediate_values)
        return trial

    def add_known(self, known: Sequence[KnownTrial]) -> int:
        there = {t.user_attrs.get(_SOURCE) for t in self._study.get_trials(deepcopy=False)}
        distributions = self._ours.distributions
        fitted = 0
        for each in known:
            point = self._space.aligned(each.point)
            raws = self._space.raws(point)
            if len(raws) < len(distributions) or len(each.values) != len(self._study.directions):
                continue
            if not self._is_inside(point):
                continue
            fitted += 1
            if each.name not in there:
                trial = optuna.trial.create_trial(
                    params=raws,
                    distributions=distributions,
                    values=list(each.values),
                    user_attrs={_SOURCE: each.name},
                )
                self._study.add_trial(trial)
        return fitted

    def _is_inside(self, point: Mapping[str, Any]) -> bool:
        """Whether a point has nothing that those of this space would not have."""
        try:
            self._space.check(point, self._origin, takes_more=self._has_custom)
        except SettingsError:
            return False
        return True

    # --- asking ---

    def check(self, fixed: Mapping[str, Any]) -> None:
        self._space.check(fixed, self._origin, takes_more=self._has_custom)
        self._opened.check_fixed(self._ours.raws(fixed), self._origin)

    def ask(self, index: int, fixed: Mapping[str, Any] | None = None) -> Proposal | None:
        if self._is_exhausted and fixed is None:
            return None
        raws: dict[str, Any] = {}
        if fixed:
            self.check(fixed)
            raws = self._ours.raws(fixed)
        with self._opened.together():
            trial = None if fixed else self._ours.waiting(index)
            trial = trial or self._ours.create(index, raws)
            point = self._ours.complete(trial, index)
        self._running[trial.number] = trial
        return Proposal(trial.number, point)

    # --- telling ---

    def tell(self, trial_id: Any, end: TrialEnd) -> None:
        trial = self._running.pop(trial_id, None)
        try:
            with self._opened.together():
                if trial is not None:
                    self._annotate(trial, end)
                self._tell(trial_id, end)
        except Exception as error:
            raise self._ours.failure("take a result", error) from error

    def _annotate(self, trial: Trial, end: TrialEnd) -> None:
        if end.reason:
            trial.set_user_attr(_REASON, end.reason[:_MAX_REASON])
        if end.state is TrialState.pruned:
            self._report_last(trial, end)
        if end.constraints is None:
            return
        trial.set_user_attr(CONSTRAINTS, list(end.constraints))
        if self._opened.sets_constraints:
            for name, value in zip(self._constraints, end.constraints, strict=True):
                trial.set_constraint(name, value)

    def _report_last(self, trial: Trial, end: TrialEnd) -> None:
        """Report the value of a pruned trial: Optuna takes it from what was reported."""
        is_reported = trial.number in self._last_steps
        if end.values and not is_reported and len(self._study.directions) == 1:
            trial.report(end.values[0], 0)

    def _tell(self, number: int, end: TrialEnd) -> None:
        try:
            if end.state is TrialState.complete:
                assert end.values is not None
                self._study.tell(number, list(end.values))
            elif end.state is TrialState.pruned:
                self._study.tell(number, state=State.PRUNED)
            else:
                self._study.tell(number, state=State.FAIL)
        except RuntimeError as error:
            if "Study.stop" not in str(error):
                raise
            self._is_exhausted = True  # The sampler has proposed all that there is.

    def measured(self, trial_id: Any, step: int, value: float) -> bool:
        trial = self._running.get(trial_id)
        if trial is None or step <= self._last_steps.get(trial_id, -1):
            return False  # An earlier attempt has measured that step.
        self._last_steps[trial_id] = step
        try:
            trial.report(value, step)
            return bool(trial.should_prune())
        except Exception as error:
            log.debug("trial %s, step %s: %s", trial_id, step, error)
            return False

    def close(self) -> None:
        self._opened.close()
