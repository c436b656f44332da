"""Opens the study of a sweep: a new one, or that of a sweep which is resumed.

StudyOptions, SearchSpace --> Proposer --> Trials <-- the jobs of the sweep's journal
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hsm.core.errors import SettingsError
from hsm.core.record.job import Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.record.resume import Rerun, SweepChanged, runs_again
from hsm.core.results.objective import JobOutput
from hsm.core.space import chance
from hsm.core.space.grammar import plain_key
from hsm.core.study.asked_trials import AskedJob, AskedTrials
from hsm.core.study.options import StudyOptions
from hsm.core.study.proposer import EarlierTrial, KnownTrial, Proposer
from hsm.core.study.search_space import SearchSpace
from hsm.core.study.trial_ends import RunningTrial, end_of, outcome_of

if TYPE_CHECKING:
    from hsm.core.record.sweep import Sweep


def check_study_space(options: StudyOptions, space: SearchSpace, origin: str) -> None:
    """Check that a study could be opened, before anything else begins.

    Raises:
        SettingsError: it could not.
    """
    taken = {plain_key(key) for key in space.keys}
    for key in options.repeat:
        if plain_key(key) in taken:
            message = f"{origin}: {key} is repeated and a parameter of the points as well"
            allowed = "a parameter that no point has"
            raise SettingsError("repeat", key, origin, allowed, message=message)
    if options.is_optuna:
        from hsm.core.study.optuna_check import check_optuna

        check_optuna(origin)
        has_custom = options.custom_search_space is not None
        for point in options.enqueue:
            space.check(space.aligned(point), origin, takes_more=has_custom)
        from hsm.core.study.optuna_study import check_parts

        check_parts(options, space, origin)
        return
    if space.dimensions:
        key = space.dimensions[0].name
        message = (
            f"{origin}: {options.method} chooses the values itself, so {key} can have only one"
        )
        raise SettingsError(key, space.dimensions[0].text, origin, "one value", message=message)


def make_proposer(
    options: StudyOptions,
    space: SearchSpace,
    paths: SweepPaths,
    sweep_id: str,
    study_name: str,
    origin: str,
    *,
    is_new: bool,
) -> tuple[Proposer, StudyOptions, Sequence[str]]:
    """What proposes the points, the options with the seed, and lines for people."""
    if not options.is_optuna:
        from hsm.core.study.foreign import make_foreign

        seed = chance.new_seed() if options.seed is None else options.seed
        foreign = make_foreign(options.method, space.fixed, origin)
        return foreign, options.with_seed(seed), space.notes
    from hsm.core.study.optuna_proposer import OptunaProposer
    from hsm.core.study.optuna_study import open_study

    opened = open_study(options, space, paths.study, study_name, origin, is_new=is_new)
    proposer = OptunaProposer(
        opened,
        space,
        sweep_id,
        custom=options.custom_search_space,
        constraints=[str(each) for each in options.constraints],
        origin=origin,
    )
    notes, most = list(opened.notes), opened.max_trials
    if most is not None and most < options.n_trials:
        notes.append(f"the space has {most} points: n_trials is {most}, not {options.n_trials}")
    return proposer, options.with_seed(opened.seed), notes


# --- a sweep that goes on ---


def is_changed(
    recorded: Mapping[str, Any],
    options: StudyOptions,
    space: SearchSpace,
    origin: str,
    *,
    accept_changes: bool,
) -> bool:
    """Whether the space is another one than on record.

    Raises:
        SettingsError: there is another number of repeats.
        SweepChanged: it is, and that was not accepted.
    """
    before, now = recorded.get("repeat") or {}, options.record().get("repeat") or {}
    if isinstance(before, Mapping) and [*map(len, before.values())] != [*map(len, now.values())]:
        message = f"{origin}: cannot resume with other repeats: each trial has {before or 'none'}"
        raise SettingsError("repeat", now, origin, "as it was", message=message)
    differences: list[str] = []
    for name in ("direction", "metric", "repeat"):
        one, other = recorded.get(name), options.record().get(name)
        if one != other:
            differences.append(f"{name}: {one} -> {other}")
    texts, earlier = space.texts(), recorded.get("space")
    if isinstance(earlier, Mapping):
        for key in dict.fromkeys([*earlier, *texts]):
            if earlier.get(key) != texts.get(key):
                one, other = earlier.get(key, "nothing"), texts.get(key, "nothing")
                differences.append(f"{key}: {one} -> {other}")
    if differences and not accept_changes:
        raise SweepChanged(differences)
    return bool(differences)


def take_over(
    trials: AskedTrials,
    proposer: Proposer,
    earlier: Mapping[int, Job],
    space: SearchSpace,
    options: StudyOptions,
    rerun: Rerun,
) -> None:
    """Bring the study up to the jobs that a resumed sweep has had, and `trials` likewise."""
    running: dict[int, RunningTrial] = {}
    jobs: list[AskedJob] = []
    for num, job in sorted(earlier.items()):
        index, number = divmod(num, options.repeats)
        point = space.aligned(job.params, options.repeat)
        jobs.append(AskedJob(num, point))
        bare = {key: value for key, value in point.items() if key not in options.repeat}
        trial = running.setdefault(index, RunningTrial(index, None, bare))
        trial.asked.add(number)
        if job.state.is_final and not runs_again(job, rerun):
            trial.outcomes[number] = trials.outcome(job)
    for trial in running.values():
        if len(trial.outcomes) == options.repeats:
            trial.end = end_of(trial, options)
    found = [
        EarlierTrial(
            trial.index,
            trial.point,
            trial.end,
            options.prunes_repeats and trial.asked <= trial.outcomes.keys(),
        )
        for trial in running.values()
    ]
    known = proposer.restore(found)
    for index in known.pruned:
        trial = running[index]
        trial.is_pruned = True
        trial.end = end_of(trial, options)
    trials.take_over(list(running.values()), jobs)
    trials.restored(known)
    if not isinstance(rerun, str):
        trials.stop_asking("only the jobs that were named run again")


# --- outcomes from elsewhere ---


def known_trials(sweeps: Sequence[Sweep], options: StudyOptions) -> Iterator[KnownTrial]:
    """The completed jobs of other sweeps that have an objective, or the metric."""
    for sweep in sweeps:
        for num in sorted(sweep.jobs):
            job = sweep.jobs[num]
            if job.state is JobState.COMPLETED:
                values = _values(job, sweep, options)
                if values is not None:
                    repeated = set(map(plain_key, options.repeat))
                    point = {k: v for k, v in job.params.items() if plain_key(k) not in repeated}
                    yield KnownTrial(point, values, f"{sweep.sweep_id}_{num}")


def _values(job: Job, sweep: Sweep, options: StudyOptions) -> tuple[float, ...] | None:
    ending = job.outcome
    assert ending is not None
    count = len(options.direction)
    outcome = outcome_of(job, count, None)
    if outcome.values is not None and options.metric is None:
        return outcome.values
    output = JobOutput(ending.whole("value"), job.job_dir, sweep.paths.sweep_dir)
    return output.objective(options.metric, count).values or outcome.values
