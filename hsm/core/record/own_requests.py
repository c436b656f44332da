"""Requests that only a sweep's owner may make, as files of a folder that nobody else can write.

    send --20270131…-4711.json--> .hsm/requests/own/ --take--> launcher
    read_answer <----- 20270131…-4711.answer -------- answer ----'

A request is a small regular file of the launcher's own user, in a folder of that user with mode
0700; it appears there by a rename, so nobody reads a half. Its name begins with the time, which
keeps requests in their order. Whatever else lies there is removed once it is old, and harms nothing
before. The asker reads the answer and removes it.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from hsm.core.errors import HsmError, shown
from hsm.core.files import (
    PRIVATE,
    NotOwn,
    make_folder_below,
    open_folder_below,
    open_in,
    renamed,
)
from hsm.core.plain_json import encode
from hsm.core.record.controls import Control, control_of, record_of
from hsm.core.record.paths import SweepPaths
from hsm.core.record.schema import CONTROL_FIELDS, BadRecord, parse

_REQUEST, _ANSWER = ".json", ".answer"
#: Bytes of a request, and of an answer; the numbers of 100,000 jobs fit.
_MAX_SIZE = 1 << 20
#: Requests taken per check, and the length that a name stays below.
_MAX_TAKEN, _MAX_NAME = 1000, 100
#: Seconds after which what an asker left behind, such as an answer that it never read, is removed.
_MAX_AGE = 60.0


class OwnRequest(NamedTuple):
    """A request that the launcher has taken.

    Attributes:
        name: of its file, for `answer`.
        control: what was asked for; None if this hsm does not understand it.
        problem: why it does not.
    """

    name: str
    control: Control | None
    problem: str = ""


class Answer(NamedTuple):
    """A launcher's answer: lines for people, or why it did not do what it was asked."""

    lines: list[str]
    error: str = ""


def send(paths: SweepPaths, control: Control) -> str:
    """Ask the launcher of a sweep; returns the name of the request.

    Raises:
        HsmError: the sweep's directory cannot be written, or somebody else's folder is there.
    """
    data = encode(record_of(control)).encode()
    if len(data) > _MAX_SIZE:
        raise HsmError(f"cannot ask the launcher: the request has more than {_MAX_SIZE} bytes")
    name = f"{time.time_ns():020d}-{os.urandom(4).hex()}{_REQUEST}"
    try:
        _write(paths, name, data)
    except OSError as error:
        reason = f"cannot write {error.filename or paths.own_requests}: {error.strerror}"
        raise HsmError(f"cannot ask the launcher: {reason}") from error
    return name


def _write(paths: SweepPaths, name: str, data: bytes) -> None:
    """Write a file into the folder, which is made if it is missing. Raises OSError."""
    for is_last in (False, True):
        try:
            _make_folder(paths)
            with _own_folder(paths) as folder:
                _put(folder, name, data)
        except FileNotFoundError:  # Whoever found the folder empty has just removed it.
            if is_last:
                raise
        else:
            return


def _make_folder(paths: SweepPaths) -> None:
    make_folder_below(paths.sweep_dir, paths.requests)
    requests = open_folder_below(paths.sweep_dir, paths.requests)
    try:  # Not as accessible as its parent, which a group may share.
        with suppress(FileExistsError):
            os.mkdir(paths.own_requests.name, PRIVATE, dir_fd=requests)
    finally:
        os.close(requests)


