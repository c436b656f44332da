"""A sweep under ``hydra/sweeper=hsm``: which points run, and how they get to the launcher.

hydra.sweeper, command line --AppPoints, Selection--> points --+--> Session.run, one at a time
                                                               `--> launch, in batches
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from hsm.core.logger import get_logger
from hsm.core.record.earlier_choice import chosen_seed
from hsm.core.space.axes import Listed, Zipped
from hsm.core.space.choosing import KEYS, Method, check_choosing
from hsm.core.space.domains import drawn_column
from hsm.core.space.selection import Selection
from hsm.hydra_app.app_points import ORIGIN, AppPoints, plain
from hsm.hydra_app.dry_run import dry_run
from hsm.hydra_app.early_checks import options_of_group, points_to_compose
from hsm.hydra_app.override_values import drawn_values_of, override_text, point_texts, values_of
from hsm.hydra_app.refusals import launcher_errors
from hsm.hydra_app.study_settings import check_no_study

if TYPE_CHECKING:
    from hsm.hydra_app.session import Session

log = get_logger(__name__)


class Sweeping:
    """One sweep.

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
        self._session: Session | None = session if hasattr(session, "earlier_choice") else None
        self._batch_size: int | None = settings.get("max_batch_size")

    def run(self, arguments: Sequence[str]) -> list[Sequence[JobReturn]]:
        """Run the sweep; returns the JobReturns in batches, as Hydra's own sweeper does.

        Args:
            arguments: the overrides of the command line.

        Raises:
            HydraException: an override is wrong, or a config does not compose.
            LauncherError: something else that hydra.sweeper says is wrong.
            Exception: the first that a job raised.
            SystemExit: a job's config does not compose, under `dry_run`; or as the launcher does.
        """
        with launcher_errors():
            selection = self._select(arguments)
        assert self._batch_size is None or self._batch_size > 0  # as Hydra's own sweeper has it
        if self._settings.get("dry_run"):
            return self._dry_run(selection)
        # Hydra's own sweeper saves it, too.
        directory = Path(self._config.hydra.sweep.dir)
        directory.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self._config, directory / "multirun.yaml")
        if self._session is None:
            return self._launch(selection)
        return self._run(self._session, selection)

    # --- which points ---

    def _select(self, arguments: Sequence[str]) -> Selection:
        """Choose the points; tells of a seed that nobody gave. Raises what `select` does."""
        selection = select(self._settings, arguments, self._loader, lambda: self._recorded_seed)
        if (seed := selection.seed) is not None and self._settings.get("seed") is None:
            again = f" ({ORIGIN}.seed={seed} gives these points again)"
            log.info("seed %d%s", seed, ", as before" if seed == self._recorded_seed else again)
        return selection

    @cached_property
    def _recorded_seed(self) -> int | None:
        """The seed of an earlier launch, if the sweep is resumed and there is one."""
        chosen = {} if self._session is None else self._session.earlier_choice()
        return chosen_seed(chosen)

    def _compose(self, overrides: Sequence[str]) -> None:
        """Compose a job's config. Raises what Hydra, OmegaConf or a resolver raises."""
        self._loader.load_sweep_config(self._config, list(overrides))

    # --- how they run ---

    def _run(self, session: Session, selection: Selection) -> list[Sequence[JobReturn]]:
        """Have hsm run the points one by one."""
        points = iter(selection)
        first = next(points, None)
        if first is None:
            return self._in_batches([])
        options = partial(options_of_group, self._loader, self._config)
        for point in points_to_compose(selection, first, options):
            self._compose(point_texts(point))
        if self._batch_size is not None:
            log.info("%s.max_batch_size has no effect: hsm waits for no batch", ORIGIN)
        texts = _texts(itertools.chain([first], points))
        chosen = selection.choosing.record()
        with launcher_errors():
            returns = session.run(texts, selection.count(), chosen, _shared(selection))
        for each in returns:
            _ = each.return_value  # Raises what the job raised.
        return self._in_batches(returns)

    def _launch(self, selection: Selection) -> list[Sequence[JobReturn]]:
        """Have another launcher run the points in batches, as Hydra's own sweeper does."""
        if not selection.choosing.is_default or any(map(self._settings.get, ("zip", "points"))):
            log.info(
                "%s takes points in batches: each is composed before its first job, and waits "
                "for its slowest; hydra/launcher=hsm_local takes them one by one",
                type(self._launcher).__name__,
            )
        points = _texts(selection)
        batches: list[Sequence[JobReturn]] = []
        num = 0
        while True:
            batch = list(itertools.islice(points, self._batch_size))
            if not batch and (batches or self._batch_size is not None):
                return batches
            for overrides in batch:
                self._compose(overrides)
            returns = self._launcher.launch(batch, initial_job_idx=num)
            for each in returns:
                _ = each.return_value  # Raises what the job raised.
            num += len(batch)
            batches.append(returns)

    def _in_batches(self, returns: Sequence[JobReturn]) -> list[Sequence[JobReturn]]:
        size = self._batch_size
        if size is None:
            return [returns]
        return [returns[at : at + size] for at in range(0, len(returns), size)]

    def _dry_run(self, selection: Selection) -> list[Sequence[JobReturn]]:
        """Compose and list all jobs, and run none."""
        if dry_run(_texts(selection), self._compose):
            raise SystemExit(1)
        return []


def select(
    settings: Mapping[str, Any],
    arguments: Sequence[str],
    loader: ConfigLoader,
    recorded_seed: Callable[[], int | None] = lambda: None,
) -> Selection:
    """Choose points.

    Args:
        settings: what is below hydra.sweeper.
        arguments: the overrides of the command line.
        loader: looks up config groups.
        recorded_seed: the seed to go on from, if none is given.

    Raises:
        HydraException, SettingsError: an override, or something else, is wrong.
    """
    check_no_study(settings)
    given = {key: plain(settings.get(key)) for key in KEYS}
    given = {key: value for key, value in given.items() if value not in (None, "")}
    choosing = check_choosing(given, {key: f"{ORIGIN}.{key}" for key in KEYS})
    points = AppPoints(settings.get("params"), settings.get("zip"), settings.get("points"))
    reads = values_of if choosing.method is Method.grid else drawn_values_of
    definition = points.definition(arguments, loader, reads)
    if choosing.is_random and choosing.seed is None:
        choosing = choosing.with_seed(recorded_seed())
    return Selection(definition, choosing, origin=ORIGIN)


def _texts(points: Iterable[Mapping[str, Any]]) -> Iterator[list[str]]:
    """The overrides of each job."""
    with launcher_errors():
        for point in points:
            yield point_texts(point)


def _shared(selection: Selection) -> frozenset[str]:
    """The overrides that all jobs have."""
    repeated = [Zipped({key: Listed(values)}) for key, values in selection.choosing.repeat.items()]
    of_blocks = [
        {
            override_text(key, value)
            for axis in (*block, *repeated)
            if axis.count == 1 and drawn_column(axis) is None
            for key, value in axis.point(0).items()
        }
        for block in selection.definition.blocks
    ]
    return frozenset(of_blocks[0].intersection(*of_blocks[1:])) if of_blocks else frozenset()
