"""Runs a study on a source: `hsm sweep --method optuna` and `LocalManager.optimize`.

StudyOptions, SearchSpace --Trials.open--> Trials --ask_jobs--> jobs --best--> what came of it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hsm.core.engine.adding import given_points
from hsm.core.engine.begun_late import BegunLate
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.errors import SettingsError
from hsm.core.files import replace_below
from hsm.core.program.program import Program
from hsm.core.record.earlier_choice import earlier_choice
from hsm.core.record.job import JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import find_sweep
from hsm.core.record.resume import Resumption
from hsm.core.record.sweep import Sweep, read_sweep
from hsm.core.settings.resolve import SweepConf
from hsm.core.space.choosing import Choosing, Method
from hsm.core.space.python_points import read_space
from hsm.core.space.selection import Selection
from hsm.core.study.option_values import PruneMode
from hsm.core.study.options import StudyOptions, check_study
from hsm.core.study.search_space import SearchSpace

if TYPE_CHECKING:
    from hsm.core.study.trials import Trials

#: The file in a sweep's directory that tells of the best trials, as hydra-optuna-sweeper writes it.
RESULTS_FILE = "optimization_results.yaml"


@dataclass(frozen=True)
class StudyPlan:
    """A study that is to run.

    Attributes:
        options: what was said of it.
        space: what is searched.
        origin: where both were written, for messages.
        roots: directories with sweeps, where `warm_start` is looked for.
    """

    options: StudyOptions
    space: SearchSpace
    origin: str
    roots: Sequence[str] = ()

    @property
    def keys(self) -> list[str]:
        """The parameters that all jobs have."""
        return [*self.space.keys, *self.options.repeat]

    @property
    def knows_keys(self) -> bool:
        """Whether jobs have no other parameters, which only what proposes the points knows."""
        return self.options.is_optuna and self.options.custom_search_space is None

    @property
    def goal(self) -> dict[str, Any]:
        """The settings that say by what jobs are ranked; of several objectives, by none."""
        metric, direction = self.options.metric, self.options.direction
        if len(direction) > 1:
            return {"metric": None, "direction": None}
        return {"metric": metric[0] if metric else None, "direction": direction[0]}

    def check(self) -> None:
        """Check that the study can be opened. Imports Optuna, if that proposes the points.

        Raises:
            SettingsError: something does not fit, or is missing.
        """
        from hsm.core.study.opening import check_study_space

        self._warm_paths()
        if self.options.enqueue_default:
            why = "enqueue_default is for Hydra apps: of others nobody knows the values"
            message = f"{self.origin}: {why}"
            raise SettingsError(
                "enqueue_default", value=True, origin=self.origin, allowed="false", message=message
            )
        check_study_space(self._with_function(), self.space, self.origin)

    def open(
        self,
        paths: SweepPaths,
        sweep_id: str,
        program: Program,
        resumption: Resumption | None,
        *,
        accept_changes: bool = False,
    ) -> Trials:
        """Open the study. Imports Optuna, if that proposes the points.

        Args:
            paths: the sweep's.
            sweep_id: the sweep's id.
            program: what its jobs run.
            resumption: knows the jobs so far; None for a new sweep.
            accept_changes: whether it goes on in a space that has changed.

        Raises:
            SettingsError: something does not fit, or is missing.
            SweepChanged: the space has changed.
        """
        from hsm.core.study.trials import Trials  # slow to import

        recorded = None
        if resumption is not None:
            recorded = earlier_choice(paths)
            check_goes_on(self.options, recorded, sweep_id)
        done, left = _added(resumption)
        trials = Trials.open(
            self._with_function(),
            self.space,
            paths,
            sweep_id=sweep_id,
            study_name=program.name,
            earlier=None if resumption is None else resumption.jobs,
            recorded=recorded,
            rerun="unfinished" if resumption is None else resumption.of_study(),
            accept_changes=accept_changes,
            added=done,
            warm=self._warm(),
            origin=self.origin,
        )
        if left:
            trials.enqueue(left)
        return trials

    def _with_function(self) -> StudyOptions:
        """The options, with the function that `custom_search_space` names."""
        from hsm.core.study.importing import import_path

        function = path = self.options.custom_search_space
        if isinstance(path, str):
            try:
                function = import_path(path)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                message = f"{self.origin}: cannot import custom_search_space {path}: {reason}"
                raise SettingsError(
                    "custom_search_space", path, self.origin, "a function", message=message
                ) from error
        if function is not None and not callable(function):
            raise SettingsError("custom_search_space", path, self.origin, "a function")
        return replace(self.options, custom_search_space=function)

    def _warm(self) -> list[Sweep]:
        """The sweeps whose outcomes are taken over. Raises HsmError: one is not there."""
        return [read_sweep(paths.sweep_dir) for paths in self._warm_paths()]

    def _warm_paths(self) -> list[SweepPaths]:
        return [
            find_sweep(name, origin="warm_start", roots=self.roots)
            for name in self.options.warm_start
        ]


def _added(resumption: Resumption | None) -> tuple[int, list[dict[str, Any]]]:
    """How many points that were added to a study have jobs, and those that have none yet."""
    if resumption is None:
        return 0, []
    jobs = resumption.jobs.values()
    points = [point for asked in resumption.added for point in given_points(asked)]
    left = [each for each in points if not any(_has(job.params, each) for job in jobs)]
    return len(points) - len(left), left


def _has(params: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    return all(key in params and params[key] == value for key, value in part.items())


def plan_study(
    space: Mapping[str, Any], given: Mapping[str, Any], conf: SweepConf, caller: str
) -> StudyPlan:
    """The study that a caller in Python asks for.

    Args:
        space: the values of each parameter.
        given: what is said of the study, by the keys of `StudyOptions`.
        conf: the settings; metric and direction hold if they are not given.
        caller: the function that got these, for messages.

    Raises:
        SettingsError: something is not valid.
    """
    unless = {"metric": conf.metric, "direction": conf.direction}
    known = {name: value for name, value in unless.items() if value is not None}
    origins = {name: f"argument {name}" for name in given}
    options = check_study({**known, **given}, {**dict.fromkeys(known, "settings"), **origins})
    definition = read_space(space, caller)
    found = SearchSpace.of(definition, caller)
    Selection(definition, Choosing(Method.random, 1, 0, repeat=options.repeat), origin=caller)
    return StudyPlan(options, found, caller)


def check_goes_on(options: StudyOptions, recorded: Mapping[str, Any], sweep_id: str) -> None:
    """Refuse to go on with a sweep by another method than it had. Raises SettingsError."""
    before = str(recorded.get("method") or "grid")
    if before != options.method:
        message = (
            f"cannot resume {sweep_id} with method={options.method}: its points were chosen with "
            f"method={before}"
        )
        raise SettingsError("method", options.method, "method", before, message=message)


def judge_by(trials: Trials, source: SweepSource, paths: SweepPaths) -> None:
    """Have a study judge the jobs of a sweep that is about to begin, and the record name it."""
    source.note(paths, chosen=trials.record(), planned=trials.planned)
    source.scoring = trials.score
    if trials.options.pruner is not None:
        source.pruning = trials.measured
        source.prune_mode = "stop" if trials.options.prune is PruneMode.stop else "ask"


class StudyRun:
    """One run of a study; as a context manager it closes it.

    Args:
        plan: the study.
        source: runs the jobs.
        program: what they run.
        paths, sweep_id: the sweep's.

    Attributes:
        trials: the trials, once the study is open.
    """

    def __init__(
        self,
        plan: StudyPlan,
        source: SweepSource,
        program: Program,
        paths: SweepPaths,
        sweep_id: str,
    ) -> None:
        self._plan, self._source, self._program = plan, source, program
        self._paths, self._sweep_id = paths, sweep_id
        self.trials: Trials | None = None
        self._is_closed = False

    def jobs(self, *, resume: bool | None = None) -> BegunLate:
        """The jobs, for `hsm.core.engine.foreground.run_to_end`. Raises SettingsError."""
        return self._source.ask_jobs(
            self._open,
            self._sweep_id,
            self._paths.sweep_dir,
            self._program,
            check=self._plan.check,
            n_jobs=self._plan.options.n_jobs,
            resume=resume,
        )

    def _open(self, resumption: Resumption | None) -> Trials:
        source = self._source
        trials = self.trials = self._plan.open(
            self._paths,
            self._sweep_id if resumption is None else resumption.sweep_id,
            self._program,
            resumption,
            accept_changes=source.conf.accept_changes,
        )
        judge_by(trials, source, self._paths)
        if self._plan.options.seed is None:
            source.tell(f"seed {trials.options.seed}")
        for note in trials.notes:
            source.tell(note)
        return trials

    @property
    def has_succeeded(self) -> bool:
        """Whether some trial has completed or was pruned, and nothing has stopped the others."""
        if self.trials is None or self._source.is_stopped:
            return False
        if self.trials.best():
            return True
        return any(job.state is JobState.PRUNED for job in self._source.jobs())

    def finish(self) -> None:
        """The sweep has ended: write what came of it, and say why it did."""
        if self.trials is None:
            return
        if self.trials.why_over:
            self._source.tell(f"no further trials: {self.trials.why_over}")
        if self._source.interruption is None and self._source.why_stopped:
            self._source.tell(self._source.why_stopped)
        import yaml  # slow to import

        text = yaml.safe_dump(self.trials.optimization_results(), sort_keys=False)
        with suppress(OSError):  # The journal has it all.
            place = self._paths.sweep_dir / RESULTS_FILE
            replace_below(self._paths.sweep_dir, place, text.encode())

    def close(self) -> None:
        """Close the study, whatever became of the sweep. Idempotent."""
        if self.trials is not None and not self._is_closed:
            self._is_closed = True
            self.trials.close()

    def __enter__(self) -> StudyRun:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
