"""Whether Optuna is there, without importing it."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from hsm.core.errors import SettingsError

_INSTALL = "pip install 'hpc-sweep-manager[optuna]'"
_OLDEST, _TOO_NEW = (4, 9), (6,)


def check_optuna(origin: str) -> None:
    """Check that Optuna is installed, in a version that is known.

    Raises:
        SettingsError: it is not.
    """
    try:
        found = version("optuna")
    except PackageNotFoundError:
        found = ""
    numbers = tuple(map(int, re.findall(r"\d+", found)[:2]))
    if _OLDEST <= numbers < _TOO_NEW:
        return
    what = (
        f"Optuna {found} is installed, and method=optuna needs 4.9 to 5"
        if found
        else ("method=optuna needs Optuna")
    )
    message = f"{origin}: {what}: {_INSTALL}"
    raise SettingsError("method", "optuna", origin, "one that is installed", message=message)
