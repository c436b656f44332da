"""A job's exception on its way to the sweeper, with the traceback that it had in the job.

    the job:      exception --> CarriedError (plain data, pickled with the JobReturn)
    the launcher: CarriedError --> exception, with frames that look like the job's

Pickle keeps neither the traceback of an exception nor its cause and context. With them, Hydra shows
the exception as if the job had run in the launcher's process: it hides its own frames, which end
with the one of `run_job`.
"""

from __future__ import annotations

import ast
import pickle
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from types import FrameType, TracebackType
from typing import Any, NamedTuple

from hsm.core.printable import printable_lines
from hsm.core.program.reports import RemoteError, error_message, pickled_error

#: Exceptions that a chain may have; of a longer one, the oldest are left out.
_MAX_CHAIN = 100


class Place(NamedTuple):
    """Where a frame was: the lines and columns of its expression; columns are -1 if unknown."""

    filename: str
    function: str
    line: int
    end_line: int
    column: int
    end_column: int


@dataclass(frozen=True)
class CarriedError:
    """What an exception was in its process.

    Attributes:
        exception: the pickled exception, without what follows; None if it cannot be pickled.
        module, name: of its type.
        message: its text.
        notes: added by `add_note`.
        places: its frames, outermost first.
        cause, context: what it was raised from, and while what was being handled.
        hides_context: whether a traceback shows only the cause.
        members: of an exception group.
    """

    exception: bytes | None
    module: str
    name: str
    message: str
    notes: Sequence[str]
    places: Sequence[Place]
    cause: CarriedError | None = None
    context: CarriedError | None = None
    hides_context: bool = False
    members: Sequence[CarriedError] = ()

    @classmethod
    def of(cls, error: BaseException) -> CarriedError:
        """Carry `error` and its chain; the exception itself is already in the job's report."""
        return replace(_carried(error, frozenset()), exception=None)

    def restore(self, loaded: BaseException) -> BaseException:
        """Return the exception that the report had, with its traceback and chain.

        Args:
            loaded: from the report; a `RemoteError` if it could not be pickled, which is replaced
                by an exception that is shown as the original would be.
        """
        return _dressed(self._itself(loaded), self)

    def without_traceback(self, loaded: BaseException) -> BaseException:
        """The same without traceback and chain, for a Hydra that restores these by itself."""
        return _dressed(self._itself(loaded), replace(self, places=(), cause=None, context=None))

    def _itself(self, loaded: BaseException | None) -> BaseException:
        return self._stand_in() if isinstance(loaded, RemoteError | None) else loaded

    def _stand_in(self) -> BaseException:
        members = {"__module__": self.module, "__qualname__": self.name}
        kind = type(self.name.rpartition(".")[2], (_StandIn,), members)
        error: BaseException = kind(self.name, self.message)
        return error


class _StandIn(RemoteError):
    """Base of types that are shown as the type of an exception that could not be pickled."""

    def __str__(self) -> str:
        return printable_lines(self.message)


def _carried(error: BaseException, seen: frozenset[int]) -> CarriedError:
    """Carry `error`, without exceptions of its chain that are `seen` (their ids) further out."""
    seen = seen | {id(error)}

    def chained(other: BaseException | None) -> CarriedError | None:
        if other is None or id(other) in seen or len(seen) >= _MAX_CHAIN:
            return None
        return _carried(other, seen)

    return CarriedError(
        exception=pickled_error(error),
        module=type(error).__module__,
        name=type(error).__qualname__,
        message=error_message(error),
        notes=[str(note) for note in getattr(error, "__notes__", ())],
        places=_places(error.__traceback__),
        cause=chained(error.__cause__),
        context=None if error.__suppress_context__ else chained(error.__context__),
        hides_context=error.__suppress_context__,
        members=[_carried(each, seen) for each in _members(error) if id(each) not in seen],
    )


def _members(error: BaseException) -> Iterable[BaseException]:
    """The exceptions in an exception group; none before Python 3.11, which has no groups."""
    found = getattr(error, "exceptions", ())
    return [each for each in found if isinstance(each, BaseException)] if found else []


def _places(traceback: TracebackType | None) -> list[Place]:
    places = []
    while traceback is not None:
        places.append(_place(traceback))
        traceback = traceback.tb_next
    return places


def _place(traceback: TracebackType) -> Place:
    code, line = traceback.tb_frame.f_code, traceback.tb_lineno or 1
    positions = getattr(code, "co_positions", None)  # from Python 3.11 on
    if positions is not None and traceback.tb_lasti >= 0:
        found = next(islice(positions(), traceback.tb_lasti // 2, None), (None,) * 4)
        _, end_line, column, end_column = found
        if end_line is None or column is None or end_column is None:
            pass  # Python knows the place only in part.
        elif (line, column) <= (end_line, end_column):
            return Place(code.co_filename, code.co_name, line, end_line, column, end_column)
    return Place(code.co_filename, code.co_name, line, line, -1, -1)


def _restored(carried: CarriedError) -> BaseException:
    """An exception of the chain."""
    loaded = None
    if carried.exception is not None:
        try:
            loaded = pickle.loads(carried.exception)
        except Exception:
            loaded = None  # as in `Report.load_error`
    return _dressed(carried._itself(loaded), carried)


def _dressed(error: BaseException, carried: CarriedError) -> BaseException:
    """Give `error` what pickle has not kept."""
    error.__traceback__ = traceback_of(carried.places)
    error.__cause__ = None if carried.cause is None else _restored(carried.cause)
    error.__context__ = None if carried.context is None else _restored(carried.context)
    error.__suppress_context__ = carried.hides_context
    if carried.notes and not getattr(error, "__notes__", None):
        error.__notes__ = list(carried.notes)  # type: ignore[attr-defined]
    members = list(_members(error))
    if len(members) == len(carried.members):
        for member, its in zip(members, carried.members, strict=True):
            _dressed(member, its)
    return error


def traceback_of(places: Sequence[Place]) -> TracebackType | None:
    """Make a traceback that is shown as the one that had these frames."""
    result = None
    for place in reversed(places):
        frame, instruction = _frame(place)
        result = TracebackType(result, frame, instruction, place.line)
    return result


@lru_cache(1024)  # Jobs that fail alike have the same frames.
def _frame(place: Place) -> tuple[FrameType, int]:
    """Make a frame that a traceback shows as `place`; return it with the instruction in it."""
    call = ast.Call(ast.Name("here", ast.Load()), [], [])
    for node in (call, call.func):
        node.lineno, node.end_lineno = place.line, place.end_line
        node.col_offset, node.end_col_offset = place.column, place.end_column
    code = compile(ast.Expression(call), place.filename, "eval")
    names: dict[str, Any] = {"co_name": place.function}
    if sys.version_info >= (3, 11):
        names["co_qualname"] = place.function
    made: tuple[FrameType, int] = eval(code.replace(**names), {"here": _caller})
    return made


def _caller() -> tuple[FrameType, int]:
    frame = sys._getframe(1)
    return frame, frame.f_lasti
