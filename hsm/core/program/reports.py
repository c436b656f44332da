"""The report of a job's process: the return value, or the exception that ended the job.

A report is one file, which appears atomically: it is written under a temporary name, then renamed.

    pickle of the return value (so `pickle.load(file)` gives just that)
    pickle of a dict of plain values: how it went
    8 bytes: where the second pickle starts

If the second pickle is short enough, the keeper also passes it to the launcher, which then does not
need the file, even if somebody removes it.

The job's process itself stores what is too large for the journal, see `hsm.core.record.large`, so
that it never takes up the launcher's memory. Only the sweep's launcher reads reports, because
pickles can run code.
"""

from __future__ import annotations

import os
import pickle
import struct
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from hsm.core.errors import HsmError
from hsm.core.files import PRIVATE, open_below, open_own_below, renamed
from hsm.core.plain_json import as_json, encode, is_short
from hsm.core.printable import printable_lines
from hsm.core.record.fitting import beginning, reason_of
from hsm.core.record.large import INLINE, Large, Shelf
from hsm.core.record.paths import SweepPaths

_OFFSET = struct.Struct("!Q")
#: Maximum bytes of one character in JSON.
_MAX_ESCAPE = 12
#: Characters of an error's message that its record keeps if the message lies beside the journal.
_PREVIEW = 500


class Outcome(NamedTuple):
    """What a function may return instead of a bare value, to report more.

    Attributes:
        value: the job's return value.
        error: the exception that the job raised, if the function caught it.
        exit_code: the exit code; None for 0, or 1 after an error.
        extra: another picklable object, for the launcher.
        job_dir: the job's directory, if the launcher cannot know it.
        pruned: why the job has ended early, maybe in no words; None if it has not.
    """

    value: Any = None
    error: BaseException | None = None
    exit_code: int | None = None
    extra: Any = None
    job_dir: str | None = None
    pruned: str | None = None


class RemoteTraceback(Exception):
    """The traceback from a job's process, as text; the `__cause__` of the job's exception."""

    def __str__(self) -> str:
        return f'\n"""\n{printable_lines(self.args[0])}"""'


class RemoteError(HsmError):
    """Stands in for a job's exception that cannot be pickled; has its type's name and message."""

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(type_name, message)
        self.type_name = type_name
        self.message = message

    def __str__(self) -> str:
        text = f"{self.type_name}: {self.message}" if self.message else self.type_name
        return printable_lines(text)


class Report(NamedTuple):
    """A job's report as the launcher reads it.

    Attributes:
        error_type: qualified name of the exception's type; None if there was no exception.
        error_message: the exception's message.
        traceback: the exception's traceback as text.
        exception: the pickled exception; None if it cannot be pickled.
        unpicklable: name of the return value's type, if the value could not be pickled.
        json: the return value, if JSON can represent it and it fits into the journal.
        large: what lies beside the journal, by the field names of `Ending`.
        extra: the pickled `Outcome.extra`.
        job_dir, pruned: as in `Outcome`.
        attempt: the number of the attempt that wrote it; None from an older hsm.
        unsaved: why there is no such file; None if there is one.
        is_value_lost: whether the return value was only to be there.
    """

    error_type: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    exception: bytes | None = None
    unpicklable: str | None = None
    json: Any = None
    large: Mapping[str, Large] = MappingProxyType({})
    extra: bytes | None = None
    job_dir: str | None = None
    pruned: str | None = None
    attempt: int | None = None
    unsaved: str | None = None
    is_value_lost: bool = False

    def load_error(self) -> BaseException | None:
        """The job's exception, with its traceback as the cause; None if the job raised none.

        If the exception does not unpickle, a `RemoteError`.
        """
        if self.error_type is None:
            return None
        error: BaseException = RemoteError(self.error_type, self.error_message or "")
        if self.exception is not None:
            try:
                loaded = pickle.loads(self.exception)
            except Exception:
                loaded = None  # Some exception classes cannot unpickle what they pickled.
            if isinstance(loaded, BaseException):
                error = loaded
        if self.traceback:
            error.__cause__ = RemoteTraceback(self.traceback)
        return error


