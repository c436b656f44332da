"""hsm runs the jobs of a parameter sweep on this machine, each in a fresh process of its own, and
never loses one.

The public names are imported when they are first used (PEP 562): `import hsm` itself costs next to
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hsm._version import __version__

if TYPE_CHECKING:
    from hsm.core.compute_source import ComputeSource, SweepObserver
    from hsm.core.errors import HsmError, JobFailed, SettingsError
    from hsm.core.job import Attempt, Job, JobState
    from hsm.core.journal import Sweep, read_sweep
    from hsm.core.local import LocalComputeSource

_HOMES = {
    "Attempt": "hsm.core.job",
    "ComputeSource": "hsm.core.compute_source",
    "HsmError": "hsm.core.errors",
    "Job": "hsm.core.job",
    "JobFailed": "hsm.core.errors",
    "JobState": "hsm.core.job",
    "LocalComputeSource": "hsm.core.local",
    "SettingsError": "hsm.core.errors",
    "Sweep": "hsm.core.journal",
    "SweepObserver": "hsm.core.compute_source",
    "read_sweep": "hsm.core.journal",
}

__all__ = [
    "Attempt",
    "ComputeSource",
    "HsmError",
    "Job",
    "JobFailed",
    "JobState",
    "LocalComputeSource",
    "SettingsError",
    "Sweep",
    "SweepObserver",
    "__version__",
    "read_sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hsm' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
