"""How another process asks the launcher of a running sweep to cancel jobs, or all of it.

    hsm cancel --ask--> .hsm/requests/<n> or all <--looks, twice a second-- Listener --> the source

A request is an empty file, and the launcher takes it by removing it. So it needs no port and no
signal, works wherever the sweep's directory can be written (from another container, over NFS), and
asks a notebook to end a sweep without ending the notebook. Looking costs a stat of one directory.

A launcher that does not react (it is stopped, or written before there were requests) can be sent a
signal, see `signal_launcher`. The kernel says which process holds the sweep's lock, so neither a
reused pid nor a stale record can lead to the wrong one.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hsm.core.errors import HsmError
from hsm.core.lock import holder
from hsm.core.paths import SweepPaths

#: A request that is about the whole sweep.
ALL = "all"
#: Seconds between two looks for requests.
_INTERVAL = 0.5


class Listener:
    """Looks for requests to the sweeps of one launcher, in a thread of its own. Thread-safe.

    Args:
        take: called with a sweep's paths and what is to be cancelled: a job's number, or None for
            all. It must not block.
        thread_name: of the thread, which starts with the first sweep.
    """

    def __init__(self, take: Callable[[SweepPaths, int | None], None], thread_name: str) -> None:
        self._take = take
        self._thread_name = thread_name
        self._mutex = threading.Lock()
        self._sweeps: list[SweepPaths] = []
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def add(self, paths: SweepPaths) -> None:
        """Look for requests to the sweep at `paths`, which this process launches from now on."""
        with self._mutex:
            self._sweeps.append(paths)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._listen, name=self._thread_name, daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """Look no more. Idempotent; may be called from `take`."""
        self._stopped.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _listen(self) -> None:
        while not self._stopped.wait(_INTERVAL):
            with self._mutex:
                sweeps = list(self._sweeps)
            for paths in sweeps:
                for path in _requests(paths):
                    if _remove(path):
                        self._take(paths, None if path.name == ALL else int(path.name))


def drop_requests(paths: SweepPaths) -> None:
    """Forget what was asked of an earlier launcher of the sweep."""
    for path in _requests(paths):
        _remove(path)


def ask(paths: SweepPaths, num: int | None) -> None:
    """Ask the launcher of a sweep to cancel a job, or all of it (None).

    Raises:
        HsmError: the sweep's directory cannot be written.
    """
    try:
        paths.requests.mkdir(exist_ok=True)
        try:
            _path(paths, num).touch()
        except FileNotFoundError:  # The launcher took others, and the directory with them.
            paths.requests.mkdir(exist_ok=True)
            _path(paths, num).touch()
    except OSError as error:
        reason = f"cannot write {paths.requests}: {error.strerror}"
        raise HsmError(f"the launcher cannot be asked: {reason}") from error


def is_asked(paths: SweepPaths, num: int | None) -> bool:
    """Whether such a request still waits to be taken."""
    return _path(paths, num).exists()


def withdraw(paths: SweepPaths, num: int | None) -> bool:
    """Take a request back; False if the launcher has taken it."""
    return _remove(_path(paths, num))


def signal_launcher(paths: SweepPaths, signum: signal.Signals) -> bool:
    """Send a signal to the process that holds the sweep's lock; False if none does any more.

    Raises:
        HsmError: it is somebody else's.
    """
    pid = holder(paths.lock)
    if pid is None:
        return False
    try:
        process = os.pidfd_open(pid)
        try:
            # If it still holds the lock, the descriptor is its own, and stays so.
            if holder(paths.lock) != pid:
                return False
            signal.pidfd_send_signal(process, signum)
        finally:
            os.close(process)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise HsmError(f"process {pid}, the sweep's launcher, is not yours to signal") from error
    return True


def _path(paths: SweepPaths, num: int | None) -> Path:
    return paths.requests / (ALL if num is None else str(num))


def _requests(paths: SweepPaths) -> list[Path]:
    """The requests that wait, the one for all first."""
    try:
        names = os.listdir(paths.requests)
    except OSError:
        return []
    named = [name for name in names if name == ALL or (name.isascii() and name.isdigit())]
    return [paths.requests / name for name in sorted(named, reverse=True)]


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError as error:
        # Where it cannot be removed, it cannot be taken: else it would be taken again and again.
        return error.errno not in (errno.ENOENT, errno.EROFS, errno.EACCES, errno.EPERM)
    with suppress(OSError):
        path.parent.rmdir()
    return True
