"""Turning hsm's errors into errors that Hydra shows in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import ConfigCompositionException

from hsm.core.errors import HsmError
from hsm.core.printable import printable_lines
from hsm.core.record.journal import SweepInUse
from hsm.core.record.resume import SweepChanged


class LauncherError(ConfigCompositionException):
    """An error that the user can fix; Hydra shows it as one line without a traceback."""

    def __str__(self) -> str:
        return printable_lines(super().__str__())


@contextmanager
def launcher_errors() -> Iterator[None]:
    """Raise hsm's errors as LauncherError."""
    try:
        yield
    except SweepInUse as error:
        raise LauncherError(f"{error}: choose another hydra.sweep.dir") from None
    except SweepChanged as error:
        error.remedy = "hydra.launcher.accept_changes=true"
        raise LauncherError(str(error)) from None
    except HsmError as error:
        raise LauncherError(str(error)) from None
