"""What a job calls while it runs: to tell how it is doing, and to ask whether it is to end early.

    hsm.report --a line--> $HSM_METRICS <--reads-- the launcher
    hsm.should_prune <--reads-- $HSM_PRUNES <--its answer--'

Each call writes one line with a single write, see `hsm.core.record.metrics`, so threads, children
and several ranks of a job may all report. Outside of hsm, where these variables are not set, the
functions do nothing. This module is imported by users' programs, so it imports nothing at first.
"""

from __future__ import annotations

import itertools
import os
import stat
import sys
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["Pruned", "log", "report", "should_prune"]

#: Seconds that `should_prune` waits for an answer.
_LONGEST_WAIT = 1.0
#: Seconds between two looks for it, at first and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02
#: Bytes of a line, as in `hsm.core.record.metrics`.
_MAX_LINE = 1 << 16
_MAX_INTEGER = 1 << 63
#: Characters of the reason of a `Pruned` that are kept.
_MAX_WORD = 500
#: Where in a sweep's directory the file is.
_FOLDER = f"{os.sep}.hsm{os.sep}metrics"
#: The exceptions that end a job early, by their names: Optuna is not imported for it.
_PRUNED = frozenset(("hsm.Pruned", "optuna.exceptions.TrialPruned"))


class Pruned(Exception):
    """A job raises it to end early, for it does not look promising: its state is then PRUNED.

    The result of such a job is what it has reported last. Its text, if it has one, is the reason.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        _watch_for_uncaught()


Pruned.__module__ = "hsm"  # as users name it, and as it is pickled


class _Job:
    """This process's part of the job that it is, or belongs to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.answer = f"{path.removesuffix('.jsonl')}.answer"
        self.steps: Iterator[int] = itertools.count()
        self.last: Any = None  # the last value that was reported
        self.asks = self.was_told = self.has_warned = self.is_torn = False

    def write(self, value: object, *, name: str = "") -> None:
        """Append a line; `name` is the function that was called. Raises ValueError."""
        from json import dumps

        line = dumps(value, separators=(",", ":")).encode() + b"\n"
        if len(line) > _MAX_LINE:
            raise ValueError(f"{name}: a report is at most {_MAX_LINE} bytes long, as JSON")
        if self.is_torn:
            line = b"\n" + line
        try:
            fd = self._open()
            try:
                left = line
                while left:
                    self.is_torn = len(left) < len(line)
                    left = left[os.write(fd, left) :]
                self.is_torn = False
            finally:
                os.close(fd)
        except OSError as error:
            if not self.has_warned:
                self.has_warned = True
                why = error.strerror or error
                print(f"hsm: reports are lost: cannot write {self.path}: {why}", file=sys.stderr)

    def _open(self) -> int:
        from hsm.core.files import make_folder_below, open_below

        path = os.path.abspath(self.path)
        root = folder = os.path.dirname(path)
        if folder.endswith(_FOLDER):  # else somebody tries what a job would report
            root = folder.removesuffix(_FOLDER)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        try:
            return open_below(root, path, flags)
        except FileNotFoundError:  # somebody has removed the folder
            if folder == root:
                raise
            make_folder_below(root, folder)
            return open_below(root, path, flags)


#: By path and attempt: a launcher that is itself a job forks others.
_known: dict[tuple[str, str], _Job] = {}


def _job() -> _Job | None:
    """The job that this process belongs to; None outside of hsm."""
    path = os.environ.get("HSM_METRICS")
    if not path:
        return None
    key = path, os.environ.get("HSM_ATTEMPT", "")
    return _known.get(key) or _known.setdefault(key, _Job(path))


def report(value: Any = ..., step: Any = None, **values: Any) -> None:
    """Report how well the job is doing: one number, or several by name, after a step of its work.

        hsm.report(0.31, step=epoch)
        hsm.report(step=epoch, loss=0.31, accuracy=0.9)

    hsm shows the last values while the job runs, and decides from them whether it is worth going
    on: see `should_prune`. Each step should be reported once. Outside of hsm, does nothing.

    Args:
        value: a number, NumPy's and tensors' too; NaN and the infinities are allowed. It is named
            "value".
        step: an integer from 0 on; without one, one more than the last step of this process.
        values: numbers, texts, bools or None, by name.

    Raises:
        TypeError, ValueError: a value or the step is none of these.
    """
    job = _job()
    if job is None:
        return
    if step is None:
        step = next(job.steps)
    else:
        step = _step(step, "hsm.report")
        job.steps = itertools.count(step + 1)
    line = {"step": step}
    if value is not ...:
        line["value"] = job.last = _plain("value", value, "hsm.report")
    for name, each in values.items():
        line[name] = _plain(name, each, "hsm.report")
    if value is ... and len(values) == 1:
        job.last = line[next(iter(values))]
    job.write(line, name="hsm.report")


