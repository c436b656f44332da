"""The temporary directories of jobs: a short-named one for a source, below it one for each job."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path

#: A Unix socket's path holds 107 bytes; what a job puts under its TMPDIR needs room.
_MAX_PARENT = 40


class Scratch:
    """Makes and removes them.

    Args:
        keep: leave the jobs' directories in place.
    """

    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self._mutex = threading.Lock()
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """The directory of the source; made when it is first asked for."""
        with self._mutex:
            if self._path is None:
                parent = tempfile.gettempdir()
                if len(parent) > _MAX_PARENT and os.access("/tmp", os.W_OK):
                    parent = "/tmp"
                self._path = Path(tempfile.mkdtemp(prefix="hsm-", dir=parent))
            return self._path

    @property
    def disposable(self) -> Path | None:
        """What a fork server that outlives its launcher should remove."""
        return None if self.keep else self.path

    def make(self, num: int) -> Path:
        """The directory of job `num`, new and empty unless kept from an earlier attempt."""
        path = self.path / str(num)
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def clean(self, num: int) -> None:
        """Job `num` is over."""
        if self.keep:
            return
        path = self.path / str(num)
        try:
            path.rmdir()  # Most jobs leave nothing there.
        except OSError:
            shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Remove everything; with `keep`, only what is empty."""
        if self._path is None:
            return
        if not self.keep:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        for path in (*self.path.iterdir(), self.path):
            try:
                if path.is_file():
                    path.unlink()  # hsm's own: jobs have directories.
                else:
                    path.rmdir()
            except OSError:
                continue  # what a job left for its owner to look at
