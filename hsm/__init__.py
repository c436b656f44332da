"""hsm runs the jobs of a parameter sweep, each in a new process, and never loses one.

Public names are imported on first use (PEP 562), so `import hsm` costs next to nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hsm._version import __version__
from hsm.core.engine.display_hook import set_display_factory

if sys.platform == "win32":
    raise ImportError("hsm needs Linux, or another Unix: on Windows, use it inside WSL")

if TYPE_CHECKING:
    from hsm.core.engine.compute_source import ComputeSource, SweepDisplay, SweepObserver
    from hsm.core.errors import HsmError, SettingsError
    from hsm.core.job_manager import JobManager
    from hsm.core.local import LocalComputeSource, LocalManager
    from hsm.core.program.reporting import Pruned, log, report, should_prune
    from hsm.core.record.job import Attempt, Job, JobFailed, JobState
    from hsm.core.record.sweep import Sweep, read_sweep
    from hsm.core.results.collect import collect_results
    from hsm.core.results.results_table import Results
    from hsm.core.space.python_points import choose_points

#: Public name -> the module that defines it.
_MODULES = {
    "Attempt": "hsm.core.record.job",
    "ComputeSource": "hsm.core.engine.compute_source",
    "HsmError": "hsm.core.errors",
    "Job": "hsm.core.record.job",
    "JobFailed": "hsm.core.record.job",
    "JobManager": "hsm.core.job_manager",
    "JobState": "hsm.core.record.job",
    "LocalComputeSource": "hsm.core.local",
    "LocalManager": "hsm.core.local",
    "Pruned": "hsm.core.program.reporting",
    "Results": "hsm.core.results.results_table",
    "SettingsError": "hsm.core.errors",
    "Sweep": "hsm.core.record.sweep",
    "SweepObserver": "hsm.core.engine.compute_source",
    "choose_points": "hsm.core.space.python_points",
    "collect_results": "hsm.core.results.collect",
    "log": "hsm.core.program.reporting",
    "read_sweep": "hsm.core.record.sweep",
    "report": "hsm.core.program.reporting",
    "should_prune": "hsm.core.program.reporting",
}

__all__ = [
    "Attempt",
    "ComputeSource",
    "HsmError",
    "Job",
    "JobFailed",
    "JobManager",
    "JobState",
    "LocalComputeSource",
    "LocalManager",
    "Pruned",
    "Results",
    "SettingsError",
    "Sweep",
    "SweepObserver",
    "__version__",
    "choose_points",
    "collect_results",
    "log",
    "read_sweep",
    "report",
    "should_prune",
]


def _make_display(*args: Any, **options: Any) -> SweepDisplay:
    from hsm.display import make_display

    return make_display(*args, **options)


# The core shows progress, but must not import hsm.display: see `hsm.core.engine.display_hook`.
set_display_factory(_make_display)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hsm' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
