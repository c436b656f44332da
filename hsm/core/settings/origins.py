"""Where settings came from that are refused by what knows only their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hsm.core.errors import SettingsError

#: The origin of a value of which only the setting is known.
SETTINGS = "settings"
#: Origins that nobody has just typed: a variable, and a line of an hsm.yaml.
_ELSEWHERE = re.compile(r"environment variable |[^/]+ in /")


@contextmanager
def naming_origins(origins: Mapping[str, str]) -> Iterator[None]:
    """Have refusals of settings name the variable or file that sets them.

    Args:
        origins: where each setting came from, by its name; see `Resolved`.

    Raises:
        SettingsError: one was raised within.
    """
    try:
        yield
    except SettingsError as error:
        origin = origins.get(error.key, "")
        if error.origin != SETTINGS or not _ELSEWHERE.match(origin):
            raise
        raise SettingsError(
            error.key,
            error.value,
            origin,
            error.allowed,
            error.hint,
            message=f"{error}; {error.key} is set by {origin}",
        ) from None