def log(**values: Any) -> None:
    """Report values that belong to no step, such as a size: ``hsm.log(parameters=1_200_000)``.

    Outside of hsm, does nothing.

    Args:
        values: numbers, texts, bools or None, by name; ``step`` is the step that they belong to.

    Raises:
        TypeError, ValueError: a value is none of these.
    """
    job = _job()
    if job is None:
        return
    line: dict[str, Any] = {}
    if "step" in values:
        line["step"] = _step(values.pop("step"), "hsm.log")
    for name, value in values.items():
        line[name] = _plain(name, value, "hsm.log")
    job.write(line, name="hsm.log")


def should_prune() -> bool:
    """Whether the job is to end early, as what it has reported does not look promising.

        if hsm.should_prune():
            raise hsm.Pruned

    After it has said so, the job's state is PRUNED however it ends, and its result is what it has
    reported last. Waits for the launcher's answer to what the job has reported, for one second at
    most, then returns False. Outside of hsm, and in a sweep that has no pruner, False at once.
    """
    job = _job()
    if job is None:
        return False
    if job.was_told:
        return True
    if os.environ.get("HSM_PRUNES") != job.answer:
        return False
    if not job.asks:
        job.asks = True
        job.write("asks")
    try:
        status = os.lstat(job.path)
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode):  # nobody reads it
        return False
    size = status.st_size
    deadline, pause = time.monotonic() + _LONGEST_WAIT, _FIRST_PAUSE
    while True:
        judged, prunes = _answer(job.answer)
        if prunes:
            job.was_told = True
            job.write("pruned")
            return True
        if judged >= size or time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _answer(path: str) -> tuple[int, bool]:
    """The launcher's answer: how many bytes of reports it has judged, and whether to end early."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            judged, prunes = os.read(fd, 64).split()
        finally:
            os.close(fd)
        return int(judged), prunes == b"1"
    except (OSError, ValueError):
        return -1, False


def last_value() -> Any:
    """The last value that this process has reported; None if it has reported none."""
    job = _job()
    return None if job is None else job.last


def is_pruned(error: BaseException) -> bool:
    """Whether a job that raises `error` has ended early, and has not failed."""
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)
    return not _PRUNED.isdisjoint(names)


def _watch_for_uncaught() -> None:
    """Have this process tell hsm of a `Pruned` that nobody catches.

    For scripts: a function's caller sees the exception itself.
    """
    if _job() is None or isinstance(sys.excepthook, _Hook):
        return
    sys.excepthook = _Hook(sys.excepthook)


class _Hook:
    """Stands before an excepthook."""

    def __init__(self, replaced: Any) -> None:
        self._replaced = replaced

    def __call__(self, kind: type[BaseException], error: BaseException, place: Any) -> None:
        job = _job()
        if job is None or not is_pruned(error):
            self._replaced(kind, error, place)
            return
        word = f"pruned: {error}".removesuffix(": ")[:_MAX_WORD]
        job.write(word)
        print(f"hsm: {word}", file=sys.stderr)


def _step(step: Any, name: str) -> int:
    """Raises TypeError or ValueError."""
    try:
        number = int(step.__index__())
    except (AttributeError, TypeError, ValueError):
        raise TypeError(f"{name}: step must be an integer, not {_shown(step)}") from None
    if not 0 <= number < _MAX_INTEGER:
        raise ValueError(f"{name}: step must be an integer of at least 0, not {_shown(number)}")
    return number


def _plain(name: str, value: Any, function: str) -> Any:
    """`value` as JSON has it: NumPy's and other libraries' scalars become numbers.

    Raises TypeError.
    """
    found, given = _scalar(value), value
    if found is ...:
        try:
            if callable(getattr(value, "item", None)):
                value = value.item()
                found = _scalar(value)
            if found is ... and hasattr(type(value), "__float__"):
                found = float(value)
        except Exception:  # an array of several numbers, say
            found = ...
    if found is ...:
        allowed = "a number, a text, a bool or None"
        raise TypeError(f"{function}: {name} must be {allowed}, not {_shown(given)}")
    return found


def _scalar(value: Any) -> Any:
    """A value of a builtin type, or of one that is derived from it; ``...`` for others."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(value) < _MAX_INTEGER:
            return int(value)
        try:
            return float(value)
        except OverflowError:
            return ...
    if isinstance(value, float):
        return float(value)
    return str(value) if isinstance(value, str) else ...


def _shown(value: object) -> str:
    from hsm.core.errors import shown

    return f"{shown(value)} ({type(value).__name__})"
