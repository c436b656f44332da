"""Links a job's logs into the job's directory, as stdout.log and stderr.log, for people.

An app may use these names itself, and would write through a link. So there are no links while the
job is running: old ones are removed before it starts, and new ones made after it has ended, if the
name is free.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from hsm.core.files import Place, open_folder_below
from hsm.core.record.paths import SweepPaths

_LOG_NAME = re.compile(r"[0-9]+\.(out|err)")
_NAMES = ("stdout.log", "stderr.log")


def link_logs(paths: SweepPaths, num: int, job_dir: Place) -> None:
    """Link the logs of job `num`, which has ended, into `job_dir`, which no other job uses.

    Does nothing if there is no such directory below the sweep's.
    """
    logs = _path_to_logs(paths, job_dir)
    with suppress(OSError, ValueError):  # It is missing, a link, or outside the sweep's directory.
        folder = open_folder_below(paths.sweep_dir, job_dir)
        try:
            for name, log in zip(_NAMES, paths.log_names(num), strict=True):
                with suppress(FileExistsError):  # The app has such a file itself.
                    os.symlink(f"{logs}/{log}", name, dir_fd=folder)
        finally:
            os.close(folder)


def unlink_logs(paths: SweepPaths, job_dir: Place) -> None:
    """Remove hsm's links from `job_dir`, before a job starts there."""
    for name in _NAMES:
        link = os.path.join(job_dir, name)
        with suppress(OSError):  # There is none, or it is a file of the app's.
            logs, log = os.path.split(os.readlink(link))
            if _LOG_NAME.fullmatch(log) and logs == _path_to_logs(paths, job_dir):
                os.unlink(link)


def _path_to_logs(paths: SweepPaths, job_dir: Place) -> str:
    """The path from `job_dir` to the logs; relative, because the sweep may be moved."""
    above, _, _ = os.fspath(job_dir).rpartition(os.sep)
    if above == os.fspath(paths.sweep_dir):  # Nearly always: skip the slow relpath.
        return paths.logs_from_job_dirs
    return os.path.relpath(paths.logs, job_dir)
