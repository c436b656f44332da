"""Mount points below a directory, which stay where they are whatever is renamed around them."""

from __future__ import annotations

import os
import re
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
#: How the kernel writes blanks and the like in a path.
_ESCAPE = re.compile(rb"\\([0-7]{3})")


def mounts_below(folder: Path) -> list[Path]:
    """The mount points below `folder`, outer ones first; bind mounts of files are some, too.

    Without /proc, only directories directly in `folder` that are on another file system.
    """
    try:
        lines = _TABLE.read_bytes().splitlines()
    except OSError:
        return [path for path in sorted(folder.iterdir()) if path.is_mount()]
    root = os.path.join(os.path.realpath(folder), "")
    places = {_unescaped(line.split(b" ")[4]) for line in lines}
    return [folder / place[len(root) :] for place in sorted(places) if place.startswith(root)]


def _unescaped(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes((int(found[1], 8),)), field))
