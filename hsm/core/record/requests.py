"""How another process asks the launcher of a running sweep to cancel jobs, or all of it.

    hsm cancel --ask--> .hsm/requests/<n> or all <--looks, twice a second-- Listener --> the source

A request is an empty file, and the launcher takes it by removing it. So it needs no port and no
signal, works wherever the sweep's directory can be written (from another container, over NFS), and
asks a notebook to end a sweep without ending the notebook. Looking costs a stat of one directory.

A launcher that does not react (it is stopped, or written before there were requests) can be sent a
signal, see `signal_launcher`. A sweep's directory may be anybody's, so what it says is not enough:
the kernel has to say that the process holds both locks of a launcher on the sweep's own lock file.
Requests are written and removed through no link, and what is no plain file is none.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from hsm.core.errors import HsmError
from hsm.core.files import make_folder_below, open_below, open_folder_below
from hsm.core.record.holder import is_launcher
from hsm.core.record.lock import holder
from hsm.core.record.paths import SweepPaths

#: A request that is about the whole sweep.
ALL = "all"
#: Seconds between two looks for requests.
_INTERVAL = 0.5
#: Requests that are taken at one look, and characters of a job's number.
_MAX_TAKEN, _MAX_NUMBER = 1000, 20


class Listener:
    """Looks for requests to the sweeps of one launcher, in a thread of its own. Thread-safe.

    Args:
        take: called with a sweep's paths and what is to be cancelled: a job's number, or None for
            all. It must not block.
        thread_name: of the thread, which starts with the first sweep.
        look: called with a sweep's paths each time that requests are looked for.
    """

    def __init__(
        self,
        take: Callable[[SweepPaths, int | None], None],
        thread_name: str,
        look: Callable[[SweepPaths], None] = lambda paths: None,
    ) -> None:
        self._take = take
        self._look = look
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
                self._look(paths)
                for name in _take_requests(paths):
                    self._take(paths, None if name == ALL else int(name))


def drop_requests(paths: SweepPaths) -> None:
    """Forget what was asked of an earlier launcher of the sweep."""
    while _take_requests(paths):
        pass


def ask(paths: SweepPaths, num: int | None) -> None:
    """Ask the launcher of a sweep to cancel a job, or all of it (None).

    Raises:
        HsmError: the sweep's directory cannot be written.
    """
    try:
        try:
            _make_request(paths, num)
        except FileNotFoundError:  # The launcher took others, and the directory with them.
            _make_request(paths, num)
    except OSError as error:
        reason = f"cannot write {error.filename or paths.requests}: {error.strerror}"
        raise HsmError(f"cannot ask the launcher: {reason}") from error


def _make_request(paths: SweepPaths, num: int | None) -> None:
    make_folder_below(paths.sweep_dir, paths.requests)
    path = paths.requests / _name(num)
    os.close(open_below(paths.sweep_dir, path, os.O_WRONLY | os.O_CREAT))


def is_asked(paths: SweepPaths, num: int | None) -> bool:
    """Whether such a request still waits to be taken."""
    try:
        os.close(open_below(paths.sweep_dir, paths.requests / _name(num)))
    except OSError:
        return False
    return True


def withdraw(paths: SweepPaths, num: int | None) -> bool:
    """Take a request back; False if the launcher has taken it."""
    if not is_asked(paths, num):
        return False
    with suppress(OSError), _folder(paths.sweep_dir, paths.requests) as folder:
        return _remove(_name(num), folder)
    return False


def signal_launcher(paths: SweepPaths, signum: signal.Signals, pid: object) -> bool:
    """Send a signal to the sweep's launcher; False if nothing proves to be it any more.

    Args:
        pid: of the launcher, as the journal has it.

    Raises:
        HsmError: it is somebody else's.
    """
    found = holder(paths.lock)
    if found is None:
        return False
    try:
        process = os.pidfd_open(found)
        try:
            # If it still holds the lock, the descriptor is its own, and stays so.
            if not is_launcher(found, pid, paths.lock):
                return False
            signal.pidfd_send_signal(process, signum)
        finally:
            os.close(process)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise HsmError(f"process {found}, the sweep's launcher, is not yours to signal") from error
    return True


def _name(num: int | None) -> str:
    return ALL if num is None else str(num)


@contextmanager
def _folder(sweep_dir: Path, path: Path) -> Iterator[int]:
    """A descriptor of a folder below the sweep's directory. Raises OSError."""
    folder = open_folder_below(sweep_dir, path)
    try:
        yield folder
    finally:
        os.close(folder)


def _take_requests(paths: SweepPaths) -> list[str]:
    """The names of requests that are taken with this, the one for all first; a thousand at most."""
    with suppress(OSError), _folder(paths.sweep_dir, paths.requests) as folder:
        with os.scandir(folder) as entries:
            names = list(islice((each.name for each in entries if _is_request(each)), _MAX_TAKEN))
        taken = [name for name in sorted(names, reverse=True) if _remove(name, folder)]
        if taken:
            with suppress(OSError), _folder(paths.sweep_dir, paths.hsm_dir) as record:
                os.rmdir(paths.requests.name, dir_fd=record)
        return taken
    return []


def _is_request(entry: os.DirEntry[str]) -> bool:
    name = entry.name
    is_named = name == ALL or (name.isascii() and name.isdigit() and len(name) < _MAX_NUMBER)
    return is_named and entry.is_file(follow_symlinks=False)


def _remove(name: str, folder: int) -> bool:
    """Remove a request; False where that cannot be: else it would be taken again and again."""
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        return False
    return True
