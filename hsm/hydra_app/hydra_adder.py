"""The jobs that `hsm add` asks a Hydra sweep for: as `-m` would make them, with what all share.

jobs: ["model=svm", "lr=0.1"], ["model=svm", "lr=0.2"]
lr=0.3,0.5 --complete--> ["model=svm", "lr=0.3,0.5"] --points--> ["model=svm", "lr=0.3"], …
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from itertools import chain, product

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from hsm.core.engine.adding import Point, check_count
from hsm.core.engine.ledger import JobHandle
from hsm.core.errors import HsmError, SettingsError
from hsm.core.record.controls import Add
from hsm.core.space.definition import parse_overrides
from hsm.core.space.grammar import plain_key
from hsm.hydra_app.specs import JobSpecs

#: Points whose configs are composed to see that they can be: the first, and some in between.
_MOST_COMPOSED = 500
_OF_HYDRA = re.compile(r"[+~]*hydra[./@]")


class HydraAdder:
    """Adds jobs to a Hydra sweep; see `hsm.core.engine.adding.Adder`.

    Args:
        loader: composes configs.
        config: the sweep's config, as the sweeper has it now.
        specs: tells what a job's parameters are.
        submit: submits jobs with these overrides; calls the other argument as `Adder` says.
        shared: the overrides that all jobs have, also those to come; None if all have come.
    """

    def __init__(
        self,
        loader: ConfigLoader,
        config: Callable[[], DictConfig],
        specs: JobSpecs,
        submit: Callable[[Sequence[Sequence[str]], Callable[[], None]], list[str]],
        shared: Collection[str] | None = None,
    ) -> None:
        self._loader = loader
        self._config = config
        self._specs = specs
        self._submit = submit
        self._shared = shared

    def complete(self, asked: Add, handles: Sequence[JobHandle]) -> tuple[Add, str]:
        given = {_key(text): text for text in asked.overrides}
        own = [handle.argument.overrides for handle in handles]
        shared = set(own[0]).intersection(*own[1:]) if own else set()
        if self._shared is not None:
            shared &= set(self._shared)
        # In the order in which the first job has them.
        texts = [given.pop(_key(text), text if text in shared else "") for text in chain(*own[:1])]
        kept = [text for text in texts if text in shared and text not in asked.overrides]
        return Add((*filter(None, texts), *given.values()), {}), " ".join(kept)

    def points(self, asked: Add) -> list[Point]:
        for text in asked.overrides:
            if _OF_HYDRA.match(text):
                key = text.partition("=")[0]
                allowed = "parameters of the app"
                message = f"command line: {key} is Hydra's own: only {allowed} can be added"
                raise SettingsError(key, text, "command line", allowed, message=message)
        check_count(parse_overrides(asked.overrides, config_loader=self._loader))
        parser = OverridesParser.create(config_loader=self._loader)
        values = []
        for override in parser.parse_overrides(list(asked.overrides)):
            key = override.get_key_element()
            texts = (
                override.sweep_string_iterator()
                if override.is_sweep_override()
                else [override.get_value_element_as_str()]
            )
            values.append([f"{key}={text}" for text in texts])
        points = [list(point) for point in product(*values)]
        self._check(points)
        params = self._specs.params_of(points)
        return [Point(*each) for each in zip(params, points, strict=True)]

    def submit(self, points: Sequence[Point], begin: Callable[[], None]) -> list[str]:
        return self._submit([point.given for point in points], begin)

    def _check(self, points: Sequence[list[str]]) -> None:
        """Compose configs, as Hydra's sweeper does before it launches. Raises HsmError."""
        for overrides in points[:: max(1, len(points) // _MOST_COMPOSED)]:
            try:
                self._loader.load_sweep_config(self._config(), list(overrides))
            except Exception as error:  # Hydra's, OmegaConf's, or a resolver's of the app
                reason = " ".join(str(error).split())
                raise HsmError(f"{' '.join(overrides)}: {reason}") from error


def _key(override: str) -> str:
    """The key of an override, which another one of the same key replaces."""
    return plain_key(override.partition("=")[0]).lstrip("~")
