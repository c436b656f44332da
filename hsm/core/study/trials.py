"""Trials: a study of a sweep, opened with all that there is of it already.

Trials.open --> earlier, ask, ended, is_over: what `hsm.core.engine.asking` wants
            --> score, measured: hooks of the source
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths
from hsm.core.record.resume import Rerun
from hsm.core.study.asked_trials import AskedJob, AskedTrials
from hsm.core.study.best_trials import BestTrial
from hsm.core.study.opening import (
    check_study_space,
    is_changed,
    known_trials,
    make_proposer,
    take_over,
)
from hsm.core.study.options import StudyOptions
from hsm.core.study.search_space import SearchSpace

if TYPE_CHECKING:
    from hsm.core.record.sweep import Sweep

__all__ = ["AskedJob", "BestTrial", "Trials"]


class Trials(AskedTrials):
    """The study of a sweep; see `open`, and `AskedTrials` for all that it does."""

    @classmethod
    def open(
        cls,
        options: StudyOptions,
        space: SearchSpace,
        paths: SweepPaths,
        *,
        sweep_id: str,
        study_name: str,
        earlier: Mapping[int, Job] | None = None,
        recorded: Mapping[str, Any] | None = None,
        rerun: Rerun = "unfinished",
        accept_changes: bool = False,
        added: int = 0,
        default_point: Mapping[str, Any] | None = None,
        warm: Sequence[Sweep] = (),
        origin: str = "command line",
    ) -> Trials:
        """Open the study of a sweep whose directory this process has claimed.

        Args:
            options: what was said of it. custom_search_space must be a function by now.
            space: what is searched.
            paths: the sweep's.
            sweep_id: the sweep's id.
            study_name: the study's name, if the options have none; the same for the same program.
            earlier: the jobs of the sweep that is resumed, by number; None for a new sweep.
            recorded: what its launcher recorded as `chosen`.
            rerun: which of its jobs run again.
            accept_changes: whether it goes on in a space that has changed.
            added: how many trials were added to the sweep that is resumed while it ran.
            default_point: the program's own values, for enqueue_default.
            warm: the sweeps whose outcomes are taken over.
            origin: where the options were written, for messages.

        Raises:
            SettingsError: something does not fit, or is missing.
            SweepChanged: the space has changed.
            HsmError: the study cannot be opened.
        """
        check_study_space(options, space, origin)
        changed = recorded is not None and is_changed(
            recorded, options, space, origin, accept_changes=accept_changes
        )
        proposer, options, notes = make_proposer(
            options, space, paths, sweep_id, study_name, origin, is_new=earlier is None or changed
        )
        try:
            known = list(known_trials(warm, options))
            fitted = proposer.add_known(known)
            trials = cls(
                options,
                space,
                paths,
                proposer,
                default_point=default_point,
                added=added,
                warm=(fitted, len(known) - fitted),
                notes=notes,
            )
            for point in trials.first_points:
                proposer.check(point)
            if earlier is not None:
                take_over(trials, proposer, earlier, space, options, rerun)
        except BaseException:
            proposer.close()
            raise
        return trials
