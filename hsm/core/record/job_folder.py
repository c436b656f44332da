"""A job's directory, with links in it to the job's logs: stdout.log and stderr.log, for people.

An app may use these names itself, and would write through a link. So there are no links while the
job is running: old ones are removed before it starts, and new ones made after it has ended, if the
name is free.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import NamedTuple

from hsm.core.files import Place, open_folder_below
from hsm.core.record.paths import SweepPaths

_LOG_NAME = re.compile(r"[0-9]+\.(out|err)")
_NAMES = ("stdout.log", "stderr.log")


class JobFolder(NamedTuple):
    """The directory of a job, for whichever process makes it and the links in it.

    Attributes:
        root: the sweep's directory.
        path: the job's.
        logs: the way from `path` to the directory of the logs; relative, because the sweep may be
            moved.
        names: the names of the job's logs there; None if the directory gets no links, because
            another job may use it, or the job will name another one.
    """

    root: str
    path: str
    logs: str
    names: tuple[str, str] | None = None

    def make(self) -> None:
        """Make it, without the links of an earlier attempt. Raises OSError."""
        try:
            os.mkdir(self.path)
        except OSError:  # It exists already, or its parent does not.
            os.makedirs(self.path, exist_ok=True)
            self.unlink_logs()

    def link_logs(self) -> None:
        """Link the logs of the job, which has ended, into it.

        Does nothing if there is no such directory below the sweep's.
        """
        if self.names is None:
            return
        with suppress(OSError, ValueError):  # It is missing, a link, or outside the sweep's.
            folder = open_folder_below(self.root, self.path)
            try:
                for name, log in zip(_NAMES, self.names, strict=True):
                    with suppress(FileExistsError):  # The app has such a file itself.
                        os.symlink(f"{self.logs}/{log}", name, dir_fd=folder)
            finally:
                os.close(folder)

    def unlink_logs(self) -> None:
        """Remove hsm's links from it, before a job starts there."""
        for name in _NAMES:
            link = os.path.join(self.path, name)
            with suppress(OSError):  # There is none, or it is a file of the app's.
                logs, log = os.path.split(os.readlink(link))
                if _LOG_NAME.fullmatch(log) and logs == self.logs:
                    os.unlink(link)


def job_folder(paths: SweepPaths, path: Place, num: int | None = None) -> JobFolder:
    """The directory `path` of a job of the sweep at `paths`.

    Args:
        paths: the sweep's.
        path: the job's directory.
        num: the job's number, for its links; None for no links.
    """
    root, place = os.fspath(paths.sweep_dir), os.fspath(path)
    above, _, _ = place.rpartition(os.sep)
    # Nearly always the first: skip the slow relpath.
    logs = paths.logs_from_job_dirs if above == root else os.path.relpath(paths.logs, place)
    return JobFolder(root, place, logs, None if num is None else paths.log_names(num))
