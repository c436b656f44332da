"""What the jobs of a Hydra sweep run, for its record: the app's function, code and config."""

from __future__ import annotations

import inspect
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.types import TaskFunction
from omegaconf import DictConfig

from hsm.core.program.program import Program


def program_record(task_function: TaskFunction, config: DictConfig) -> dict[str, Any]:
    """Return the record's description of what the jobs run."""
    record = Program(function=task_function).record()
    return {**record, "config": f"the config {config.hydra.job.config_name}"}


def code_files(task_function: TaskFunction) -> dict[str, str]:
    """Return the texts of the script and of the app's module, by name."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    # A console script that started the app does not contain the app's code.
    code = getattr(inspect.unwrap(task_function), "__code__", None)
    module = code.co_filename if code is not None else None
    names = {} if script is None else {Path(script).name: script}
    if module is not None and (script is None or not _is_same_file(module, script)):
        names[os.path.abspath(module)] = module
    files = {}
    for name, path in names.items():
        with suppress(OSError, UnicodeDecodeError):
            files[name] = Path(path).read_text(encoding="utf-8")
    return files


def _is_same_file(first: str, second: str) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)
