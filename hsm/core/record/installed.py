"""The version of a distribution that is installed."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from importlib.machinery import PathFinder

_SEPARATORS = re.compile(r"[-_.]+")


def installed_version(name: str) -> str | None:
    """The version of the distribution `name`; None if it is not installed.

    It is what `importlib.metadata` tells, which takes as long to import as ten commands to run: so
    it is asked only where the answer does not lie open.
    """
    version = _open_version(_SEPARATORS.sub("_", name.lower()))
    if version is not None:
        return version
    import importlib.metadata

    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None


def _open_version(name: str) -> str | None:
    """The version in the first .dist-info along `sys.path`; None if that may be another's turn."""
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")]
    if finders != [PathFinder]:
        return None
    for place in sys.path:
        try:
            found = [file for file in os.listdir(place or os.curdir) if _is_of(name, file.lower())]
        except (FileNotFoundError, NotADirectoryError):
            if os.path.exists(place):  # an archive
                return None
            continue
        except OSError:
            return None
        if found:
            path = os.path.join(place, found[0], "METADATA")
            return _version_in(path) if len(found) == 1 else None
    return None


def _is_of(name: str, file: str) -> bool:
    stem, _, kind = file.rpartition(".")
    own = _SEPARATORS.sub("_", stem.partition("-")[0])
    return own == name and kind in ("dist-info", "egg-info")


def _version_in(path: str) -> str | None:
    with suppress(OSError, UnicodeError), open(path, encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key == "Version":
                return value.strip()
            if not line.strip():
                break
    return None
