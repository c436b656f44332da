"""Temporary directories: one with a short path per source, with one for each job in it."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path

#: Characters. A Unix socket's path has at most 107 bytes, and jobs make sockets below TMPDIR.
_MAX_PARENT = 40


class Scratch:
    """Makes and removes the temporary directories of one source.

    Args:
        keep: whether to leave the jobs' directories in place.
    """

    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self._mutex = threading.Lock()
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """The source's directory; made on first use."""
        with self._mutex:
            if self._path is None:
                parent = tempfile.gettempdir()
                if len(parent) > _MAX_PARENT and os.access("/tmp", os.W_OK):
                    parent = "/tmp"
                self._path = Path(tempfile.mkdtemp(prefix="hsm-", dir=parent))
            return self._path

    @property
    def disposable(self) -> Path | None:
        """The directory that a fork server should remove if it outlives its launcher."""
        return None if self.keep else self.path

    def make(self, num: int) -> Path:
        """Make the directory of job `num`; it is empty unless kept from an earlier attempt."""
        path = self.path / str(num)
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def clean(self, num: int) -> None:
        """Remove the directory of job `num`, unless directories are kept."""
        if self.keep:
            return
        path = self.path / str(num)
        try:
            path.rmdir()  # faster, and most jobs leave nothing there
        except OSError:
            shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Remove everything; with `keep`, only hsm's own files and empty directories."""
        if self._path is None:
            return
        if not self.keep:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        for path in (*self.path.iterdir(), self.path):
            try:
                if path.is_file():
                    path.unlink()  # hsm's own: jobs write to their directories
                else:
                    path.rmdir()
            except OSError:
                continue  # not empty: kept for the user
