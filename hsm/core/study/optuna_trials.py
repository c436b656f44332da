"""The trials of one sweep in a study of Optuna's: made, found again, and completed.

A trial of the sweep is marked in the study: user attribute "hsm", ``<sweep id>/<index>``. So other
sweeps may have trials in the same study, and a resumed sweep finds its own. The newest trial with
a mark counts: those before it are of a job that ran again, or of a point that was not run.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial
from optuna.trial import TrialState as State

from hsm.core.errors import SettingsError
from hsm.core.logger import get_logger
from hsm.core.plain_json import identity
from hsm.core.study.dimensions import Dimension
from hsm.core.study.optuna_chance import reseed
from hsm.core.study.optuna_space import distribution, suggest
from hsm.core.study.optuna_study import FIXED, OpenStudy
from hsm.core.study.proposer import ProposerFailed
from hsm.core.study.search_space import SearchSpace

log = get_logger(__name__)

_MARK = "hsm"


class OptunaTrials:
    """The trials of a sweep in a study.

    Args:
        opened: the study.
        space: what is searched.
        sweep_id: the sweep's id.
        custom: called with each trial; may suggest more.
        origin: where the space was written, for messages.

    Attributes:
        distributions: of the space, by the names of its dimensions.
    """

    def __init__(
        self, opened: OpenStudy, space: SearchSpace, sweep_id: str, custom: Any, origin: str
    ) -> None:
        self._opened, self._study, self._space = opened, opened.study, space
        self._sweep_id, self._custom, self._origin = sweep_id, custom, origin
        self._made: Counter[int] = Counter()  # trials of each index
        self.distributions = {each.name: distribution(each) for each in space.dimensions}

    def marked(self) -> dict[int, FrozenTrial]:
        """The newest trial of each index, as the study has it."""
        found: dict[int, FrozenTrial] = {}
        self._made.clear()
        for frozen in self._study.get_trials(deepcopy=False):
            sweep_id, _, index = str(frozen.user_attrs.get(_MARK, "")).rpartition("/")
            if sweep_id == self._sweep_id and index.isdecimal():
                found[int(index)] = frozen
                self._made[int(index)] += 1
        return found

    def raws(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The raw values of a point, those that a custom space suggested included."""
        raws: dict[str, Any] = self._space.raws(point)
        if self._custom is not None:
            known = set(self._space.keys)
            raws.update({key: value for key, value in point.items() if key not in known})
        return raws

    def is_of(self, frozen: FrozenTrial, point: Mapping[str, Any]) -> bool:
        """Whether a trial of the study has the parameters of a point, as far as it has any."""
        params: dict[str, Any] = dict(frozen.params)
        for each in self._space.dimensions:
            if each.name in params:
                raw = params.pop(each.name)
                params.update(each.params(raw))
        return all(key in point and _are_equal(point[key], it) for key, it in params.items())

    def waiting(self, index: int) -> Trial | None:
        """A trial that somebody has enqueued in the study, if there is one."""
        if not self._study.get_trials(deepcopy=False, states=(State.WAITING,)):
            return None
        self._begin(index)
        trial = self._study.ask()
        trial.set_user_attr(_MARK, f"{self._sweep_id}/{index}")
        return trial

    def create(self, index: int, raws: Mapping[str, Any]) -> Trial:
        """A new trial, some values of which may be given."""
        return self._create(index, system_attrs=self._opened.given_attrs(raws) if raws else {})

    def recreate(self, index: int, raws: Mapping[str, Any]) -> Trial:
        """A trial that the study has lost; of a job that may lie in another space by now."""
        attrs = self._opened.given_attrs(raws)
        if self._custom is None and len(raws) < len(self.distributions):
            attrs.pop(FIXED, None)
            distributions = {name: self.distributions[name] for name in raws}
            return self._create(
                index, params=dict(raws), distributions=distributions, system_attrs=attrs
            )
        trial = self._create(index, system_attrs=attrs)
        try:
            # Samplers note some things in the study when they are asked.
            _ = trial.relative_params
        except Exception as error:
            log.debug("trial %s: %s", trial.number, error)
        self.complete(trial, index)
        return trial

    def _create(self, index: int, **template: Any) -> Trial:
        """A new trial, which has its mark from the beginning."""
        study = self._study
        attrs = {**self._space.fixed, _MARK: f"{self._sweep_id}/{index}"}
        frozen = optuna.trial.create_trial(state=State.RUNNING, user_attrs=attrs, **template)
        trial_id = study._storage.create_new_trial(study._study_id, template_trial=frozen)
        study._thread_local.cached_all_trials = None  # as `Study.ask` does
        self._begin(index)
        return Trial(study, trial_id)

    def take_over(self, frozen: FrozenTrial, index: int, raws: Mapping[str, Any]) -> Trial:
        """A trial of the study that was running, with these values if it lacks some."""
        missing = {name: raw for name, raw in raws.items() if name not in frozen.params}
        if missing and FIXED not in frozen.system_attrs:
            self._study._storage.set_trial_system_attr(frozen._trial_id, FIXED, missing)
        self._reseed(index)
        trial = Trial(self._study, frozen._trial_id)
        if missing:
            self.complete(trial, index)
        return trial

    def _begin(self, index: int) -> None:
        self._made[index] += 1
        self._reseed(index)

    def _reseed(self, index: int, *part: str) -> None:
        reseed(self._study.sampler, self._opened.seed, index, self._made[index], *part)

    def complete(self, trial: Trial, index: int) -> dict[str, Any]:
        """Let the sampler choose what a trial lacks; returns its point.

        Raises:
            SettingsError: a custom space suggests what the sweep sets.
            ProposerFailed: the sampler, or a custom space, has raised something.
        """
        dimensions = self._space.dimensions
        self._reseed(index)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                if any(each.name not in trial.params for each in dimensions):
                    _ = trial.relative_params  # what is drawn at once, for all parameters
                raws = {each.name: self._suggested(trial, index, each) for each in dimensions}
        except Exception as error:
            raise self.failure("propose a point", error) from error
        if self._custom is not None:
            self._reseed(index)
            try:
                self._custom(trial)
            except Exception as error:
                message = f"custom_search_space raised {type(error).__name__}: {error}"
                raise ProposerFailed(message) from error
        more = {key: value for key, value in trial.params.items() if key not in raws}
        twice = [key for key in more if key in self._space.keys]
        if twice:
            message = (
                f"{self._origin}: custom_search_space suggests {twice[0]}, which is a parameter "
                "of the sweep as well"
            )
            raise SettingsError("params", twice[0], self._origin, "given once", message=message)
        return {**self._space.params(raws), **more}

    def _suggested(self, trial: Trial, index: int, dimension: Dimension) -> Any:
        """The raw value of a parameter; a trial that was cut off may have had some before."""
        self._reseed(index, dimension.name)
        return suggest(trial, dimension)

    def failure(self, what: str, error: Exception) -> ProposerFailed:
        """The error for one that the sampler or pruner has raised."""
        name = type(self._study.sampler).__name__
        return ProposerFailed(f"{name} cannot {what}: {type(error).__name__}: {error}")


def _are_equal(first: Any, second: Any) -> bool:
    """Whether two values of a parameter are equal; NaN equals itself."""
    return bool(first == second) or identity({"": first}) == identity({"": second})
