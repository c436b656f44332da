"""A sweep whose points are proposed by what came of earlier ones: ``hydra/sweeper=hsm_optuna``.

    hydra.sweeper --> StudyOptions --.
    params, command line --> StudySpace --> Trials --+--> Session.optimise, whenever a job can start
                                                     `--> BatchedStudy, under another launcher

First all is checked that can be without Optuna, then the place for the jobs gets ready, and then
Optuna is imported: jobs that are forked do not have it in their memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from hsm.core.engine.asking import AskedJob
from hsm.core.errors import SettingsError
from hsm.core.local.study_run import RESULTS_FILE, judge_by
from hsm.core.logger import get_logger
from hsm.core.record.job import Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import find_sweep
from hsm.core.record.sweep import Sweep, read_sweep
from hsm.core.space.definition import parse_overrides
from hsm.core.study.options import StudyOptions
from hsm.hydra_app.app_config import plain_group
from hsm.hydra_app.app_points import ORIGIN
from hsm.hydra_app.dry_run import dry_run
from hsm.hydra_app.early_checks import options_of_group, points_to_compose
from hsm.hydra_app.override_values import point_texts
from hsm.hydra_app.refusals import launcher_errors
from hsm.hydra_app.study_batches import BatchedStudy
from hsm.hydra_app.study_nodes import function, made
from hsm.hydra_app.study_settings import study_options
from hsm.hydra_app.study_space import StudySpace

if TYPE_CHECKING:
    from hsm.core.record.resume import Resumption
    from hsm.core.study.trials import Trials
    from hsm.hydra_app.session import Session

log = get_logger(__name__)


class Optimising:
    """One sweep; see `hsm.hydra_app.sweeping.Sweeping`.

    Args:
        settings: what Hydra composed below hydra.sweeper.
        launcher: runs the jobs.
        context: as passed to the sweeper's `setup`.
        config: the sweep's.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        launcher: Launcher,
        context: HydraContext,
        config: DictConfig,
    ) -> None:
        self._settings, self._launcher = settings, launcher
        self._loader, self._config = context.config_loader, config
        session = getattr(launcher, "session", None)
        # Another launcher may call something else so. To import `Session` takes long.
        self._session: Session | None = session if hasattr(session, "optimise") else None

    def run(self, arguments: Sequence[str]) -> None:
        """Run the sweep.

        Args:
            arguments: the overrides of the command line.

        Raises:
            HydraException: an override is wrong, or a config does not compose.
            LauncherError: something else that hydra.sweeper says is wrong.
            SystemExit: no trial has succeeded, or too many have failed; or as the launcher does.
        """
        with launcher_errors():
            options = study_options(self._settings, self._config)
            self._space = StudySpace(self._settings, arguments, self._loader)
        self._compose_some(options)
        if self._settings.get("dry_run"):
            self._dry_run(options)
            return
        if self._session is None:
            self._run_in_batches(options)
        else:
            self._run(self._session, options)

    def _save_config(self) -> None:
        """Save the sweep's config, as Hydra's own sweeper does."""
        directory = Path(self._config.hydra.sweep.dir)
        directory.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self._config, directory / "multirun.yaml")

    # --- what is known before any job ---

    def _compose_some(self, options: StudyOptions) -> None:
        """Compose a point of each kind. Raises what Hydra, OmegaConf or a resolver raises."""
        with launcher_errors():
            selection = self._space.selection(options.repeat)
        first = self._space.first(options.repeat)
        groups = partial(options_of_group, self._loader, self._config)
        for point in points_to_compose(selection, first, groups):
            self._compose(self._space.overrides(point))

    def _overrides(self, job: AskedJob) -> list[str]:
        return self._space.overrides(job.point)

    def _added(self, resumption: Resumption) -> tuple[int, list[dict[str, Any]]]:
        """Of the points that were added to the sweep: how many have a job, and the others."""
        points = [
            self._space.searched(_plainly(point))
            for asked in resumption.added
            for point in parse_overrides(asked.overrides, config_loader=self._loader)
        ]
        jobs = [_plainly(job.params) for job in resumption.jobs.values()]
        new = [point for point in points if not any(point.items() <= job.items() for job in jobs)]
        return len(points) - len(new), new

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        return self._loader.load_sweep_config(self._config, list(overrides))

    def _open(self, options: StudyOptions, paths: SweepPaths, sweep_id: str, **more: Any) -> Trials:
        """Open the study. Imports what proposes its points. Raises HsmError."""
        from hsm.core.study.trials import Trials

        custom = options.custom_search_space
        if custom is not None:
            custom = partial(function(custom, "custom_search_space"), self._config)
        options = replace(
            options,
            sampler=made(options.sampler, "sampler"),
            pruner=made(options.pruner, "pruner"),
            storage=made(options.storage, "storage"),
            custom_search_space=custom,
        )
        return Trials.open(
            options,
            self._space.space,
            paths,
            sweep_id=sweep_id,
            study_name=str(self._config.hydra.job.name),
            default_point=self._default_point() if options.enqueue_default else None,
            warm=[_read(name) for name in options.warm_start],
            origin=ORIGIN,
            **more,
        )

    def _tell_notes(self, study: Trials) -> None:
        for note in study.notes:
            log.info("%s", note)
        if (taken := sum(study.warm)) > 0:
            log.info("warm start: %d of %d outcomes fit this study", study.warm[0], taken)

    def _default_point(self) -> dict[str, Any]:
        """The values that the app's own config has at the keys that are searched."""
        config = self._compose(self._space.fixed())
        choices = config.hydra.runtime.choices
        point: dict[str, Any] = {}
        for key in self._space.space.keys:
            group = plain_group(key)
            found = choices[group] if group in choices else OmegaConf.select(config, key)
            if found is not None and key not in self._space.space.fixed:
                point[key] = OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
        return point

    # --- how it runs ---

    def _run(self, session: Session, options: StudyOptions) -> None:
        """Have hsm run the jobs, each of which is asked for when it can start."""
        planned = options.n_trials * options.repeats
        session.get_ready(min(options.n_jobs or planned, planned))
        self._rehearse(options)
        source = session.source
        opened: list[Trials] = []
        earlier: dict[int, Job] = {}

        def begin(sweep_id: str, resumption: Resumption | None) -> Trials:
            if resumption is not None:
                earlier.update(resumption.jobs)
            opened.append(self._begin(session, options, sweep_id, resumption))
            return opened[0]

        def overrides(job: AskedJob) -> list[str]:
            return self._space.overrides(job.point, earlier.get(job.num))

        def enqueue(points: Sequence[Mapping[str, Any]]) -> None:
            opened[0].enqueue([self._space.searched(point) for point in points])

        try:
            with launcher_errors():
                session.optimise(begin, overrides, enqueue, self._space.fixed())
        finally:
            for study in opened:
                self._save(study, session.paths.sweep_dir)
                study.close()
        (study,) = opened
        has_pruned = any(job.state is JobState.PRUNED for job in source.jobs())
        if not self._is_good(study, source.why_stopped, has_pruned=has_pruned):
            session.end()  # Now: Hydra does not report the end of a multirun that is left so.
            raise SystemExit(1)

    def _begin(
        self,
        session: Session,
        options: StudyOptions,
        sweep_id: str,
        resumption: Resumption | None,
    ) -> Trials:
        """Open the study of a sweep whose directory is claimed, and have its jobs judged by it."""
        more: dict[str, Any] = {}
        again: list[dict[str, Any]] = []
        source = session.source
        if resumption is not None:
            added, again = self._added(resumption)
            more = {
                "earlier": resumption.jobs,
                "recorded": session.earlier_choice(),
                "rerun": resumption.of_study(),
                "accept_changes": source.conf.accept_changes,
                "added": added,
            }
        study = self._open(options, session.paths, sweep_id, **more)
        for point in again:
            try:
                study.enqueue([point])
            except SettingsError as error:  # The space has changed since.
                log.warning("not added again: %s", error)
        source.additions.again = False  # The study has them.
        judge_by(study, source, session.paths)
        self._save_config()
        self._tell_notes(study)
        return study

    def _rehearse(self, options: StudyOptions) -> None:
        """Open a study as it will be, without a file: so one that cannot be leaves no trace.

        Not of a class of the app's own, which may do anything when it is made.
        """
        if options.is_optuna:
            with launcher_errors():
                self._open(_in_memory(options), SweepPaths("."), "rehearsal").close()

    def _run_in_batches(self, options: StudyOptions) -> None:
        """Have another launcher run the jobs in batches."""
        paths = SweepPaths(str(self._config.hydra.sweep.dir))
        with launcher_errors():
            given = options if options.storage is not None else _in_memory(options)
            study = self._open(given, paths, str(self._config.hydra.job.name))
            self._save_config()
            self._tell_notes(study)
            batches = BatchedStudy(study, self._launcher, self._overrides)
            try:
                reason = batches.run()
            finally:
                self._save(study, paths.sweep_dir)
                study.close()
        if not self._is_good(study, reason):
            raise SystemExit(1)
        for best in study.best():
            values = ", ".join(f"{value:g}" for value in best.values)
            log.info("best: job %d (%s): %s", best.job, " ".join(point_texts(best.point)), values)

    def _is_good(self, study: Trials, why_stopped: str, *, has_pruned: bool = False) -> bool:
        """Whether the sweep has come to something, and was not stopped; says so if not."""
        if study.why_over:
            log.info("%s: no further trials", study.why_over)
        if why_stopped:
            log.error("%s", why_stopped)
        elif not (study.best() or has_pruned):
            log.error("no trial has succeeded")
        else:
            return True
        return False

    def _save(self, study: Trials, directory: Path) -> None:
        """Save the best trials so far, as hydra-optuna-sweeper does."""
        if study.best():
            OmegaConf.save(OmegaConf.create(study.optimization_results()), directory / RESULTS_FILE)

    def _dry_run(self, options: StudyOptions) -> None:
        """Compose and list the jobs that would start at once, and run none."""
        paths = SweepPaths(str(self._config.hydra.sweep.dir))
        with launcher_errors():
            study = self._open(_in_memory(options), paths, "dry-run")
            places = 1 if self._session is None else self._session.source.places
            most = min(options.n_jobs or places, study.planned)
            asked = [job for _ in range(most) if (job := study.ask()) is not None]
        jobs = [self._overrides(job) for job in asked]
        if dry_run(jobs, self._compose, study.planned - len(jobs)):
            raise SystemExit(1)


def _in_memory(options: StudyOptions) -> StudyOptions:
    """The options of a study of which nothing is kept."""
    if not options.is_optuna:
        return options
    from optuna.storages import InMemoryStorage

    return replace(options, storage=InMemoryStorage())


def _plainly(point: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters, their keys without a plus."""
    return {key.lstrip("+"): value for key, value in point.items()}


def _read(name: str) -> Sweep:
    """An earlier sweep, to learn from. Raises SettingsError, JournalError."""
    return read_sweep(find_sweep(name, origin=f"{ORIGIN}.warm_start").sweep_dir)
