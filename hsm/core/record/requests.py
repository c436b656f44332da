"""Lets another process ask a sweep's launcher to cancel jobs, or to change how it goes on.

    hsm cancel ----ask--> .hsm/requests/<n> or all <--checks, twice a second-- Listener --> source
    hsm pause, … -send--> .hsm/requests/own/<time>-<random>.json <---'

A request is a file, which the launcher takes by removing it. This needs no port and no signal,
works wherever the sweep's directory can be written (from another container, over NFS), and can end
a notebook's sweep without ending the notebook. A check costs a stat of one directory.

Requests to cancel are empty files: a group that shares the sweep may make them, too. All others are
the owner's alone, see `hsm.core.record.own_requests`.

A launcher that does not react (it is stopped, or too old to know requests) can be sent a signal,
see `signal_launcher`. A sweep's directory may be anyone's, so its files are not proof enough: the
kernel must confirm that the process holds both of a launcher's locks on the sweep's lock file.
hsm follows no links when it writes and removes requests, and ignores all but plain files.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from hsm.core.errors import HsmError
from hsm.core.files import make_folder_below, open_below, open_folder_below
from hsm.core.record import own_requests
from hsm.core.record.controls import Cancel, Control
from hsm.core.record.holder import is_launcher
from hsm.core.record.lock import holder
from hsm.core.record.paths import SweepPaths

#: The name of a request to cancel the whole sweep.
ALL = "all"
#: Requests taken per check, and the length that a request's name stays below.
_MAX_TAKEN, _MAX_NUMBER = 1000, 20


class Request(NamedTuple):
    """A request that was taken.

    Attributes:
        control: what was asked for.
        name: for its `answer`; "" if nobody waits for one.
    """

    control: Control
    name: str = ""


def take_requests(paths: SweepPaths) -> list[Request]:
    """Take the requests to a sweep's launcher: those to cancel first, the others in their order.

    Those that this hsm does not understand are answered here.
    """
    taken = _take_cancels(paths)
    if taken is None:
        return []
    requests = [Request(Cancel(None if name == ALL else int(name))) for name in taken]
    owns = own_requests.take(paths)
    for own in owns:
        if own.control is None:
            own_requests.answer(paths, own.name, own_requests.Answer([], own.problem))
        else:
            requests.append(Request(own.control, own.name))
    if not owns:  # Else the answers are still to come; whoever reads the last one removes them.
        own_requests.remove_empty(paths)
    return requests


def drop_requests(paths: SweepPaths) -> None:
    """Remove requests that were meant for an earlier launcher of the sweep."""
    while _take_cancels(paths):
        pass
    own_requests.drop(paths)


def ask(paths: SweepPaths, num: int | None) -> None:
    """Ask the launcher of a sweep to cancel a job, or the whole sweep (None).

    Raises:
        HsmError: the sweep's directory cannot be written.
    """
    try:
        try:
            _make_request(paths, num)
        except FileNotFoundError:  # The launcher has just removed the directory: it was empty.
            _make_request(paths, num)
    except OSError as error:
        reason = f"cannot write {error.filename or paths.requests}: {error.strerror}"
        raise HsmError(f"cannot ask the launcher: {reason}") from error


def _make_request(paths: SweepPaths, num: int | None) -> None:
    make_folder_below(paths.sweep_dir, paths.requests)
    path = paths.requests / _name(num)
    os.close(open_below(paths.sweep_dir, path, os.O_WRONLY | os.O_CREAT))


def is_asked(paths: SweepPaths, num: int | None) -> bool:
    """Whether the launcher has not yet taken this request."""
    try:
        os.close(open_below(paths.sweep_dir, paths.requests / _name(num)))
    except OSError:
        return False
    return True


def withdraw(paths: SweepPaths, num: int | None) -> bool:
    """Withdraw a request; False if the launcher has already taken it."""
    if not is_asked(paths, num):
        return False
    with suppress(OSError), _folder(paths.sweep_dir, paths.requests) as folder:
        return _remove(_name(num), folder)
    return False


def launcher_uid(paths: SweepPaths) -> int | None:
    """The user whose requests the sweep's launcher obeys; None if unknown."""
    pid = holder(paths.lock)
    with suppress(OSError, ValueError, StopIteration):
        if pid is not None:  # Its lock file may be an earlier launcher's, of another user.
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("Uid:")).split()[2])
        return os.lstat(paths.lock).st_uid
    return None


def signal_launcher(paths: SweepPaths, signum: signal.Signals, pid: object) -> bool:
    """Send a signal to the sweep's launcher; False if no process can be verified to be it.

    Args:
        paths: the sweep's.
        signum: the signal.
        pid: the launcher's pid, according to the journal.

    Raises:
        HsmError: the launcher belongs to another user.
    """
    found = holder(paths.lock)
    if found is None:
        return False
    try:
        process = os.pidfd_open(found)
        try:
            # If it still holds the lock now, our pidfd is for it, even if the pid is reused later.
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


def _take_cancels(paths: SweepPaths) -> list[str] | None:
    """Take up to a thousand requests to cancel; returns their names, the whole sweep's first.

    None if there are no requests of any kind.
    """
    with suppress(OSError), _folder(paths.sweep_dir, paths.requests) as folder:
        with os.scandir(folder) as entries:
            names = list(islice((each.name for each in entries if _is_request(each)), _MAX_TAKEN))
        return [name for name in sorted(names, reverse=True) if _remove(name, folder)]
    return None


def _is_request(entry: os.DirEntry[str]) -> bool:
    name = entry.name
    is_named = name == ALL or (name.isascii() and name.isdigit() and len(name) < _MAX_NUMBER)
    return is_named and entry.is_file(follow_symlinks=False)


def _remove(name: str, folder: int) -> bool:
    """Remove a request; False if that fails: taking it anyway would repeat it at every check."""
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        return False
    return True
