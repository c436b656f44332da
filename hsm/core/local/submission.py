"""From what a caller submits to the jobs of a sweep, and to what its journal is told of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hsm.core.errors import SettingsError
from hsm.core.journal import Journal
from hsm.core.local.ledger import JobHandle
from hsm.core.paths import SweepPaths
from hsm.core.resume import Match
from hsm.core.scripts import Program


@dataclass(frozen=True)
class JobSpec:
    """A job to submit, for callers that number and describe their jobs themselves.

    Attributes:
        num: its number in the sweep.
        params: its parameters, for the record; JSON must hold them.
        label: one line that tells it from the others.
        argument: what its function is called with; picklable.
        makes_own_dir: its own process makes its directory, and reports which one.
        command: what it execs, word by word; None if it calls a function.
        earlier: what it was in the sweep that is resumed, if there was one.
    """

    num: int
    params: Mapping[str, Any]
    label: str
    argument: Any
    makes_own_dir: bool = False
    command: tuple[str, ...] | None = None
    earlier: Match | None = None


def make_specs(
    combinations: Sequence[Mapping[str, Any]],
    matches: Sequence[Match | None],
    first: int,
    program: Program,
    paths: SweepPaths,
) -> list[JobSpec]:
    """One spec per parameter combination; those that `matches` does not number count from `first`."""
    specs = []
    for index, (params, match) in enumerate(zip(combinations, matches, strict=True)):
        num = first + index if match is None else match.num
        words = program.command_for(params, paths.job_dir(num))
        specs.append(JobSpec(num, params, label_of(params), params, command=words, earlier=match))
    return specs


def record(journal: Journal, specs: Sequence[JobSpec], handles: Sequence[JobHandle]) -> None:
    """Write into the journal which jobs are new, and which of an earlier life run again."""
    if any(spec.earlier is not None for spec in specs):
        journal.resume(
            handle.job
            for spec, handle in zip(specs, handles, strict=True)
            if spec.earlier is not None and spec.earlier.job is not None and not handle.is_over
        )
    journal.submit(
        handle.job
        for spec, handle in zip(specs, handles, strict=True)
        if spec.earlier is None or spec.earlier.job is None
    )


def plain(value: Any) -> Any:
    """A setting's value as JSON can hold it."""
    return value.value if isinstance(value, Enum) else value


def label_of(params: Mapping[str, Any]) -> str:
    """One line for a job with these parameters: ``lr=0.1 model=svm``."""
    return " ".join(f"{key}={value}" for key, value in params.items())


def check_params(index: int, params: Mapping[str, Any]) -> None:
    """Raises SettingsError for parameters that a journal cannot hold."""
    try:
        json.dumps(params)
    except (TypeError, ValueError) as error:
        origin = f"submit_jobs, combination {index}"
        raise SettingsError(
            "param_combinations", params, origin, f"values that JSON can hold ({error})"
        ) from error
