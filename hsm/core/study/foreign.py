"""A user's class as a method: ``ask() -> (id, overrides) | None`` and ``tell(id, outcome)``.

    class Mine:
        def ask(self):                 # overrides: ["lr=0.1", "model=svm"], or a dict
            return 0, {"lr": 0.1}      # None: no point now; and none at all if no job is under way
        def tell(self, id, outcome):   # the objective: a number, or a list; None if the job failed
            ...

It is made without arguments, in the launching process. Of a sweep that is resumed it knows
nothing, so it lives through it again: it is asked as often as it was, in the same order, and told
what came of the jobs. What it proposes meanwhile is not run: the jobs of the journal stay as they
are. A class that is not random, or has a seed of its own, so proposes what it would have proposed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hsm.core.errors import SettingsError, shown
from hsm.core.plain_json import json_value
from hsm.core.study.proposer import (
    EarlierTrial,
    KnownTrial,
    Proposal,
    ProposerFailed,
    Restored,
    TrialEnd,
    TrialState,
)

_OWN = object()  # the id of trials that nobody asked the class for


class ForeignProposer:
    """An object with ask and tell as a `hsm.core.study.proposer.Proposer`.

    Args:
        method: the object.
        path: the dotted path of its class, for messages.
        fixed: parameters that all points have besides.
    """

    def __init__(self, method: Any, path: str, fixed: Mapping[str, Any]) -> None:
        self._method, self._path, self._fixed = method, path, dict(fixed)
        self._ids: dict[int, Any] = {}  # theirs may be anything, even lists
        self._count = 0

    @property
    def max_trials(self) -> int | None:
        return None

    def restore(self, earlier: Sequence[EarlierTrial]) -> Restored:
        ids: dict[int, Any] = {}
        for each in earlier:
            asked = self._asked()
            ids[each.index] = _OWN if asked is None else asked.trial_id
            if each.end is not None:
                self.tell(ids[each.index], each.end)
        return Restored(ids)

    def add_known(self, known: Sequence[KnownTrial]) -> int:
        return 0

    def check(self, fixed: Mapping[str, Any]) -> None:
        return None

    def ask(self, index: int, fixed: Mapping[str, Any] | None = None) -> Proposal | None:
        if fixed is not None:
            return Proposal(_OWN, {**fixed, **self._fixed})
        return self._asked()

    def _asked(self) -> Proposal | None:
        try:
            answer = self._method.ask()
        except Exception as error:
            raise self._failed("ask()", error) from error
        if answer is None:
            return None
        if not isinstance(answer, Sequence) or isinstance(answer, str) or len(answer) != 2:
            raise self._wrong(answer, "a pair (id, overrides), or None")
        point = self._point(answer[1])
        self._count += 1
        self._ids[self._count] = answer[0]
        return Proposal(self._count, {**point, **self._fixed})

    def _point(self, overrides: Any) -> dict[str, Any]:
        if isinstance(overrides, Mapping):
            point = {key: json_value(value) for key, value in overrides.items()}
            lost = [key for key in point if point[key] is None and overrides[key] is not None]
            if lost or not all(isinstance(key, str) for key in point):
                raise self._wrong(overrides, "names with values that JSON can hold")
        elif isinstance(overrides, Sequence) and not isinstance(overrides, str):
            point = self._parsed(overrides)
        else:
            raise self._wrong(overrides, 'overrides such as ["lr=0.1"], or a dict')
        twice = [key for key in point if key in self._fixed]
        if twice:
            raise self._wrong(overrides, f"without {twice[0]}, which the sweep sets")
        return point

    def _parsed(self, overrides: Sequence[Any]) -> dict[str, Any]:
        from hsm.core.space.definition import parse_overrides

        try:
            points = parse_overrides(list(overrides), origin=f"{self._path}.ask()")
            if points.count() != 1:
                raise self._wrong(overrides, "one point, and not several")
            return points.point(0)
        except SettingsError as error:
            raise ProposerFailed(str(error)) from error

    def tell(self, trial_id: Any, end: TrialEnd) -> None:
        if trial_id is _OWN:
            return
        outcome: Any = None
        if end.values is not None and end.state is not TrialState.failed:
            outcome = end.values[0] if len(end.values) == 1 else list(end.values)
        try:
            self._method.tell(self._ids.pop(trial_id), outcome)
        except Exception as error:
            raise self._failed("tell()", error) from error

    def measured(self, trial_id: Any, step: int, value: float) -> bool:
        return False

    def close(self) -> None:
        return None

    def _failed(self, what: str, error: Exception) -> ProposerFailed:
        return ProposerFailed(f"{self._path}.{what} raised {type(error).__name__}: {error}")

    def _wrong(self, answer: Any, wanted: str) -> ProposerFailed:
        return ProposerFailed(f"{self._path}.ask() must return {wanted}, not {shown(answer)}")


def make_foreign(path: str, fixed: Mapping[str, Any], origin: str) -> ForeignProposer:
    """Make the object that a dotted path names.

    Raises:
        SettingsError: it cannot be imported or made, or has no ask and tell.
    """
    from hsm.core.study.importing import import_path

    try:
        made = import_path(path)()
    except Exception as error:
        message = f"{origin}: cannot make {path}: {type(error).__name__}: {error}"
        allowed = "a class that can be made without arguments"
        raise SettingsError("method", path, origin, allowed, message=message) from error
    for name in ("ask", "tell"):
        if not callable(getattr(made, name, None)):
            message = f"{origin}: {path} has no method {name}()"
            allowed = "a class with ask and tell"
            raise SettingsError("method", path, origin, allowed, message=message)
    return ForeignProposer(made, path, fixed)