def _put(folder: int, name: str, data: bytes) -> None:
    """Write a file that appears under its name when it is whole. Raises OSError."""
    temporary = f".{name}.{os.getpid()}"
    fd = open_in(folder, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with renamed(temporary, name, folder), open(fd, "wb") as file:
        file.write(data)


def is_waiting(paths: SweepPaths, name: str) -> bool:
    """Whether the launcher has not yet taken the request."""
    with suppress(OSError), _own_folder(paths) as folder:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        return True
    return False


def take_back(paths: SweepPaths, name: str) -> bool:
    """Take a request back; False if the launcher has already taken it."""
    try:
        with _own_folder(paths) as folder:
            os.unlink(name, dir_fd=folder)
    except OSError:
        return False
    remove_empty(paths)
    return True


def answer(paths: SweepPaths, name: str, given: Answer) -> None:
    """Answer a request. If that fails, the asker says that it has no answer."""
    data = encode({"lines": given.lines, "error": given.error}).encode()
    if len(data) > _MAX_SIZE:
        data = encode({"lines": ["(the answer is too long)"], "error": given.error}).encode()
    with suppress(OSError):
        _write(paths, _answer_to(name), data)


def read_answer(paths: SweepPaths, name: str) -> Answer | None:
    """The answer to a request, which is removed; None if there is none yet."""
    try:
        with _own_folder(paths) as folder:
            with open(open_in(folder, _answer_to(name)), "rb") as file:
                found = _answer_in(file.read(_MAX_SIZE))
            with suppress(OSError):
                os.unlink(_answer_to(name), dir_fd=folder)
    except OSError:
        return None
    remove_empty(paths)
    return found


def _answer_in(data: bytes) -> Answer:
    try:
        given: Mapping[str, Any] = json.loads(data)
        return Answer([str(line) for line in given["lines"]], str(given["error"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return Answer([], "its answer makes no sense")


def _answer_to(name: str) -> str:
    return f"{name.removesuffix(_REQUEST)}{_ANSWER}"


def take(paths: SweepPaths) -> list[OwnRequest]:
    """Take up to a thousand requests, oldest first."""
    with suppress(OSError), _own_folder(paths) as folder:
        names = sorted(os.listdir(folder))
        for name in names:
            if not _is_request(name):
                _remove_old(name, folder)
        asked = [name for name in names if _is_request(name)][:_MAX_TAKEN]
        return [found for name in asked if (found := _take(name, folder)) is not None]
    return []


def drop(paths: SweepPaths) -> None:
    """Remove all requests and answers, which were an earlier launcher's."""
    with suppress(OSError), _own_folder(paths) as folder:
        for name in os.listdir(folder):
            _remove(name, folder)
    remove_empty(paths)


def remove_empty(paths: SweepPaths) -> None:
    """Remove the folders of requests, as far as they are empty."""
    for path in (paths.own_requests, paths.requests):
        with suppress(OSError):
            folder = open_folder_below(paths.sweep_dir, path.parent)
            try:
                os.rmdir(path.name, dir_fd=folder)
            finally:
                os.close(folder)


@contextmanager
def _own_folder(paths: SweepPaths) -> Iterator[int]:
    """A descriptor of the folder. Raises OSError, as NotOwn if anybody else could write to it."""
    folder = open_folder_below(paths.sweep_dir, paths.own_requests)
    try:
        status = os.fstat(folder)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise NotOwn(paths.own_requests)
        yield folder
    finally:
        os.close(folder)


def _is_request(name: str) -> bool:
    return name[:1].isdigit() and name.endswith(_REQUEST) and len(name) < _MAX_NAME


def _take(name: str, folder: int) -> OwnRequest | None:
    """Take a request; None if it is no small file of this user's, or cannot be removed."""
    data = None
    with suppress(OSError), open(open_in(folder, name), "rb") as file:
        status = os.fstat(file.fileno())
        is_own = status.st_uid == os.geteuid() and status.st_nlink == 1
        if is_own and status.st_size <= _MAX_SIZE:
            data = file.read(_MAX_SIZE)
    # Taking it without removing it would repeat it at every check.
    if not _remove(name, folder) or data is None:
        return None
    try:
        record = parse(data)
        unknown = sorted(record.keys() - CONTROL_FIELDS.keys())
        if unknown:  # It must not seem as if that had been done.
            raise BadRecord(f"this hsm does not know {', '.join(map(shown, unknown))}")
        return OwnRequest(name, control_of(record))
    except BadRecord as error:
        return OwnRequest(name, None, str(error))


def _remove_old(name: str, folder: int) -> None:
    with suppress(OSError):
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if abs(time.time() - status.st_mtime) > _MAX_AGE:
            _remove(name, folder)


def _remove(name: str, folder: int) -> bool:
    """Remove a file, a link or a pipe; False if that fails."""
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.rmdir(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
    except OSError:
        return False
    return True
