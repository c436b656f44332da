"""Links to a job's logs in the job's own directory, as stdout.log and stderr.log, for people.

An app may use these names itself, and would write through a link. So there is none while the job
runs: an earlier one goes before it starts, and one is made when it has ended, where the name is
free.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from hsm.core.files import open_folder_below
from hsm.core.record.paths import SweepPaths

_LOG_NAME = re.compile(r"[0-9]+\.(out|err)")
_NAMES = ("stdout.log", "stderr.log")


def link_logs(paths: SweepPaths, num: int, job_dir: Path) -> None:
    """Link the logs of job `num`, which has ended, if `job_dir` is there; no other job has that."""
    way = _way_to_logs(paths, job_dir)
    with suppress(OSError, ValueError):  # It is not there, leads elsewhere, or lies elsewhere.
        folder = open_folder_below(paths.sweep_dir, job_dir)
        try:
            for name, log in zip(_NAMES, (paths.stdout(num), paths.stderr(num)), strict=True):
                with suppress(FileExistsError):  # The app's own.
                    os.symlink(f"{way}/{log.name}", name, dir_fd=folder)
        finally:
            os.close(folder)


def unlink_logs(paths: SweepPaths, job_dir: Path) -> None:
    """Remove the links that hsm has made in `job_dir`: a job is about to start there."""
    for name in _NAMES:
        link = os.path.join(job_dir, name)
        with suppress(OSError):  # None is there, or a file of the app's.
            way, log = os.path.split(os.readlink(link))
            if _LOG_NAME.fullmatch(log) and way == _way_to_logs(paths, job_dir):
                os.unlink(link)


def _way_to_logs(paths: SweepPaths, job_dir: Path) -> str:
    """Relative, as the sweep may be moved."""
    if job_dir.parent == paths.sweep_dir:  # as nearly always
        return os.path.join(os.pardir, paths.hsm_dir.name, paths.logs.name)
    return os.path.relpath(paths.logs, job_dir)