def dumps(value: Any) -> bytes | None:
    """Pickle `value`, with cloudpickle if pickle cannot; None if neither can."""
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        from hsm.core.program import by_value

        try:
            return by_value.dumps(value)
        except Exception:
            return None


class Written(NamedTuple):
    """What `write` has done.

    Attributes:
        facts: the second pickle, for `loads`.
        short: the same with what fits anywhere, in case the file could not be written.
        unsaved: why the file could not be written; None if it was.
    """

    facts: bytes
    short: bytes = b""
    unsaved: str | None = None


def write(path: str, outcome: Outcome, attempt: int | None = None) -> Written:
    """Write the report of an attempt that ended with `outcome` to `path`, if possible."""
    value = dumps(outcome.value)
    facts: dict[str, Any] = {"job_dir": outcome.job_dir, "attempt": attempt}
    if value is None:
        facts["unpicklable"] = qualified_name(type(outcome.value))
        value = dumps(None)
    assert value is not None
    if outcome.extra is not None:
        facts["extra"] = dumps(outcome.extra)
    if outcome.error is not None:
        facts.update(_describe(outcome.error))
    if outcome.pruned is not None:
        facts["pruned"] = beginning(outcome.pruned, _PREVIEW)
    try:
        return Written(_save(path, outcome.value, value, facts))
    except OSError as error:
        return _unsaved(path, outcome.value, facts, error)


def _save(path: str, value: Any, pickled: bytes, facts: dict[str, Any]) -> bytes:
    """Write the file; return the pickled facts, to which what the journal holds is added."""
    directory, _, name = path.rpartition(os.sep)
    temporary = f"{directory}{os.sep}.{name}.{os.getpid()}"
    with renamed(temporary, path), open(_create(temporary), "wb") as file:
        file.write(pickled)
        file.flush()  # The value first: there may not be enough disk space for all of this.
        facts.update(_for_journal(path, value, facts))
        pickled_facts = pickle.dumps(facts, pickle.HIGHEST_PROTOCOL)
        file.write(pickled_facts + _OFFSET.pack(len(pickled)))
        if not _is_in_journal(value, facts):
            # A power cut must not lose it here.
            file.flush()
            os.fsync(file.fileno())
    return pickled_facts


def _unsaved(path: str, value: Any, facts: dict[str, Any], error: OSError) -> Written:
    if "json" not in facts:
        facts.update(_for_journal(path, value, facts))
    why = f"cannot write {path}: {reason_of(error)}"
    is_lost = not _is_in_journal(value, facts) and "unpicklable" not in facts
    facts.update(unsaved=why, is_value_lost=is_lost)
    long = ("extra", "traceback", "exception")
    short = {name: fact for name, fact in facts.items() if name not in long}
    return Written(pickle.dumps(facts), pickle.dumps(short), why)


