"""From a job's overrides to its JobSpec: number, parameters, argument and directory.

["lr=0.1", "hydra.sweep.dir=x"] --JobSpecs.of--> JobSpec(3, {"lr": 0.1}, …)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import filter_overrides
from omegaconf import DictConfig, OmegaConf

from hsm.core.engine.ledger import JobDir
from hsm.core.engine.submission import JobSpec, number
from hsm.core.logger import get_logger
from hsm.core.plain_json import json_value
from hsm.core.record.paths import SweepPaths
from hsm.core.record.resume import Resumption
from hsm.core.space.axes import Listed
from hsm.core.space.plain_override import read_plain_override
from hsm.hydra_app.hydra_job import JobArgument
from hsm.hydra_app.kept_overrides import KeptOverridesParser, overrides_of_hydra
from hsm.hydra_app.remembered_bases import Supplied

log = get_logger(__name__)

#: Distinct overrides whose values are remembered.
_MAX_KNOWN = 10_000


class JobSpecs:
    """Makes specs from overrides and keeps track of the job numbers that are taken.

    Args:
        paths: the paths of the sweep's record.
    """

    def __init__(self, paths: SweepPaths) -> None:
        self._paths = paths
        self._values = _OverrideValues()
        self._used: set[int] = set()
        self._next_num = 0

    def of(
        self,
        job_overrides: Sequence[Sequence[str]],
        asked: int | Sequence[int] | None,
        config: DictConfig,
        sweep_id: str,
        resumption: Resumption | None,
        supplied: Sequence[Supplied],
    ) -> list[JobSpec]:
        """Make a spec for each job.

        Args:
            job_overrides: the overrides of each job.
            asked: the number that the sweeper wants for the first job, if any. If any of the
                numbers from it is taken, the jobs get the next free numbers instead. Or the number
                of each job, by which it is then known when the sweep is resumed.
            config: the sweep's config as the sweeper has it now.
            sweep_id: the sweep's id.
            resumption: the earlier jobs, if the sweep is resumed.
            supplied: what each job need not compose.
        """
        hydra = config.hydra
        # Jobs' configs start from these, and a sweeper may have changed them since the last batch.
        of_hydra = overrides_of_hydra(config)
        sweep = OmegaConf.to_container(hydra.sweep, resolve=False)
        subdir = str(sweep.get("subdir")) if isinstance(sweep, dict) else ""
        directory = Path(str(hydra.sweep.dir)).absolute()
        is_moved = directory != self._paths.sweep_dir
        if is_moved:
            directory.mkdir(parents=True, exist_ok=True)  # Hydra's own launcher does this, too
        shown = [filter_overrides(overrides) for overrides in job_overrides]
        points = [self._values.of(words) for words in shown]
        if isinstance(asked, Sequence):
            match = None if resumption is None else resumption.match_number
            numbers = [(num, None if match is None else match(num)) for num in asked]
        else:
            numbers = number(points, self._first(asked, len(points)), resumption)
        return [
            JobSpec(
                num,
                params,
                " ".join(words),
                JobArgument(num, f"{sweep_id}_{num}", list(overrides), of_hydra, its),
                makes_own_dir=True,
                directory=_directory(subdir, overrides, is_moved=is_moved),
                earlier=earlier,
            )
            for overrides, words, params, (num, earlier), its in zip(
                job_overrides, shown, points, numbers, supplied, strict=True
            )
        ]

    def _first(self, asked: int | None, count: int) -> int:
        """The first of `count` numbers that are free, from `asked` on if these are."""
        if asked is None or asked < 0:
            return self._next_num
        return asked if self._used.isdisjoint(range(asked, asked + count)) else self._next_num

    def params_of(self, job_overrides: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """The parameters of jobs with these overrides, for the journal."""
        return [self._values.of(filter_overrides(overrides)) for overrides in job_overrides]

    def reserve(self, count: int) -> None:
        """Keep the first `count` numbers for jobs for which they will be asked."""
        self._next_num = max(self._next_num, count)

    def take(self, specs: Sequence[JobSpec]) -> None:
        """Mark the numbers of these jobs, which were submitted, as taken."""
        self._used.update(spec.num for spec in specs)
        self._next_num = max([self._next_num, *(spec.num + 1 for spec in specs)])


class _OverrideValues:
    """Parses overrides into parameters. Thread-safe.

    Hydra's parser is slow. Most overrides need none; of the others, a sweep has few distinct ones,
    and each is parsed once.
    """

    def __init__(self) -> None:
        # A sweeper that validates its points has had most of them parsed.
        self._parser = KeptOverridesParser.create()
        self._known: dict[str, tuple[str, Any]] = {}

    def of(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the parameters of a job with these overrides, as values that JSON can hold."""
        return dict(self._read(text) for text in overrides)

    def _read(self, text: str) -> tuple[str, Any]:
        key, values = read_plain_override(text) or ("", None)
        # A call, such as range(1), is no value; the parser will see that it sweeps over some.
        if isinstance(values, Listed) and len(values.items) == 1 and not text.endswith(")"):
            return key.lstrip("+"), values.items[0]
        return self._parse(text)

    def _parse(self, text: str) -> tuple[str, Any]:
        found = self._known.get(text)
        if found is None:
            if len(self._known) > _MAX_KNOWN:
                self._known.clear()
            found = self._known[text] = self._parsed(text)
        return found

    def _parsed(self, text: str) -> tuple[str, Any]:
        key, _, value = text.partition("=")
        parsed: Any = value
        try:
            override = self._parser.parse_override(text)
            # Keep the tilde: `~x`, which deletes x, is not the same as `x=null`.
            key, parsed = override.get_key_element().lstrip("+"), override.value()
        except Exception:
            log.debug("recorded as text: %s", text)  # its job will report what is wrong with it
        plain = json_value(parsed)
        return key, plain if plain is not None or parsed is None else value


def _directory(subdir: str, overrides: Sequence[str], *, is_moved: bool) -> JobDir:
    """Classify the job's directory as far as possible before its config is composed.

    Args:
        subdir: hydra.sweep.subdir.
        overrides: the job's overrides.
        is_moved: whether hydra.sweep.dir differs from the record's directory.
    """
    if any("hydra.sweep." in text for text in overrides):
        return JobDir.SHARED
    if subdir == "${hydra.job.num}" and not is_moved:
        return JobDir.USUAL
    return JobDir.OWN if re.search(r"\$\{hydra\.job\.(num|id)\}", subdir) else JobDir.SHARED
