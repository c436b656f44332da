"""What people, editors and full disks do to the files of a running sweep, for chaos.py."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hsm.core.record.paths import SweepPaths

Damage = Callable[[SweepPaths, random.Random], bool]


def _replaced(path: Path) -> bool:
    """By a copy, as `sed -i`, an editor or a restored backup does."""
    copy = path.with_name("copy-of-chaos")
    shutil.copy2(path, copy)
    copy.replace(path)
    return True


def _journal_truncated(paths: SweepPaths, chance: random.Random) -> bool:
    """To anything from its first line to all but its last byte."""
    data = paths.journal.read_bytes()
    first = data.find(b"\n") + 1
    if not 0 < first < len(data):
        return False
    os.truncate(paths.journal, chance.randrange(first, len(data)))
    return True


def _a_log(paths: SweepPaths, chance: random.Random) -> Path | None:
    found = sorted(paths.logs.glob("*.out"))
    return chance.choice(found) if found else None


def _log_deleted(paths: SweepPaths, chance: random.Random) -> bool:
    log = _a_log(paths, chance)
    if log is not None:
        log.unlink()
    return log is not None


def _log_truncated(paths: SweepPaths, chance: random.Random) -> bool:
    log = _a_log(paths, chance)
    if log is not None:
        os.truncate(log, 0)
    return log is not None


def _results_deleted(paths: SweepPaths, _: random.Random) -> bool:
    found = list(paths.results.glob("*.pkl"))
    for path in found:
        path.unlink(missing_ok=True)
    return bool(found)


def _deleted(path: Path) -> bool:
    path.unlink()
    return True


def _requests_replaced(paths: SweepPaths, _: random.Random) -> bool:
    """By what is no request: a name that is none, a folder, a link that leads nowhere."""
    paths.requests.mkdir(exist_ok=True)
    (paths.requests / "no request").touch()
    (paths.requests / "7000").mkdir(exist_ok=True)
    with suppress(FileExistsError):
        (paths.requests / "7001").symlink_to("/nowhere")
    return True


#: What is done, and to what.
DAMAGES: dict[tuple[str, str], Damage] = {
    ("replaced", "journal"): lambda paths, _: _replaced(paths.journal),
    ("truncated", "journal"): _journal_truncated,
    ("deleted", "journal"): lambda paths, _: _deleted(paths.journal),
    ("replaced", "lock"): lambda paths, _: _replaced(paths.lock),
    ("deleted", "lock"): lambda paths, _: _deleted(paths.lock),
    ("truncated", "log"): _log_truncated,
    ("deleted", "log"): _log_deleted,
    ("deleted", "results"): _results_deleted,
    ("replaced", "requests"): _requests_replaced,
}


def damage(paths: SweepPaths, deed: tuple[str, str], chance: random.Random) -> bool:
    """Do it; False if there is nothing yet to do it to."""
    try:
        return DAMAGES[deed](paths, chance)
    except FileNotFoundError:
        return False
