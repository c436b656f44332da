"""A command line of `hsm sweep`.

hsm sweep 'seed=range(5)' --parallel-jobs 2 -- ./fit {seed}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hsm.cli._point_options import POINT_OPTIONS, study_keys
from hsm.cli._usual_words import UsualWords
from hsm.core.settings.resolve import SETTINGS


@dataclass
class SweepLine:
    """What a command line says; what it leaves out is as here.

    Attributes:
        overrides: the sweep in Hydra's syntax.
        zipped: groups of overrides whose values advance together, a text each.
        also: further grids, a text each.
        method, n_trials, seed, filter, shuffle, repeat, max_runs: how to choose from the points;
            each text of `repeat` has one key.
        study: how an optimiser is to choose, by the keys of `hsm.core.study.options.StudyOptions`:
            texts, and lists of texts.
        command: the words after ``--``; None without it.
        settings: by their names; None for those left out.
    """

    overrides: Sequence[str] = ()
    command: Sequence[str] | None = None
    script: str = ""
    args_style: str = ""
    config: str = ""
    mode: str = "local"
    sweep_id: str = ""
    sweep_dir: str = ""
    resume: str = ""
    zipped: Sequence[str] = ()
    also: Sequence[str] = ()
    method: str = ""
    n_trials: str = ""
    seed: str = ""
    filter: str = ""
    shuffle: bool | None = None
    repeat: Sequence[str] = ()
    max_runs: int | None = None
    study: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool = False
    count_only: bool = False
    detach: bool = False
    as_json: bool = False
    hsm_config: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


#: Options of the command itself that take a text, and the attributes that hold it.
_TEXTS = {
    "--script": "script",
    "--args-style": "args_style",
    "--config": "config",
    "--sweep-id": "sweep_id",
    "--sweep-dir": "sweep_dir",
    "--hsm-config": "hsm_config",
    **{
        each.option: each.keyword
        for each in POINT_OPTIONS
        if each.metavar and not each.repeats and not each.is_count
    },
}
#: The same for those that may be given several times.
_LISTS = {each.option: each.keyword for each in POINT_OPTIONS if each.repeats}


def read_sweep_line(words: Sequence[str]) -> SweepLine | None:
    """Read the words after `hsm sweep`; None if that takes typer."""
    command = None
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], list(words[at + 1 :])
    options = [name for name, setting in SETTINGS.items() if setting.is_option]
    read = UsualWords(_TEXTS, {"--shuffle": "shuffle"}, options, lists=_LISTS)
    if not read.read(words):
        return None
    study = study_keys(read.own)
    return SweepLine(read.arguments, command, **read.own, study=study, settings=read.settings)