def _for_journal(path: str, value: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts for the journal: value and message, or references to their files beside it."""
    fields: dict[str, Any] = {"json": None}
    large = {}
    if is_short(value):
        fields["json"] = value
    elif (found := as_json(value)) is not None:
        if len(found[1]) > INLINE:
            large["value"] = _store(path, found[1])
        else:
            fields["json"] = found[0]
    message = facts.get("error_message", "")
    if len(message) > INLINE // _MAX_ESCAPE and len(text := encode(message)) > INLINE:
        large["error_message"] = _store(path, text)
        fields["error_message"] = beginning(message, _PREVIEW)
    return {**fields, "large": large} if large else fields


def _is_in_journal(value: Any, facts: dict[str, Any]) -> bool:
    """Whether the facts hold the return value, or name a file beside the journal that does."""
    is_stored = "sha256" in facts.get("large", {}).get("value", {})
    return value is None or facts["json"] is not None or is_stored


def _store(path: str, text: str) -> dict[str, Any]:
    """Store the JSON `text` beside the journal of the sweep that `path` belongs to."""
    try:
        return Shelf(SweepPaths(_sweep_dir(path))).put(text, sync=True).reference()
    except OSError as error:
        return {"lost": reason_of(error)}


def _sweep_dir(path: str) -> str:
    """The directory of the sweep that a report at ``<sweep_dir>/.hsm/results/<n>.pkl`` is from."""
    return path.rsplit(os.sep, 3)[0]


def _create(path: str) -> int:
    """Open a new file below ``.hsm/results`` that only this user can write."""
    sweep_dir = _sweep_dir(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        fd = open_below(sweep_dir, path, flags)
    except FileNotFoundError:  # Somebody has removed the directory.
        SweepPaths(sweep_dir).create_folders(PRIVATE)
        fd = open_below(sweep_dir, path, flags)
    if os.fstat(fd).st_mode & 0o022:
        os.fchmod(fd, 0o640)
    return fd


def _describe(error: BaseException) -> dict[str, Any]:
    return {
        "error_type": qualified_name(type(error)),
        "error_message": error_message(error),
        "traceback": format_error(error),
        "exception": pickled_error(error),
    }


def error_message(error: BaseException) -> str:
    """The exception's text, whatever its `__str__` does."""
    try:
        return str(error)
    except Exception:
        return "<its message cannot be shown>"


def pickled_error(error: BaseException) -> bytes | None:
    """Pickle an exception; None if that fails, or if what comes out cannot be unpickled."""
    pickled = dumps(error)
    if pickled is not None:
        try:
            pickle.loads(pickled)
        except Exception:
            return None
    return pickled


def format_error(error: BaseException) -> str:
    """The traceback of a job's exception, without the frames before the job's own code."""
    place = error.__traceback__
    while place is not None and _is_launching(place.tb_frame.f_globals.get("__name__", "")):
        place = place.tb_next
    return "".join(traceback.format_exception(type(error), error, place or error.__traceback__))


def _is_launching(module: str) -> bool:
    return module == "hydra.core.utils" or module.startswith(("hsm.", "hydra_plugins.hsm_"))


def qualified_name(kind: type) -> str:
    """`ValueError`, `numpy.linalg.LinAlgError`; without a module for the script's own types."""
    name = kind.__qualname__.replace("<locals>.", "")
    return name if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{name}"


def read(path: Path) -> Report | None:
    """The report at `path`, without its value.

    None if the job did not get as far as writing one, if it is damaged (a power cut can leave a
    file empty or full of zeros), or if the file is not this user's own.
    """
    try:
        with open(_open(path), "rb") as file:
            end = file.seek(-_OFFSET.size, os.SEEK_END)
            (offset,) = _OFFSET.unpack(file.read())
            file.seek(offset)
            return loads(file.read(end - offset), path)
    except Exception:  # Damaged pickles can raise anything.
        return None


def loads(data: bytes, path: Path) -> Report:
    """The report at `path`, without its value, from what `write` returned.

    Raises:
        Exception: unpickling it failed.
    """
    facts = pickle.loads(data)
    large = facts.pop("large", None)
    if large:
        paths = SweepPaths(_sweep_dir(str(path)))
        facts["large"] = {name: Large.of(paths, large[name]) for name in large}
    return Report(**facts)


def read_value(path: Path) -> Any:
    """The return value in the report at `path`.

    Raises:
        NotRegular, NotOwn: the file is not this user's own, so its author could run code here.
        Exception: unpickling the value failed.
    """
    with open(_open(path), "rb") as file:
        return pickle.load(file)


def _open(path: Path) -> int:
    """Open ``<sweep_dir>/.hsm/results/<n>.pkl``."""
    return open_own_below(_sweep_dir(str(path)), path)
