"""Supplying jobs with what they need not compose, whatever the sweeper does.

A sweeper that validates its points composes each in the launcher: its job gets that config. So the
launcher learns the bases, too, before it starts the server that forks the jobs. For other sweepers,
and for later batches, which the server that is running knows nothing of, this learns and sends what
enough jobs will use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from functools import cache

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from hsm.core.logger import get_logger
from hsm.hydra_app.kept_overrides import overrides_of_hydra
from hsm.hydra_app.remembered_bases import NOTHING, RememberingLoader, Supplied, noting_keys

log = get_logger(__name__)

#: Learning a base takes two compositions before the first job. This many jobs with the same choices
#: save more than that, and a batch's first job waits for no more than this many bases.
_MIN_JOBS = 8
_MAX_BASES = 8
#: Of choices to count and of bases to keep packed: a sweep over groups may have any number.
_MAX_COUNTED, _MAX_PACKED = 10_000, 500

#: The overrides of a job that have a part in its choices of groups.
_Choices = tuple[str, ...]


class BaseSupply:
    """Packs configs for a sweep's jobs, and learns and packs bases that their server does not have.

    Not thread-safe.

    Args:
        loader: composes the sweep's configs.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader if isinstance(loader, RememberingLoader) else None
        self._jobs: Counter[_Choices] = Counter()
        self._packed: dict[_Choices, bytes | None] = {}
        self._at_start: frozenset[Hashable] | None = None  # what the server will know

    def of(self, job_overrides: Sequence[Sequence[str]], config: DictConfig) -> list[Supplied]:
        """Return what each job of a batch is to take along.

        Args:
            job_overrides: the overrides of each job.
            config: the sweep's.
        """
        if self._loader is None:
            return [NOTHING] * len(job_overrides)
        configs = self._loader.validated.take(overrides_of_hydra(config), job_overrides)
        if len(self._jobs) > _MAX_COUNTED or len(self._packed) > _MAX_PACKED:
            self._jobs.clear()
            self._packed.clear()
        all_choices = _choices(self._loader, job_overrides)
        self._jobs.update(all_choices)
        example = dict(zip(all_choices, job_overrides, strict=True))
        for choices, _ in Counter(all_choices).most_common(_MAX_BASES):
            if self._jobs[choices] >= _MIN_JOBS and choices not in self._packed:
                self._packed[choices] = self._pack(self._loader, example[choices], config)
        if self._at_start is None:
            self._at_start = self._loader.bases.known()
        return [
            Supplied(own, None if own is not None else self._packed.get(choices))
            for own, choices in zip(configs, all_choices, strict=True)
        ]

    def _pack(
        self, loader: RememberingLoader, overrides: Sequence[str], config: DictConfig
    ) -> bytes | None:
        try:
            with noting_keys() as noted:
                # A base is what two compositions have given; the third is made from it.
                while len(noted) < 3 and (not noted or loader.lacks(noted[-1])):
                    loader.load_sweep_config(config, list(overrides))
        except Exception as error:  # the job will report it
            log.debug("no base for %s: %s", overrides, error)
            return None
        is_for_later = self._at_start is not None and noted[-1] not in self._at_start
        return loader.bases.pack(noted[-1]) if is_for_later else None


def _choices(loader: RememberingLoader, job_overrides: Sequence[Sequence[str]]) -> list[_Choices]:
    """Return those overrides of each job that have a part in its choices."""

    @cache
    def is_choice(name: str) -> bool:
        # With another search path, other names may be groups; then all are taken for values.
        return name == "hydra.searchpath" or loader.repository.group_exists(name)

    return [
        tuple(text for text in overrides if is_choice(_name(text))) for overrides in job_overrides
    ]


def _name(override: str) -> str:
    """Return the key or group of an override, such as "db" of ``+db@backup=mysql``."""
    return override.partition("=")[0].partition("@")[0].lstrip("+~")
